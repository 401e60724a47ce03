"""Emotion-6 (8,350 images) of Panda et al. (ECCV 2018): Parrott's six emotions.

Not to be confused with Emotion6 of Peng et al. (2015), for which see `emotion6_peng`.
"""

from __future__ import annotations

from pathlib import Path

from mdan_zoo.datasets.labels import Labels
from mdan_zoo.datasets.readers.class_folders import read_class_folders
from mdan_zoo.datasets.sample import Sample
from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.hierarchy.tree import Hierarchy


def read_emotion6_panda(folder: Path, hierarchy: Hierarchy) -> list[Sample]:
    """Read Emotion-6.

    Args:
        folder: Holds `images/<emotion>/<query>/<sub>/<file>`. Only the emotion counts, also where
            a search query is another emotion's name.
        hierarchy: A tree with the six emotions, such as "panda6".

    Raises:
        DatasetError: The layout is another one, or a class is not in the tree.
    """
    return read_class_folders(
        folder,
        ["images"],
        Labels(hierarchy, get_hierarchy("panda6")),
        dataset="Emotion-6",
        expected="images/<emotion>/<query>/<sub>/<file>",
    )
