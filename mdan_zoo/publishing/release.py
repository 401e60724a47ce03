"""Releases of this repository: copy trained weights into the package and write the manifest.

`mdan-zoo release` calls it, in a checkout.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import mdan_zoo
from mdan_zoo._util.files import write_atomically
from mdan_zoo.errors import InputError
from mdan_zoo.inference.verification import (
    golden_image as golden_image,  # manifests name it as ours
)
from mdan_zoo.inference.verification import read_weight_file
from mdan_zoo.models.config import ModelConfig
from mdan_zoo.training.recipe import load_recipe
from mdan_zoo.training.report import read_report
from mdan_zoo.training.run import WEIGHTS_FILE
from mdan_zoo.weights.checkpoint import read_identity
from mdan_zoo.weights.manifest import SCHEMA_VERSION
from mdan_zoo.zoo.configs import MODELS
from mdan_zoo.zoo.factory import build_network

PACKAGE = Path(mdan_zoo.__file__).parent
CODE_LICENCE = WEIGHTS_LICENCE = "Apache-2.0"
DATA_TERMS = {
    "OASIS": (
        "Photographs from Pixabay, Wikimedia, Flickr and free-image sites, each under its own "
        "terms; the authors of OASIS offer the images and ratings for research use online and "
        "offline. The package contains no images."
    ),
}
UNRELEASED_TERMS = "The terms of the dataset, which must be obtained from its authors."


def released_entry(run: Path, metrics: Path) -> tuple[str, dict[str, Any]]:
    """Return name and manifest entry of a run of `mdan-zoo train`."""
    weights = read_weight_file(run / WEIGHTS_FILE)
    config = weights.config
    command = f"mdan-zoo train {config.name} --data FOLDER --backbone-weights FILE --output DIR"
    file = f"{config.name}.safetensors"
    return config.name, {
        "status": "released",
        "licences": {
            "code": CODE_LICENCE,
            "weights": WEIGHTS_LICENCE,
            "data": DATA_TERMS[config.dataset],
        },
        "command": command,
        "file": file,
        "sources": [{"type": "package", "path": f"weights/{file}"}],
        "training": read_report(run),
        "metrics": read_metrics(metrics, config.name),
        **weights.to_dict(),
    }


def unreleased_entry(config: ModelConfig) -> dict[str, Any]:
    """Return the manifest entry of a model that nobody has trained yet."""
    init = load_recipe(config.name).init  # the three small sets start from FI
    start = " --init FI_RUN/model.safetensors" if init else ""
    return {
        "status": "unreleased",
        "reason": (
            f"it has not been trained yet; {config.dataset} must be obtained from its authors"
        ),
        "command": f"mdan-zoo train {config.name} --data FOLDER --output DIR{start}",
        "parameters": count_parameters(config),
        "licences": {"code": CODE_LICENCE, "weights": "none", "data": UNRELEASED_TERMS},
    }


def count_parameters(config: ModelConfig) -> int:
    """Return the number of trainable values, without taking memory for them."""
    with torch.device("meta"):
        network = build_network(config)
    return sum(parameter.numel() for parameter in network.parameters())


def read_metrics(path: Path, model: str) -> dict[str, Any]:
    """Return the rows of the cross-validation's summary: the model's branches and the controls."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    numbers = [
        {
            key: value if key in ("model", "branch") else float(value) if value else None
            for key, value in row.items()
        }
        for row in rows
    ]
    if not any(row["model"] == model for row in numbers):
        raise InputError(f"{path} has no row of {model}")
    return {
        "protocol": (
            "5-fold cross-validation by theme, pooled folds; mean over seeds, standard deviation "
            "over seeds and folds"
        ),
        "source": f"benchmarks/results/{path.name}",
        "rows": numbers,
    }


def write_release(runs: Sequence[Path], metrics: Path) -> None:
    """Copy the weights of runs into the package, and write `weights_manifest.json` from scratch.

    Args:
        runs: Output folders of `mdan-zoo train`. Each gets an entry with its hash, metrics and
            golden output; every other model gets one with the command that trains it.
        metrics: Summary of the cross-validation, a CSV file.

    Raises:
        InputError: `metrics` has no row of one of the models.
        CheckpointError: A checkpoint is missing or damaged.
    """
    entries = {name: unreleased_entry(config) for name, config in MODELS.items()}
    entries.update(released_entry(run, metrics) for run in runs)
    manifest = {"schema_version": SCHEMA_VERSION, "models": entries}
    for run in runs:  # only after every entry was created
        name = read_identity(run / WEIGHTS_FILE)[0].name
        target = PACKAGE / "weights" / f"{name}.safetensors"
        write_atomically(target, (run / WEIGHTS_FILE).read_bytes())
    text = json.dumps(manifest, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomically(PACKAGE.parent / "weights_manifest.json", text.encode())
