"""The state of a training on disk: written whole, resumed exactly, never unpickled loosely."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import pickle
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
"""What a training may go on with other values of: what helps where it exploded."""


def fixed_fields(recipe: Recipe) -> dict[str, Any]:
    """Return what of a recipe must stay as it is for a training to go on."""
    fields = {**dataclasses.asdict(recipe), **dict.fromkeys(_CHANGEABLE)}
    return {**fields, "backbone_lr": bool(recipe.backbone_lr)}  # 0 freezes the backbone


def hash_of_start(backbone: nn.Module, spec: InputSpec) -> str:
    """Return a hash of what a training starts from: the backbone's values and its input.

    The maps of frozen stages are not in the state but computed anew.
    """
    digest = hashlib.sha256(repr(spec).encode())
    for name, value in backbone.state_dict().items():
        digest.update(name.encode())
        digest.update(value.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def changeable_fields(recipe: Recipe) -> dict[str, float]:
    """Return the rest of a recipe, which may change when a training goes on."""
    return {name: getattr(recipe, name) for name in _CHANGEABLE}


def changes_since(before: Mapping[str, float], recipe: Recipe) -> dict[str, dict[str, float]]:
    """Return the changeable fields whose values differ, "from" what and "to" what; {} if none."""
    now = changeable_fields(recipe)
    changed = [name for name in now if now[name] != before[name]]
    if not changed:
        return {}
    return {
        "from": {name: before[name] for name in changed},
        "to": {name: now[name] for name in changed},
    }


def save_state(folder: Path, identity: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Write a state; what was there is lost only when the new one is safe on the disk.

    Args:
        folder: Where `STATE_FILE` is written.
        identity: What a training must agree with to go on from here.
        state: Tensors and plain values.

    Raises:
        TrainingError: It cannot be written, on a full disk for instance.
    """
    content = io.BytesIO()
    torch.save({"identity": dict(identity), **state}, content)
    try:
        write_atomically(folder / STATE_FILE, content.getvalue())
    except OSError as error:
        raise TrainingError(
            f"the state of the training cannot be written to {folder}: {error.strerror}. The one "
            "before is still there; make room and start the same command again"
        ) from error


def load_state(folder: Path, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the state in a folder, or None where there is none.

    Raises:
        CheckpointError: The file is damaged, or of another training.
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
        differing = [name for name, value in identity.items() if found.get(name) != value]
    except (OSError, EOFError, RuntimeError, LookupError, TypeError, ValueError) as error:
        raise CheckpointError(f"cannot resume from {path}, it is damaged: {error}") from error
    except (AttributeError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"cannot resume from {path}, it is damaged: {error}") from error
    if differing:
        raise CheckpointError(
            f"cannot resume from {path}: it was made with another {differing[0]}; give another "
            "output folder, or remove the file to start anew"
        )
    return state


def epoch_line(row: Mapping[str, float], epochs: int) -> str:
    """Return what is told of an epoch, given its row of the log."""
    told = f"epoch {row['epoch']:.0f} of {epochs}: loss {row['loss']:.4f}, "
    return told + f"{row['images_per_second']:.1f} images/s"


def save_log(folder: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Write one line for every epoch to `LOG_FILE`."""
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: f"{value:.6g}" for key, value in row.items()} for row in rows)
    write_atomically(folder / LOG_FILE, text.getvalue().encode())
