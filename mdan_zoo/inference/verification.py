"""Verification of checkpoints: strict loading, and the golden output for a known image.

What is learned of the file that way is the part of a manifest entry that needs no other source.
"""

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

LIBRARIES = ("torch", "torchvision", "timm", "safetensors", "pillow")


@dataclass(frozen=True)
class WeightFile:
    """A checkpoint that was loaded and ran on a known image.

    Attributes:
        path: Where it is.
        config: The config that it carries.
        hierarchy: The hierarchy that it carries.
        size: In bytes.
        sha256: Its SHA-256, in hexadecimal.
        parameters: Number of trainable values.
        golden: The network's scores for `golden_image`, {level: {class: score}}.
    """

    path: Path
    config: ModelConfig
    hierarchy: Hierarchy
    size: int
    sha256: str
    parameters: int
    golden: Mapping[str, Mapping[str, float]]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields of a manifest entry that follow from the file, as JSON types."""
        config = json.loads(json.dumps(self.config.to_dict()))  # lists instead of tuples
        versions = {library: metadata.version(library) for library in LIBRARIES}
        return {
            "parameters": self.parameters,
            "size": self.size,
            "sha256": self.sha256,
            "config": config,
            "input": config["input"],
            "hierarchy": self.hierarchy.to_dict(),
            "libraries": versions | {"python": platform.python_version()},
            "golden": {
                "input": f"{__name__}.{golden_image.__name__}()",
                "output": self.golden,
            },
        }


def read_weight_file(source: CheckpointSource) -> WeightFile:
    """Load a checkpoint strictly into the network that it describes, and run `golden_image`.

    Raises:
        CheckpointError: The file is missing, damaged, not safetensors, or does not fit the network
            that it describes.
        UnknownNameError: It describes a network that cannot be built.
    """
    checkpoint = open_checkpoint(source)
    predictor = Predictor(checkpoint=checkpoint, device="cpu")
    prediction = predictor.predict(golden_image())
    return WeightFile(
        path=checkpoint.path,
        config=predictor.config,
        hierarchy=predictor.hierarchy,
        size=checkpoint.size,
        sha256=checkpoint.sha256,
        parameters=sum(parameter.numel() for parameter in predictor.network.parameters()),
        golden={
            level.name: {label: round(score, 6) for label, score in level.scores.items()}
            for level in prediction.levels
        },
    )


def golden_image() -> Image.Image:
    """Return the 500 x 400 image of the golden outputs: three ramps of colour, no file needed."""
    image = Image.new("RGB", (500, 400))
    image.putdata(
        [
            (255 * x // 499, 255 * y // 399, 255 * (x + y) // 898)
            for y in range(400)
            for x in range(500)
        ]
    )
    return image
