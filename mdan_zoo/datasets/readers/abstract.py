"""Abstract: 280 abstract paintings with votes for Mikels' eight (Machajdik & Hanbury, 2010)."""

from __future__ import annotations

from pathlib import Path

from mdan_zoo.datasets.files import LOGGER, first_folder, layout_error, read_cells, refuse_missing
from mdan_zoo.datasets.labels import Labels
from mdan_zoo.datasets.sample import Sample
from mdan_zoo.errors import DatasetError
from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.hierarchy.tree import Hierarchy

_TABLE = "ABSTRACT_groundTruth.csv"


def read_abstract(folder: Path, hierarchy: Hierarchy) -> list[Sample]:
    """Read the paintings in which one emotion has more votes than every other.

    The distribution is that of the votes. The number of paintings that are kept is logged; the
    literature reports 228 or 229.
    """
    image_folder = first_folder([folder / "testImages_abstract", folder])
    tables = [path / _TABLE for path in (folder, image_folder) if (path / _TABLE).is_file()]
    if not tables:
        layout = f"testImages_abstract/abstract_NNNN.jpg and {_TABLE}"
        raise layout_error(folder, "Abstract", layout)
    table = tables[0]
    header, rows = read_cells(table)
    labels = Labels(hierarchy, get_hierarchy("mikels8"))
    leaves = [labels.leaf(_unquoted(cell), table) for cell in header[1:]]
    images = [image_folder / _unquoted(row[0]) for row in rows]
    refuse_missing(images, table)
    samples = []
    for image, row in zip(images, rows, strict=True):
        votes = [_votes(cell, row[0], table) for cell in row[1:]]
        if votes.count(max(votes)) == 1:
            by_leaf = dict(zip(leaves, votes, strict=True))
            shares = [by_leaf.get(k, 0) for k in range(len(hierarchy.leaves))]
            samples.append(labels.soft(image, shares, image.name))
    LOGGER.warning(
        f"{len(samples)} of the {len(rows)} paintings of {table} are kept: those in which one "
        "emotion has more votes than every other"
    )
    return labels.checked(samples, folder)


def _unquoted(cell: str) -> str:
    """Return a cell of the published table without its inner single quotes."""
    return cell.strip("'\" ")


def _votes(cell: str, name: str, table: Path) -> int:
    try:
        votes = int(_unquoted(cell))
    except ValueError as error:
        raise DatasetError(f"{table}: {cell!r} of {name} is not a number of votes") from error
    if votes < 0:
        raise DatasetError(f"{table}: {name} has {votes} votes for an emotion")
    return votes
