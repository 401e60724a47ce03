"""Pre-flight checks: fail before training starts, not hours into it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from mdan_zoo.datasets.file_index import FileIndex
from mdan_zoo.datasets.sample import Sample
from mdan_zoo.errors import ImageError, InputError
from mdan_zoo.training.distributed import in_main_process
from mdan_zoo.training.state import STATE_FILE

_SHOWN = 5


def check_output(folder: Path, data: Path) -> None:
    """Check an output folder, which need not exist, for a dataset's folder or table.

    Raises:
        InputError: The folder is not writable, or is inside the data.
    """
    path = folder.resolve()
    if data.is_dir() and path.is_relative_to(data.resolve()):
        raise InputError(
            f"the output must be outside the data, not {folder} in {data}: later runs would read "
            "it as a class"
        )
    existing = next(place for place in (path, *path.parents) if place.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise InputError(
            f"the output must be a folder that is writable, not {folder}: {existing} is "
            + ("not writable" if existing.is_dir() else "a file")
        )


def has_state(folder: Path) -> bool:
    """Return whether an output folder has the state of a run or of one of its folds."""
    return any(folder.glob(STATE_FILE)) or any(folder.glob(f"fold_*/{STATE_FILE}"))


def check_images(samples: Sequence[Sample], files: FileIndex) -> None:
    """Check in the main process that every image can be decoded; the others wait.

    Raises:
        ImageError: Images cannot be read; raised in all processes.
    """

    def problems() -> list[str]:
        found = files.read([sample.image for sample in samples])
        return [file.problem for file in found if file.problem]

    raise_unreadable(in_main_process(problems), len(samples))


def raise_unreadable(problems: Sequence[str], images: int) -> None:
    """Raise one `ImageError` for all of the `images` that cannot be read, if any.

    Each problem starts with the path of the image.
    """
    if problems:
        more = len(problems) - _SHOWN
        raise ImageError(
            None,
            f"{len(problems)} of {images} images cannot be read: "
            + "; ".join(problems[:_SHOWN])
            + (f"; and {more} more, which mdan-zoo dataset lists" if more > 0 else ""),
        )
