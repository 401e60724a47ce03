"""Training state: written atomically and loaded without unpickling code."""

from __future__ import annotations

import dataclasses
import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mdan_zoo._util.files import write_atomically
from mdan_zoo.errors import CheckpointError, TrainingError
from mdan_zoo.images.input_spec import InputSpec
from mdan_zoo.training.recipe import Recipe, complete_fields, current_fields

STATE_FILE = "training_state.pt"
LOG_FILE = "log.csv"

_CHANGEABLE = ("lr", "backbone_lr", "max_grad_norm")
"""Recipe fields that may change on resume, to recover from divergence."""

_OF_THE_FILE = ("temperature", "save_dtype")
"""Recipe fields that affect only the saved model, so that a complete run can be saved again."""


def has_state(folder: Path) -> bool:
    """Return whether an output folder has the state of a run or of one of its folds."""
    return any(folder.glob(STATE_FILE)) or any(folder.glob(f"fold_*/{STATE_FILE}"))


def hash_of_start(backbone: Mapping[str, Any], spec: InputSpec) -> str:
    """Return a hash of the initial backbone weights and the input spec, as of cached maps."""
    about = repr(spec).replace(", resize_mode='crop'", "")  # states of version 0.1 lack the field
    digest = hashlib.sha256(about.encode())
    for name, value in backbone.items():
        digest.update(name.encode())
        digest.update(value.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _identity(recipe: Recipe, others: Mapping[str, Any]) -> dict[str, Any]:
    """Return what must not change on resume: most fields of the recipe, and other values."""
    fields = {**dataclasses.asdict(recipe), **dict.fromkeys((*_CHANGEABLE, *_OF_THE_FILE))}
    fields["backbone_lr"] = bool(recipe.backbone_lr)  # 0 freezes the backbone
    return {"recipe": fields, **others}


def save_state(
    folder: Path, recipe: Recipe, identity: Mapping[str, Any], state: Mapping[str, Any]
) -> None:
    """Write a state of tensors and plain values, and its "history" as a log.

    `identity` has the values besides the recipe that must be equal on resume. If the state cannot
    be written, the previous one is kept and `TrainingError` is raised.
    """
    content = io.BytesIO()
    rates = {name: getattr(recipe, name) for name in _CHANGEABLE}
    torch.save({"identity": _identity(recipe, identity), "rates": rates, **state}, content)
    try:
        write_atomically(folder / STATE_FILE, content.getvalue())
    except OSError as error:
        raise TrainingError(
            f"the training state cannot be written to {folder}: {error.strerror}. The previous "
            "state is kept; free some space and repeat the command"
        ) from error
    rows = state["history"]
    lines = [",".join(row) for row in rows[:1]]
    lines += [",".join(f"{value:.6g}" for value in row.values()) for row in rows]
    write_atomically(folder / LOG_FILE, "".join(f"{line}\n" for line in lines).encode())


def load_state(folder: Path, recipe: Recipe, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the state in a folder, or None if the folder has none.

    Its "change" has the recipe fields that differ, with their values "from" and "to"; {} if none.
    `CheckpointError` is raised if the file is damaged or belongs to another training run.
    """
    path = folder / STATE_FILE
    if not path.exists():
        return None
    try:
        # weights_only: tensors and plain values, no code
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        found = state.pop("identity")
        found["recipe"] = complete_fields(found["recipe"]) | dict.fromkeys(_OF_THE_FILE)
        before = current_fields(state.pop("rates"))
        now = {name: getattr(recipe, name) for name in before}
    except MemoryError:
        raise
    except Exception as error:  # whatever damage makes torch raise
        raise CheckpointError(f"cannot resume from {path}, it is damaged: {error}") from error
    expected = _identity(recipe, identity)
    names = [*expected, *found]
    differing = [name for name in names if found.get(name) != expected.get(name)]
    if differing:
        raise CheckpointError(
            f"cannot resume from {path}: it was created with another {differing[0]}; choose "
            "another output folder, or remove the file to start over"
        )
    changed = [name for name in before if before[name] != now[name]]
    ends = {"from": before, "to": now}
    state["change"] = {end: {n: v[n] for n in changed} for end, v in ends.items() if changed}
    return state
