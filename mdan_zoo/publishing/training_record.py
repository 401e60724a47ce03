"""Training records: command and metrics from the `training.json` next to a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mdan_zoo.datasets.registry import OWN_IMAGES

_FILE = "training.json"


@dataclass(frozen=True)
class TrainingRecord:
    """The training command of a checkpoint, and its metrics on held-out images.

    Attributes:
        command: The command that reproduces the training; "" if unknown.
        metrics: As in the manifest; None if no images were held out.
    """

    command: str
    metrics: dict[str, Any] | None


def read_training_record(weights: Path, sha256: str) -> TrainingRecord | None:
    """Return the training record of a checkpoint, or None.

    Args:
        weights: The checkpoint; the record is in the same folder.
        sha256: SHA-256 of the checkpoint. A record of other weights, from an earlier training in
            that folder, is ignored.
    """
    try:
        report = json.loads((weights.parent / _FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(report, dict) or report.get("weights_sha256") != sha256:
        return None
    return TrainingRecord(str(report.get("command") or ""), _metrics(report))


def _metrics(report: Mapping[str, Any]) -> dict[str, Any] | None:
    split = f"{report['split']}, SHA-256 {report['split_sha256'][:16]}..."
    row: dict[str, Any] = {"branch": "overall"}
    if "cross_validation" in report:
        protocol = (
            f"Mean and standard deviation over the folds of {report['images']} images "
            f"({split}), one network per fold."
        )
        for level, values in report["cross_validation"]["accuracy"].items():
            row[f"{level}_accuracy"] = values["mean"]
            row[f"{level}_accuracy_sd_folds"] = values["sd"]
    elif "test" in report:
        count = report["test"].get("images", "the")  # earlier records have no count
        known = _known_to_the_start(report["test"].get("trained_on"))
        protocol = f"{count} held-out images ({split}), one training run{known}."
        for level, value in report["test"]["accuracy"].items():
            row[f"{level}_accuracy"] = value
    else:
        return None
    dataset = "" if report["dataset"] in OWN_IMAGES else report["dataset"]
    return {"protocol": protocol, "dataset": dataset, "rows": [row]}


def _known_to_the_start(count: int | None) -> str:
    """Return a warning if the initial weights were, or may have been, trained on test images."""
    if count is None:
        return "; whether the initial weights were trained on them is not known"
    if count:
        return f"; the initial weights were trained on {count} of them"
    return ""
