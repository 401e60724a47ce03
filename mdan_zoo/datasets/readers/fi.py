"""FI, Flickr and Instagram: about 23,000 photographs under Mikels' eight (You et al., AAAI 2016).

Two layouts circulate: one folder a class, and the split of WSCNet (She et al., 2020) with short
class names. The number of images differs from copy to copy.
"""

from __future__ import annotations

from pathlib import Path

from mdan_zoo.datasets.files import images_below, shown
from mdan_zoo.datasets.labels import Labels
from mdan_zoo.datasets.readers.class_folders import read_class_folders
from mdan_zoo.datasets.sample import Sample
from mdan_zoo.errors import DatasetError
from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.hierarchy.tree import Hierarchy


def read_fi(folder: Path, hierarchy: Hierarchy) -> list[Sample]:
    """Read the images of FI.

    Args:
        folder: Holds `emotion_dataset/<emotion>/` or `FI/{train,val,test}/<emotion>/`, or is one of
            these two folders itself.
        hierarchy: A tree with Mikels' eight emotions, such as "mikels8".

    Returns:
        A sample for every image; those of the second layout have their split.

    Raises:
        DatasetError: The layout is another one, a class is not in the tree, or there are only the
            release's lists of URLs.
    """
    lists = sorted((folder / "agg").glob("*.csv"))
    if lists and not images_below(folder):
        raise DatasetError(
            f"{folder} holds only FI's lists of URLs and votes, {shown(lists)}; download their "
            "images into emotion_dataset/<emotion>/ first, as far as the links still work"
        )
    return read_class_folders(
        folder,
        ["emotion_dataset", "FI"],
        Labels(hierarchy, get_hierarchy("mikels8")),
        dataset="FI",
        expected="emotion_dataset/<emotion>/*.jpg or FI/{train,val,test}/<emotion>/*.jpg",
    )
