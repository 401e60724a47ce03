"""The state of a training on disk: written whole, resumed exactly, never unpickled loosely."""

from __future__ import annotations

import csv
import io
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from mdan_zoo._files import write_atomically
from mdan_zoo.errors import CheckpointError, TrainingError

STATE_FILE = "training_state.pt"
LOG_FILE = "log.csv"


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


def save_log(folder: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Write one line for every epoch to `LOG_FILE`."""
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: f"{value:.6g}" for key, value in row.items()} for row in rows)
    write_atomically(folder / LOG_FILE, text.getvalue().encode())
