"""ArtPhoto: 806 artistic photographs under Mikels' eight emotions (Machajdik & Hanbury, 2010)."""

from __future__ import annotations

from pathlib import Path

from mdan_zoo.datasets.files import first_folder, images_below, layout_error
from mdan_zoo.datasets.labels import Labels
from mdan_zoo.datasets.sample import Sample
from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.hierarchy.tree import Hierarchy


def read_artphoto(folder: Path, hierarchy: Hierarchy) -> list[Sample]:
    """Read ArtPhoto, whose file names begin with the class: `sad_0012.jpg`.

    Args:
        folder: Holds `testImages_artphoto`, or is it.
        hierarchy: A tree with Mikels' eight emotions, such as "mikels8".

    Raises:
        DatasetError: The layout is another one, or a class is not in the tree.
    """
    root = first_folder([folder / "testImages_artphoto", folder])
    labels = Labels(hierarchy, get_hierarchy("mikels8"))
    images = images_below(root)
    if not images:
        raise layout_error(root, "ArtPhoto", "testImages_artphoto/<class>_NNNN.jpg")
    samples = [
        labels.hard(path, labels.leaf(path.stem.rpartition("_")[0], path), path.name)
        for path in images
    ]
    return labels.checked(samples, root)
