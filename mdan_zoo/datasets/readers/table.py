"""Custom dataset: a table in CSV or Parquet with image paths and emotions."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

from mdan_zoo.datasets.files import (
    LOGGER,
    SPLIT_FOLDERS,
    layout_error,
    read_cells,
    read_number,
    refuse_missing,
    shown,
)
from mdan_zoo.datasets.labels import Labels
from mdan_zoo.datasets.sample import Sample
from mdan_zoo.errors import DatasetError
from mdan_zoo.hierarchy.tree import Hierarchy

_LAYOUT = (
    "one table, .csv or .parquet, with the column 'image' and either 'label', a column for each "
    "level, or a column for each leaf; 'group' and 'split' are optional"
)


def read_table(folder: Path, hierarchy: Hierarchy) -> list[Sample]:
    """Read a table, given as a file or the only one in a folder; column names ignore case.

    The column `image` contains paths, relative to the table. The emotions are in

    * a column `label` with a class of the hierarchy, a leaf or one of a coarser level, or
    * a column for each level with the name of the level; the coarser ones are optional, and the
      finest one may be empty in rows that are labelled at a coarser level only, or
    * a column for each leaf, with the number or share of the raters who chose it.

    The columns `group` and `split` ("train", "val" or "test") are optional. Any other column of
    numbers without gaps, such as `valence`, is a rating. If all rows are
    labelled at one level, every class of that level must have images. Classes are found by their
    names or aliases in the hierarchy.
    """
    path, header, rows = _read(folder)
    labels = Labels(hierarchy)
    levels = _level_columns(header, labels)
    columns = [name.casefold() for name in header]
    finest = any(level == hierarchy.depth - 1 for level, _ in levels)
    leaves = [] if finest or "image" not in columns else _leaf_columns(header, labels, path)
    if leaves:
        levels = []
    if not (levels or leaves) or "image" not in columns:
        raise DatasetError(f"{path} has the columns {', '.join(header)}; expected {_LAYOUT}")
    used = {"image", "group", "split", *(column for _, column in levels)}
    used |= {columns[position] for position in leaves}
    ratings = [
        name
        for position, name in enumerate(columns)
        if name not in used and _are_numbers([cells[position] for cells in rows])
    ]
    ignored = [name for name in header if name.casefold() not in {*used, *ratings}]
    if ignored:
        LOGGER.warning(f"columns of {path} that are not read: {shown(ignored, 10)}")
    samples = []
    for number, cells in enumerate(rows, start=1):
        row, place = dict(zip(columns, cells, strict=True)), f"{path}, row {number}"
        split = row.get("split", "").lower()
        if split and split not in SPLIT_FOLDERS:
            raise DatasetError(f"{place}: the split must be train, val or test, not {split!r}")
        split = SPLIT_FOLDERS.get(split, "")
        image, group = path.parent / row["image"], row.get("group") or row["image"]
        if ".." in Path(row["image"]).parts or not image.is_relative_to(path.parent):
            raise DatasetError(
                f"{place}: the image {row['image']!r} is not below {path.parent}; put the table "
                "into a folder that contains all images"
            )
        if levels:
            found = _read_class([(level, row[name]) for level, name in levels], labels, place)
            sample = labels.coarse(image, found, group, split)
        else:
            shares = [read_number(cells[position], f"{place}: a share", 0) for position in leaves]
            if not any(shares):
                raise DatasetError(f"{place}: all shares are 0")
            sample = labels.soft(image, shares, group, split=split)
        values = tuple((name, float(row[name])) for name in ratings)
        samples.append(dataclasses.replace(sample, ratings=values))
    refuse_missing([sample.image for sample in samples], path)
    return labels.checked(samples, path, every_class=True)


def table_class_names(folder: Path, hierarchy: Hierarchy) -> set[str]:
    """Return the column names, and the cells of the columns named `label` or after a level."""
    _, header, rows = _read(folder)
    levels = {"label", *(name.casefold() for name in hierarchy.level_names)}
    labels = [k for k, name in enumerate(header) if name.casefold() in levels]
    return {*header, *(row[k] for row in rows for k in labels)}


def _read(folder: Path) -> tuple[Path, list[str], list[list[str]]]:
    """Return the path, the header and the rows of the table."""
    path = folder
    if not folder.is_file():
        inside = sorted(folder.iterdir()) if folder.is_dir() else []
        tables = [file for file in inside if file.suffix.lower() in (".csv", ".parquet")]
        if len(tables) != 1:
            raise layout_error(folder, "a dataset with a table", _LAYOUT)
        path = tables[0]
    read = _read_parquet if path.suffix.lower() == ".parquet" else read_cells
    return path, *read(path)


def _read_parquet(path: Path) -> tuple[list[str], list[list[str]]]:
    """Read a table in Parquet as `read_cells` reads one in CSV; missing values are ""."""
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise DatasetError(
            f"{path} needs pyarrow to be read: pip install pyarrow, or save the table as .csv"
        ) from error
    try:
        columns = parquet.read_table(path).to_pydict()
    except (ArrowException, OSError) as error:
        raise DatasetError(f"{path}: {error}") from error
    rows = zip(*columns.values(), strict=True)
    return list(columns), [
        ["" if value is None else str(value).strip() for value in row] for row in rows
    ]


def _level_columns(header: Sequence[str], labels: Labels) -> list[tuple[int, str]]:
    """Return (level, column) of the class names, the finest last; `label` counts as the finest."""
    columns = {name.casefold() for name in header}
    levels = list(enumerate(name.casefold() for name in labels.hierarchy.level_names))
    levels.append((len(levels) - 1, "label"))
    return [(level, name) for level, name in levels if name in columns]


def _leaf_columns(header: Sequence[str], labels: Labels, path: Path) -> list[int]:
    """Return the position of the column of every leaf; empty if no leaf has one."""
    found: dict[int, int] = {}
    for position, name in enumerate(header):
        if labels.has(name):
            first = found.setdefault(labels.leaf(name, path), position)
            if first != position:
                raise DatasetError(f"{path} has two columns for a leaf, {header[first]} and {name}")
    leaves = labels.hierarchy.leaves
    absent = [name for k, name in enumerate(leaves) if k not in found]
    if found and absent:
        raise DatasetError(f"{path} has columns for some leaves but none for {shown(absent, 25)}")
    return [found[k] for k in range(len(leaves))] if found else []


def _are_numbers(cells: Sequence[str]) -> bool:
    try:
        return all(math.isfinite(float(cell)) for cell in cells)
    except ValueError:
        return False


def _read_class(names: Sequence[tuple[int, str]], labels: Labels, place: str) -> tuple[int, ...]:
    """Return the path of the class of a row with the class names of some levels, finest last."""
    hierarchy = labels.hierarchy
    given = [(level, name) for level, name in names if name] or list(names)
    finest, own = given[-1]
    path = labels.path(own)
    if path is None:
        path = hierarchy.leaf_paths[labels.leaf(own, place)]  # raises an error
    if len(path) > finest + 1:  # a finer class, which may have the same name
        coarser = path[: finest + 1]
        if hierarchy.class_name(coarser).casefold() != hierarchy.class_name(path).casefold():
            raise DatasetError(
                f"{place}: {own!r} is not a class of the level {hierarchy.level_names[finest]}"
            )
        path = coarser
    for level, name in given[:-1]:
        right = hierarchy.class_name(path[: level + 1])
        if dict(hierarchy.aliases).get(name, name).casefold() != right.casefold():
            raise DatasetError(
                f"{place}: {hierarchy.class_name(path)!r} belongs to "
                f"{hierarchy.level_names[level]} {right!r}, not to {name!r}"
            )
    return path
