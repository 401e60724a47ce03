"""What `training.json`, which `mdan-zoo train` writes beside its weights, says for publishing."""

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
    """How weights were made, and how good they were on images kept aside.

    Attributes:
        command: The command that trains so; "" if there is none.
        metrics: As in the manifest; None if nothing was kept aside.
    """

    command: str
    metrics: dict[str, Any] | None


def read_training_record(weights: Path, sha256: str) -> TrainingRecord | None:
    """Return what is recorded of a weight file.

    Args:
        weights: The file; the record is beside it.
        sha256: Of the file. A record of other weights, which may have been there before, counts as
            none.
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
            f"({split}), a network for each."
        )
        for level, values in report["cross_validation"]["accuracy"].items():
            row[f"{level}_accuracy"] = values["mean"]
            row[f"{level}_accuracy_sd_folds"] = values["sd"]
    elif "test" in report:
        count = report["test"].get("images", "the")  # earlier records do not count them
        known = _known_to_the_start(report["test"].get("trained_on"))
        protocol = f"{count} images that were kept aside ({split}), one training{known}."
        for level, value in report["test"]["accuracy"].items():
            row[f"{level}_accuracy"] = value
    else:
        return None
    dataset = "" if report["dataset"] in OWN_IMAGES else report["dataset"]
    return {"protocol": protocol, "dataset": dataset, "rows": [row]}


def _known_to_the_start(count: int | None) -> str:
    """Return what to say where a test's images were not new to what a training started from."""
    if count is None:
        return "; whether the weights that it started from had learned them is not known"
    if count:
        return f"; {count} of them had been learned by the weights that it started from"
    return ""
