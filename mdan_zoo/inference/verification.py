"""Checkpoint verification: load a checkpoint strictly, run it, and describe it for the manifest."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from PIL import Image

from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.inference.predictor import Predictor
from mdan_zoo.models.config import ModelConfig
from mdan_zoo.weights.checkpoint import CheckpointSource, open_checkpoint

_LIBRARIES = ("torch", "torchvision", "timm", "safetensors", "pillow")


@dataclass(frozen=True)
class WeightFile:
    """A verified checkpoint, with the config and the hierarchy that it contains."""

    path: Path
    config: ModelConfig
    hierarchy: Hierarchy
    size: int  # in bytes
    sha256: str
    parameters: int
    golden: Mapping[str, Mapping[str, float]]
    """For `golden_image`: {level: {class: score}}, and {"dimensions": {name: rating}} if any."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields of a manifest entry that the checkpoint determines, as JSON types."""
        config = json.loads(json.dumps(self.config.to_dict()))  # lists instead of tuples
        versions = {library: metadata.version(library) for library in _LIBRARIES}
        return {
            "parameters": self.parameters,
            "size": self.size,
            "sha256": self.sha256,
            "config": config,
            "input": config["input"],
            "hierarchy": self.hierarchy.to_dict(),
            "libraries": versions | {"python": platform.python_version()},
            "golden": {"input": f"{__name__}.golden_image()", "output": self.golden},
        }


def read_weight_file(source: CheckpointSource) -> WeightFile:
    """Load a checkpoint strictly into the network that it describes, and run `golden_image`."""
    checkpoint = open_checkpoint(source)
    predictor = Predictor(checkpoint=checkpoint, device="cpu")
    prediction = predictor.predict(golden_image())
    golden = {level.name: level.scores for level in prediction.levels}
    if ratings := {rating.name: rating.value for rating in prediction.dimensions}:
        # A level of the user's own hierarchy may have this name, too.
        golden["dimensions"] = {**golden.get("dimensions", {}), **ratings}
    return WeightFile(
        path=checkpoint.path,
        config=predictor.config,
        hierarchy=predictor.hierarchy,
        size=checkpoint.size,
        sha256=checkpoint.sha256,
        parameters=sum(parameter.numel() for parameter in predictor.network.parameters()),
        golden={
            name: {label: round(score, 6) for label, score in scores.items()}
            for name, scores in golden.items()
        },
    )


def golden_image() -> Image.Image:
    """Return the 500 x 400 image of the golden outputs, three colour ramps."""
    image = Image.new("RGB", (500, 400))
    places = [(x, y) for y in range(400) for x in range(500)]
    image.putdata([(255 * x // 499, 255 * y // 399, 255 * (x + y) // 898) for x, y in places])
    return image
