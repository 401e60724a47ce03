"""IAPS subset: 395 pictures of the International Affective Picture System under Mikels' eight.

The pictures come on request from the system's authors (Lang, Bradley & Cuthbert), the labels are
those of Mikels et al. (2005). No table of these labels is published in a form that could be read
here, so the user writes one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mdan_zoo.datasets.files import layout_error, pictures_below, read_cells, shown
from mdan_zoo.datasets.labels import Labels
from mdan_zoo.datasets.sample import Sample
from mdan_zoo.errors import DatasetError
from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.hierarchy.tree import Hierarchy


def read_iaps(folder: Path, hierarchy: Hierarchy) -> list[Sample]:
    """Read the IAPS subset.

    Args:
        folder: Holds the pictures, at any depth, and one .csv file with the columns `name` and
            `label`. A name may lack the ending, as 2900.1 for 2900.1.jpg.
        hierarchy: A tree with Mikels' eight emotions, such as "mikels8".

    Raises:
        DatasetError: There is no such table, a picture is missing, or a class is not in the tree.
    """
    expected = "the pictures and one .csv file, with the columns name,label"
    tables = sorted(folder.glob("*.csv"))
    if len(tables) != 1:
        raise layout_error(folder, "the IAPS subset", expected)
    header, rows = read_cells(tables[0])
    columns = [cell.lower() for cell in header]
    if not {"name", "label"} <= set(columns):
        raise DatasetError(f"{tables[0]} has the columns {', '.join(header)}; needed is {expected}")
    files: dict[str, set[Path]] = {}
    for path in pictures_below(folder):
        for name in (path.name, path.stem):
            files.setdefault(name, set()).add(path)
    listed = [(row[columns.index("name")], row[columns.index("label")]) for row in rows]
    _refuse_unclear([name for name, _ in listed if len(files.get(name, ())) != 1], tables[0])
    labels = Labels(hierarchy, get_hierarchy("mikels8"))
    samples = []
    for name, label in listed:
        (picture,) = files[name]
        leaf = labels.leaf(label, f"{tables[0]}, {name}")
        samples.append(labels.hard(picture, leaf, picture.name))
    return labels.checked(samples, folder)


def _refuse_unclear(names: Sequence[str], table: Path) -> None:
    if names:
        raise DatasetError(
            f"{len(names)} of the pictures that {table} lists are missing, or there are several "
            f"of that name: {shown(names)}"
        )
