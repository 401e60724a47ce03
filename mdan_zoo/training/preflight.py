"""What is looked at before a training begins, so that it is not told hours later."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from mdan_zoo.datasets.check import inspect_all
from mdan_zoo.datasets.sample import Sample
from mdan_zoo.errors import ImageError, InputError
from mdan_zoo.training.distributed import in_main_process
from mdan_zoo.training.state import STATE_FILE

_NAMED = 5


def check_output(folder: Path, data: Path) -> None:
    """Refuse an output folder that cannot be used; it is made when the data have been read.

    Args:
        folder: The output folder.
        data: The data set's folder, or its table.

    Raises:
        InputError: It cannot be written, or would be taken for a part of the data the next time.
    """
    path = folder.resolve()
    if data.is_dir() and path.is_relative_to(data.resolve()):
        raise InputError(
            f"the output must be outside the data, not {folder} in {data}: the next training would "
            "take it for a class of images"
        )
    existing = next(place for place in (path, *path.parents) if place.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise InputError(
            f"the output must be a folder that can be written, not {folder}: {existing} is "
            + ("not writable" if existing.is_dir() else "a file")
        )


def has_state(folder: Path) -> bool:
    """Tell whether a training, or one of its folds, has begun in an output folder."""
    return any(folder.glob(STATE_FILE)) or any(folder.glob(f"fold_*/{STATE_FILE}"))


def check_images(samples: Sequence[Sample]) -> None:
    """Decode every image in the main process, while the others wait.

    Raises:
        ImageError: Some cannot be read; raised in all processes.
    """

    def problems() -> list[str]:
        found = inspect_all([sample.image for sample in samples])
        return [inspection.problem for inspection in found if inspection.problem]

    raise_unreadable(in_main_process(problems), len(samples))


def raise_unreadable(problems: Sequence[str], images: int) -> None:
    """Raise one error for all images that cannot be read, if there are any.

    Args:
        problems: What is wrong with each; names the file.
        images: How many there are in all.

    Raises:
        ImageError: There are problems.
    """
    if problems:
        more = len(problems) - _NAMED
        raise ImageError(
            None,
            f"{len(problems)} of {images} images cannot be read: "
            + "; ".join(problems[:_NAMED])
            + (f"; and {more} more, which mdan-zoo dataset lists" if more > 0 else ""),
        )
