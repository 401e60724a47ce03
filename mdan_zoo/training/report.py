"""`training.json`: what was trained, how, and how good it is."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import statistics
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mdan_zoo._files import write_atomically
from mdan_zoo.training.recipe import Recipe

if TYPE_CHECKING:
    from mdan_zoo.training.loop import Trainer

REPORT_FILE = "training.json"
_LIBRARIES = ("accelerate", "safetensors", "timm", "torch", "torchvision")


def describe_run(trainer: Trainer, weights: Path, recipe: Recipe) -> dict[str, Any]:
    """Return what the report says of a training that has written its weights."""
    return {
        "weights_sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "recipe": dataclasses.asdict(recipe),
        "history": trainer.history,
        "changes": trainer.changes,
        "machine": {
            "device": str(trainer.accelerator.device),
            "processes": trainer.accelerator.num_processes,
            "precision": trainer.machine.precision,
            "accumulate": trainer.machine.accumulate,
        },
        "libraries": {library: metadata.version(library) for library in _LIBRARIES},
    }


def add_cross_validation(folder: Path, folds: Sequence[Path]) -> None:
    """Add the folds' accuracies, with their mean and standard deviation, to a folder's report."""
    tests = [read_report(fold)["test"]["accuracy"] for fold in folds]
    summary = {}
    for level in tests[0]:
        values = [test[level] for test in tests]
        summary[level] = {
            "folds": values,
            "mean": statistics.mean(values),
            "sd": statistics.stdev(values),
        }
    write_report(folder, {**read_report(folder), "cross_validation": {"accuracy": summary}})


def read_report(folder: Path) -> dict[str, Any]:
    """Return the report in an output folder."""
    report: dict[str, Any] = json.loads((folder / REPORT_FILE).read_text(encoding="utf-8"))
    return report


def write_report(folder: Path, report: dict[str, Any]) -> None:
    """Write the report of an output folder."""
    write_atomically(folder / REPORT_FILE, (json.dumps(report, indent=2) + "\n").encode())
