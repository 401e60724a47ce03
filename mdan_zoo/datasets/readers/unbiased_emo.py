"""UnBiasedEmo (3,045 images) of Panda et al. (ECCV 2018): each object under several emotions."""

from __future__ import annotations

from pathlib import Path

from mdan_zoo.datasets.labels import Labels
from mdan_zoo.datasets.readers.class_folders import read_class_folders
from mdan_zoo.datasets.sample import Sample
from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.hierarchy.tree import Hierarchy


def read_unbiased_emo(folder: Path, hierarchy: Hierarchy) -> list[Sample]:
    """Read UnBiasedEmo.

    Args:
        folder: Holds `images/<emotion>/<object>/<file>`.
        hierarchy: A tree with the six emotions, such as "panda6".

    Raises:
        DatasetError: The layout is another one, or a class is not in the tree.
    """
    return read_class_folders(
        folder,
        ["images"],
        Labels(hierarchy, get_hierarchy("panda6")),
        dataset="UnBiasedEmo",
        expected="images/<emotion>/<object>/<file>",
    )
