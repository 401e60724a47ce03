"""IAPS subset: 395 images of the International Affective Image System under Mikels' eight.

The images come on request from the system's authors (Lang, Bradley & Cuthbert), the labels are
those of Mikels et al. (2005). No table of these labels is published in a form that could be read
here, so the user writes one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mdan_zoo.datasets.files import images_below, layout_error, read_cells, shown
from mdan_zoo.datasets.labels import Labels
from mdan_zoo.datasets.sample import Sample
from mdan_zoo.errors import DatasetError
from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.hierarchy.tree import Hierarchy


def read_iaps(folder: Path, hierarchy: Hierarchy) -> list[Sample]:
    """Read the IAPS subset.

    Args:
        folder: Holds the images, at any depth, and one .csv file with the columns `name` and
            `label`. A name may lack the ending, as 2900.1 for 2900.1.jpg.
        hierarchy: A tree with Mikels' eight emotions, such as "mikels8".

    Raises:
        DatasetError: There is no such table, an image is missing, or a class is not in the tree.
    """
    expected = "the images and one .csv file, with the columns name,label"
    tables = sorted(folder.glob("*.csv"))
    if len(tables) != 1:
        raise layout_error(folder, "the IAPS subset", expected)
    header, rows = read_cells(tables[0])
    columns = [cell.lower() for cell in header]
    if not {"name", "label"} <= set(columns):
        raise DatasetError(f"{tables[0]} has the columns {', '.join(header)}; expected {expected}")
    files: dict[str, set[Path]] = {}
    for path in images_below(folder):
        for name in (path.name, path.stem):
            files.setdefault(name, set()).add(path)
    listed = [(row[columns.index("name")], row[columns.index("label")]) for row in rows]
    _refuse_unclear([name for name, _ in listed if len(files.get(name, ())) != 1], tables[0])
    labels = Labels(hierarchy, get_hierarchy("mikels8"))
    samples = []
    for name, label in listed:
        (image,) = files[name]
        leaf = labels.leaf(label, f"{tables[0]}, {name}")
        samples.append(labels.hard(image, leaf, image.name))
    return labels.checked(samples, folder)


def _refuse_unclear(names: Sequence[str], table: Path) -> None:
    if names:
        raise DatasetError(
            f"{len(names)} of the images that {table} lists are missing, or there are several "
            f"of that name: {shown(names)}"
        )
