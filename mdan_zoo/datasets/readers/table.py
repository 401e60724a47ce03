"""Custom dataset: a table in CSV or Parquet with image paths and emotions."""

from __future__ import annotations

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

    * a column `label` with a leaf of the hierarchy, or
    * a column for each level with the name of the level; the coarser ones are optional, or
    * a column for each leaf, with the number or share of the raters who chose it.

    The columns `group` and `split` ("train", "val" or "test") are optional. Every leaf must have
    images. Classes are found by their names or aliases in the hierarchy.
    """
    path = folder
    if not folder.is_file():
        inside = sorted(folder.iterdir()) if folder.is_dir() else []
        tables = [file for file in inside if file.suffix.lower() in (".csv", ".parquet")]
        if len(tables) != 1:
            raise layout_error(folder, "a dataset with a table", _LAYOUT)
        path = tables[0]
    header, rows = (_read_parquet if path.suffix.lower() == ".parquet" else read_cells)(path)
    labels = Labels(hierarchy)
    levels = _level_columns(header, labels)
    columns = [name.casefold() for name in header]
    leaves = [] if levels or "image" not in columns else _leaf_columns(header, labels, path)
    if not (levels or leaves) or "image" not in columns:
        raise DatasetError(f"{path} has the columns {', '.join(header)}; expected {_LAYOUT}")
    used = {"image", "group", "split", *(column for _, column in levels)}
    used |= {columns[position] for position in leaves}
    ignored = [name for name in header if name.casefold() not in used]
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
            leaf = _read_leaf([(level, row[name]) for level, name in levels], labels, place)
            samples.append(labels.hard(image, leaf, group, split))
        else:
            shares = [read_number(cells[position], f"{place}: a share", 0) for position in leaves]
            if not any(shares):
                raise DatasetError(f"{place}: all shares are 0")
            samples.append(labels.soft(image, shares, group, split=split))
    refuse_missing([sample.image for sample in samples], path)
    return labels.checked(samples, path, every_class=True)


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
    """Return (level, column) of the class names, the finest last; empty if that one is absent."""
    columns = {name.casefold() for name in header}
    levels = list(enumerate(name.casefold() for name in labels.hierarchy.level_names))
    finest = [(levels[-1][0], name) for name in (levels[-1][1], "label") if name in columns]
    return finest and [(level, name) for level, name in levels[:-1] if name in columns] + finest


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


def _read_leaf(names: Sequence[tuple[int, str]], labels: Labels, place: str) -> int:
    """Return the leaf of a row with the class names of some levels, the finest last."""
    hierarchy = labels.hierarchy
    leaf = labels.leaf(names[-1][1], place)
    for level, name in names:
        right = hierarchy.levels[level][hierarchy.leaf_paths[leaf][level]]
        if dict(hierarchy.aliases).get(name, name).casefold() != right.casefold():
            raise DatasetError(
                f"{place}: {hierarchy.leaves[leaf]!r} belongs to {hierarchy.level_names[level]} "
                f"{right!r}, not to {name!r}"
            )
    return leaf
