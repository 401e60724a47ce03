"""Columns of a custom dataset's table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mdan_zoo.datasets.files import LOGGER, shown
from mdan_zoo.datasets.labels import Labels
from mdan_zoo.errors import DatasetError

LAYOUT = (
    "one table, .csv or .parquet, with the column 'image' and either 'label', a column for each "
    "level, or a column for each leaf; 'group' and 'split' are optional"
)


@dataclass(frozen=True)
class Columns:
    """Where things stand in a row.

    Attributes:
        image: Position of the path.
        levels: (level, position) of class names, the finest last; empty if leaves have shares.
        leaves: Position of every leaf's share; empty if there are class names.
        group: Position of the group, or None.
        split: Position of the split, or None.
    """

    image: int
    levels: tuple[tuple[int, int], ...]
    leaves: tuple[int, ...]
    group: int | None
    split: int | None


def find_columns(header: Sequence[str], labels: Labels, path: Path) -> Columns:
    """Find the columns by their names; capitals do not matter.

    Args:
        header: The names.
        labels: The tree, for the names of levels and leaves.
        path: The table, for the messages.

    Raises:
        DatasetError: Columns are missing, or two have the same meaning.
    """
    at = {name.casefold(): position for position, name in enumerate(header)}
    levels, leaves = _find_levels(at, labels), _find_leaves(header, labels, path)
    if "image" not in at or not (levels or leaves):
        raise DatasetError(f"{path} has the columns {', '.join(header)}; expected {LAYOUT}")
    by_leaf = {} if levels else leaves
    absent = [name for k, name in enumerate(labels.hierarchy.leaves) if k not in by_leaf]
    if by_leaf and absent:
        raise DatasetError(f"{path} has columns for some leaves but none for {shown(absent, 25)}")
    positions = [
        *(at[name] for name in ("image", "group", "split") if name in at),
        *(position for _, position in levels),
        *by_leaf.values(),
    ]
    ignored = [name for position, name in enumerate(header) if position not in positions]
    if ignored:
        LOGGER.warning(f"columns of {path} that are not read: {shown(ignored, 10)}")
    return Columns(
        image=at["image"],
        levels=tuple(levels),
        leaves=tuple(by_leaf[k] for k in sorted(by_leaf)),
        group=at.get("group"),
        split=at.get("split"),
    )


def _find_levels(at: dict[str, int], labels: Labels) -> list[tuple[int, int]]:
    """Return (level, position) of the columns with class names, if the finest level has one."""
    names = [name.casefold() for name in labels.hierarchy.level_names]
    found = [(level, at[name]) for level, name in enumerate(names) if name in at]
    if "label" in at:
        found.append((len(names) - 1, at["label"]))
    return found if names[-1] in at or "label" in at else []


def _find_leaves(header: Sequence[str], labels: Labels, path: Path) -> dict[int, int]:
    """Return the position of every leaf that a column is named after."""
    found: dict[int, int] = {}
    for position, name in enumerate(header):
        if labels.has(name):
            first = found.setdefault(labels.leaf(name, path), position)
            if first != position:
                raise DatasetError(f"{path} has two columns for a leaf, {header[first]} and {name}")
    return found
