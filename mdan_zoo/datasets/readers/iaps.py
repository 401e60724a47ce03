"""IAPSsubset: 395 images of IAPS under Mikels' eight emotions.

The images are available on request from the authors of IAPS (Lang, Bradley & Cuthbert). The labels
are those of Mikels et al. (2005), which users enter into a table themselves.
"""

from __future__ import annotations

from pathlib import Path

from mdan_zoo.datasets.files import images_below, layout_error, read_cells, shown
from mdan_zoo.datasets.labels import Labels
from mdan_zoo.datasets.sample import Sample
from mdan_zoo.errors import DatasetError
from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.hierarchy.tree import Hierarchy

_LAYOUT = "the images and one .csv file, with the columns name,label"


def read_iaps(folder: Path, hierarchy: Hierarchy) -> list[Sample]:
    """Read the images that the table lists; they may be at any depth.

    A name may lack the suffix, as in 2900.1 for 2900.1.jpg.
    """
    tables = sorted(folder.glob("*.csv"))
    if len(tables) != 1:
        raise layout_error(folder, "the IAPS subset", _LAYOUT)
    header, rows = read_cells(tables[0])
    columns = [cell.lower() for cell in header]
    if not {"name", "label"} <= set(columns):
        raise DatasetError(f"{tables[0]} has the columns {', '.join(header)}; expected {_LAYOUT}")
    files: dict[str, set[Path]] = {}
    for path in images_below(folder):
        for name in (path.name, path.stem):
            files.setdefault(name, set()).add(path)
    listed = [(row[columns.index("name")], row[columns.index("label")]) for row in rows]
    unclear = [name for name, _ in listed if len(files.get(name, ())) != 1]
    if unclear:
        raise DatasetError(
            f"{len(unclear)} of the images that {tables[0]} lists are missing, or there are "
            f"several of that name: {shown(unclear)}"
        )
    labels = Labels(hierarchy, get_hierarchy("mikels8"))
    samples = []
    for name, label in listed:
        (image,) = files[name]
        leaf = labels.leaf(label, f"{tables[0]}, {name}")
        samples.append(labels.hard(image, leaf, image.name))
    return labels.checked(samples, folder)
