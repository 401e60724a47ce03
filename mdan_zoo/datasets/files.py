"""File access shared by the readers: image files, folders of splits and tables."""

from __future__ import annotations

import csv
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mdan_zoo.errors import DatasetError

LOGGER = logging.getLogger("mdan_zoo.datasets")
"""Logger of the readers' warnings, such as skipped files."""

SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""Folder names of official splits."""


def shown(items: Iterable[object], limit: int = 3) -> str:
    """Return the first items, and the number of the others, for a message."""
    texts = [str(item) for item in items]
    more = len(texts) - limit
    return ", ".join(texts[:limit]) + (f" and {more} more" if more > 0 else "")


class LayoutError(DatasetError):
    """A folder does not have the layout of the dataset."""


def layout_error(folder: Path, dataset: str, expected: str) -> LayoutError:
    """Return the error for a folder that does not have the layout of the dataset."""
    if not folder.is_dir():
        return LayoutError(f"the folder {folder} does not exist; {dataset} needs {expected}")
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
    content = f"it contains {shown(names, 10)}" if names else "it is empty"
    return LayoutError(
        f"{folder} does not have the layout of {dataset}: {content}; expected {expected}"
    )


def first_folder(candidates: Sequence[Path]) -> Path:
    """Return the first folder that exists, else the last candidate."""
    return next((path for path in candidates if path.is_dir()), candidates[-1])


def images_below(folder: Path) -> list[Path]:
    """Return the image files in and below a folder, sorted; none if it does not exist."""
    from mdan_zoo.images.load import find_images  # imports Pillow, which `list` must not

    return find_images(folder) if folder.is_dir() else []


def class_folders(folder: Path) -> dict[str, list[Path]]:
    """Return the images, at any depth, of every subfolder that has any, by folder name."""
    inside = sorted(folder.iterdir()) if folder.is_dir() else []
    found = {path.name: images_below(path) for path in inside if path.name[0] != "."}
    return {name: images for name, images in found.items() if images}


def split_folders(folder: Path, names: Mapping[str, str] = SPLIT_FOLDERS) -> list[tuple[str, Path]]:
    """Return (split, folder) for every subfolder that is named after a split."""
    inside = sorted(folder.iterdir()) if folder.is_dir() else []
    named = [(names.get(path.name.lower(), ""), path) for path in inside if path.is_dir()]
    return [(split, path) for split, path in named if split]


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file, which may start with a byte order mark."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DatasetError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path} is not UTF-8: {error}") from error


def read_cells(path: Path, delimiter: str = ",") -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of a table, without surrounding spaces and empty lines."""
    # splitlines accepts all line endings.
    lines = csv.reader(read_text(path).splitlines(), delimiter=delimiter)
    try:
        rows = [(lines.line_num, [cell.strip() for cell in row]) for row in lines]
    except csv.Error as error:
        raise DatasetError(f"{path}: line {lines.line_num}: {error}") from error
    rows = [(number, row) for number, row in rows if any(row)]
    if len(rows) < 2:
        raise DatasetError(f"{path} has no rows")
    header = rows.pop(0)[1]
    for number, row in rows:
        if len(row) != len(header):
            raise DatasetError(
                f"{path}: line {number} has {len(row)} cells, the header has {len(header)}"
            )
    return header, [row for _, row in rows]


def read_number(cell: str, what: str, low: float = -math.inf, high: float = math.inf) -> float:
    """Return the finite number in a cell of a table; `what` begins the error message."""
    try:
        number = float(cell)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or not low <= number <= high:
        limits = f" in {low}..{high}" if high < math.inf else f" of at least {low}"
        raise DatasetError(
            f"{what} must be a number{limits if low > -math.inf else ''}, not {cell!r}"
        )
    return number


def refuse_missing(images: Sequence[Path], source: Path) -> None:
    """Raise a `DatasetError` if some of the images that a file lists do not exist."""
    missing = [image for image in images if not image.is_file()]
    if missing:
        raise DatasetError(
            f"{len(missing)} of the {len(images)} images that {source} lists are missing: "
            + shown(missing)
        )
