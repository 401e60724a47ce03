"""Training state: written atomically and loaded without unpickling code."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mdan_zoo._util.files import write_atomically
from mdan_zoo.errors import CheckpointError, TrainingError
from mdan_zoo.images.input_spec import InputSpec
from mdan_zoo.training.recipe import Recipe, current_fields

STATE_FILE = "training_state.pt"
LOG_FILE = "log.csv"

_CHANGEABLE = ("lr", "backbone_lr", "max_grad_norm")
"""Recipe fields that may change on resume, to recover from divergence."""


def has_state(folder: Path) -> bool:
    """Return whether an output folder has the state of a run or of one of its folds."""
    return any(folder.glob(STATE_FILE)) or any(folder.glob(f"fold_*/{STATE_FILE}"))


def fixed_fields(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe fields that must not change on resume."""
    fields = {**dataclasses.asdict(recipe), **dict.fromkeys(_CHANGEABLE)}
    return {**fields, "backbone_lr": bool(recipe.backbone_lr)}  # 0 freezes the backbone


def hash_of_start(backbone: nn.Module, spec: InputSpec) -> str:
    """Return a hash of the initial backbone weights and the input spec, as of cached maps."""
    digest = hashlib.sha256(repr(spec).encode())
    for name, value in backbone.state_dict().items():
        digest.update(name.encode())
        digest.update(value.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def changeable_fields(recipe: Recipe) -> dict[str, float]:
    """Return the recipe fields that may change on resume."""
    return {name: getattr(recipe, name) for name in _CHANGEABLE}


def changes_since(before: Mapping[str, float], recipe: Recipe) -> dict[str, dict[str, float]]:
    """Return the changeable fields that differ, with their values "from" and "to"; {} if none."""
    now = changeable_fields(recipe)
    changed = [name for name in now if now[name] != before[name]]
    ends = {"from": before, "to": now}
    return {end: {n: values[n] for n in changed} for end, values in ends.items() if changed}


def save_state(folder: Path, identity: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Write a state of tensors and plain values; `identity` must be equal on resume.

    Raises:
        TrainingError: The state cannot be written; the previous one is kept.
    """
    content = io.BytesIO()
    torch.save({"identity": dict(identity), **state}, content)
    try:
        write_atomically(folder / STATE_FILE, content.getvalue())
    except OSError as error:
        raise TrainingError(
            f"the training state cannot be written to {folder}: {error.strerror}. The previous "
            "state is kept; free some space and repeat the command"
        ) from error


def load_state(folder: Path, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the state in a folder, or None if the folder has none.

    Raises:
        CheckpointError: The file is damaged, or belongs to another training run.
    """
    path = folder / STATE_FILE
    if not path.exists():
        return None
    try:
        # weights_only: tensors and plain values, no code
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        found = state.pop("identity")
        found["recipe"] = current_fields(found["recipe"])
        state["rates"] = current_fields(state["rates"])
    except Exception as error:  # whatever damage makes torch raise
        raise CheckpointError(f"cannot resume from {path}, it is damaged: {error}") from error
    differing = [name for name, value in identity.items() if found.get(name) != value]
    if differing:
        raise CheckpointError(
            f"cannot resume from {path}: it was created with another {differing[0]}; choose "
            "another output folder, or remove the file to start over"
        )
    return state


def save_log(folder: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Write one row per epoch to `LOG_FILE`."""
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: f"{value:.6g}" for key, value in row.items()} for row in rows)
    write_atomically(folder / LOG_FILE, text.getvalue().encode())
