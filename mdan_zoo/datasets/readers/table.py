"""Custom dataset: a table in CSV or Parquet with image paths and emotions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from mdan_zoo.datasets.files import (
    SPLIT_FOLDERS,
    layout_error,
    read_cells,
    refuse_missing,
)
from mdan_zoo.datasets.labels import Labels
from mdan_zoo.datasets.readers.parquet import read_parquet
from mdan_zoo.datasets.readers.table_columns import LAYOUT, Columns, find_columns
from mdan_zoo.datasets.sample import Sample
from mdan_zoo.errors import DatasetError
from mdan_zoo.hierarchy.tree import Hierarchy


def read_table(folder: Path, hierarchy: Hierarchy) -> list[Sample]:
    """Read a table of images.

    The column `image` holds paths, relative to the table. The emotions are in one of

    * a column `label` with a leaf of the tree;
    * a column for each level, named like the level; the coarser ones may be left out;
    * a column for each leaf, with the number or share of the raters who chose it.

    The columns `group` and `split` ("train", "val" or "test") are optional.

    Args:
        folder: The table, or a folder that holds it and no other.
        hierarchy: The tree; its names and aliases are understood.

    Raises:
        DatasetError: The table cannot be read or lacks a column, an image is missing or there
            twice, a class is not in the tree, or a leaf has no images.
    """
    path = _find(folder)
    header, rows = (read_parquet if path.suffix.lower() == ".parquet" else read_cells)(path)
    labels = Labels(hierarchy)
    columns = find_columns(header, labels, path)
    samples = [
        _read_row(row, columns, labels, path.parent, f"{path}, row {number}")
        for number, row in enumerate(rows, start=1)
    ]
    refuse_missing([sample.image for sample in samples], path)
    return labels.checked(samples, path, every_class=True)


def _find(folder: Path) -> Path:
    if folder.is_file():
        return folder
    inside = sorted(folder.iterdir()) if folder.is_dir() else []
    tables = [path for path in inside if path.suffix.lower() in (".csv", ".parquet")]
    if len(tables) != 1:
        raise layout_error(folder, "a dataset with a table", LAYOUT)
    return tables[0]


def _read_row(
    row: Sequence[str], columns: Columns, labels: Labels, folder: Path, place: str
) -> Sample:
    name = row[columns.image]
    group = "" if columns.group is None else row[columns.group]
    split = "" if columns.split is None else row[columns.split].lower()
    if split and split not in SPLIT_FOLDERS:
        raise DatasetError(f"{place}: the split must be train, val or test, not {split!r}")
    split = SPLIT_FOLDERS.get(split, "")
    if columns.leaves:
        shares = [_read_share(row[position], place) for position in columns.leaves]
        if not any(shares):
            raise DatasetError(f"{place}: all shares are 0")
        return labels.soft(folder / name, shares, group or name, split=split)
    leaf = labels.leaf(row[columns.levels[-1][1]], place)
    for level, position in columns.levels:
        _check_level(row[position], level, leaf, labels.hierarchy, place)
    return labels.hard(folder / name, leaf, group or name, split)


def _check_level(cell: str, level: int, leaf: int, tree: Hierarchy, place: str) -> None:
    """Check that the class that a row gives at a level is the one above its leaf."""
    right = tree.levels[level][tree.leaf_paths[leaf][level]]
    given = dict(tree.aliases).get(cell, cell)
    if given.casefold() != right.casefold():
        raise DatasetError(
            f"{place}: {tree.leaves[leaf]!r} belongs to {tree.level_names[level]} {right!r}, "
            f"not to {cell!r}"
        )


def _read_share(cell: str, place: str) -> float:
    try:
        share = float(cell)
    except ValueError:
        share = math.nan
    if not 0 <= share < math.inf:
        raise DatasetError(f"{place}: a share must be a number from 0, not {cell!r}")
    return share
