"""File access shared by the readers: finding images, reading tables; no image is opened."""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mdan_zoo.errors import DatasetError

LOGGER = logging.getLogger("mdan_zoo.datasets")
"""Readers warn here about what they leave out and what looks odd but can be read."""

SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""Names of folders that hold a split, with the split."""


def shown(items: Iterable[object], limit: int = 3) -> str:
    """Return the first items for a message, and how many more there are."""
    texts = [str(item) for item in items]
    more = len(texts) - limit
    return ", ".join(texts[:limit]) + (f" and {more} more" if more > 0 else "")


def layout_error(folder: Path, dataset: str, expected: str) -> DatasetError:
    """Return the error for a folder that does not look like the data set."""
    if not folder.is_dir():
        return DatasetError(f"there is no folder {folder}; {dataset} needs {expected}")
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
    content = f"it holds {shown(names, 10)}" if names else "it is empty"
    return DatasetError(f"{folder} is not a copy of {dataset}: {content}; needed is {expected}")


def first_folder(candidates: Sequence[Path]) -> Path:
    """Return the first folder that exists, else the last candidate."""
    return next((path for path in candidates if path.is_dir()), candidates[-1])


def images_below(folder: Path) -> list[Path]:
    """Return the image files in a folder and below it, sorted; none where there is no folder."""
    from mdan_zoo.images.load import (
        find_images,  # loads Pillow, which naming the readers must not
    )

    return find_images(folder) if folder.is_dir() else []


def class_folders(folder: Path) -> dict[str, list[Path]]:
    """Return, by name, the folders in `folder` that have images at any depth, and these."""
    inside = sorted(folder.iterdir()) if folder.is_dir() else []
    found = {path.name: images_below(path) for path in inside if path.name[0] != "."}
    return {name: images for name, images in found.items() if images}


def split_folders(folder: Path, names: Mapping[str, str] = SPLIT_FOLDERS) -> list[tuple[str, Path]]:
    """Return (split, its folder) for every folder in `folder` that is named after a split."""
    inside = sorted(folder.iterdir()) if folder.is_dir() else []
    named = [(names.get(path.name.lower(), ""), path) for path in inside if path.is_dir()]
    return [(split, path) for split, path in named if split]


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file, which may start with a byte order mark.

    Raises:
        DatasetError: It cannot be read or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DatasetError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path} is not UTF-8: {error}") from error


def read_cells(path: Path, delimiter: str = ",") -> tuple[list[str], list[list[str]]]:
    """Read a table of text.

    Returns:
        The header and the rows, every cell without the spaces around it; empty lines are left out.

    Raises:
        DatasetError: It cannot be read, has no rows, or a row is longer or shorter than the header.
    """
    # Published tables have all kinds of line ends; splitlines knows them.
    lines = csv.reader(read_text(path).splitlines(), delimiter=delimiter)
    try:
        rows = [(lines.line_num, [cell.strip() for cell in row]) for row in lines]
    except csv.Error as error:
        raise DatasetError(f"{path}: line {lines.line_num}: {error}") from error
    numbered = [(number, row) for number, row in rows if any(row)]
    if len(numbered) < 2:
        raise DatasetError(f"{path} has no rows")
    header = numbered[0][1]
    for number, row in numbered[1:]:
        if len(row) != len(header):
            raise DatasetError(
                f"{path}: line {number} has {len(row)} cells, the header has {len(header)}"
            )
    return header, [row for _, row in numbered[1:]]


def refuse_missing(images: Sequence[Path], source: Path) -> None:
    """Check that the images that a file lists are there.

    Raises:
        DatasetError: Some are missing; says how many and names the first.
    """
    missing = [image for image in images if not image.is_file()]
    if missing:
        raise DatasetError(
            f"{len(missing)} of the {len(images)} images that {source} lists are missing: "
            + shown(missing)
        )
