"""Pictures of one's own: a folder for every class."""

from __future__ import annotations

from pathlib import Path

from mdan_zoo.datasets.files import SPLIT_FOLDERS, layout_error, pictures_below, shown
from mdan_zoo.datasets.labels import Labels
from mdan_zoo.datasets.sample import Sample
from mdan_zoo.errors import DatasetError
from mdan_zoo.hierarchy.tree import Hierarchy

_LAYOUT = "<class>/*.jpg or {train,val,test}/<class>/*.jpg, where <class> is a leaf of the tree"


def read_folder(folder: Path, hierarchy: Hierarchy) -> list[Sample]:
    """Read pictures that lie in folders named after the leaves of a tree, at any depth.

    `joy/1.jpg`, `train/joy/1.jpg`, `positive/joy/zest/1.jpg` and `joy/flickr/1.jpg` are all fine.

    Args:
        folder: The folder; if it has folders train, val or test, all pictures must be in these.
        hierarchy: The tree; its names and aliases are understood.

    Raises:
        DatasetError: A picture is in no class, in one that the tree lacks, or in two; a leaf has no
            pictures; or there are fewer than two pictures.
    """
    pictures = pictures_below(folder)
    if not pictures:
        raise layout_error(folder, "a data set", _LAYOUT)
    labels = Labels(hierarchy)
    parts = [picture.relative_to(folder).parts for picture in pictures]
    splits = [SPLIT_FOLDERS.get(names[0].lower(), "") for names in parts]
    outside = [path for path, split in zip(pictures, splits, strict=True) if not split]
    if 0 < len(outside) < len(pictures):
        raise DatasetError(
            f"{folder} has folders for splits, but {len(outside)} pictures are in none of them: "
            + shown(outside)
        )
    samples = [
        labels.hard(
            picture, _find_leaf(picture, names[bool(split) : -1], labels), "/".join(names), split
        )
        for picture, names, split in zip(pictures, parts, splits, strict=True)
    ]
    _refuse_links(samples, hierarchy)
    return labels.checked(samples, folder, every_class=True)


def _find_leaf(picture: Path, names: tuple[str, ...], labels: Labels) -> int:
    """Return the leaf that a picture's folders name, outermost first.

    In positive/sadness/shame the sadness above shame is its parent, even if a leaf is so called.
    """
    if not names:
        raise DatasetError(f"{picture} is in no folder of a class; needed is {_LAYOUT}")
    hierarchy = labels.hierarchy
    leaves = [labels.leaf(name, picture) for name in names if labels.has(name)]
    if not leaves:
        return labels.leaf(names[-1], picture)  # tells the nearest names
    above = hierarchy.path(hierarchy.leaves[leaves[-1]])
    other = [hierarchy.leaves[k] for k in leaves if hierarchy.leaves[k] not in above]
    if other:
        raise DatasetError(
            f"{picture} is in the folders of two classes, {other[0]} and {above[-1]}"
        )
    return leaves[-1]


def _refuse_links(samples: list[Sample], hierarchy: Hierarchy) -> None:
    """Check that no file is in two classes by a link."""
    first: dict[tuple[int, int], Sample] = {}
    for sample in samples:
        status = sample.picture.stat()
        other = first.setdefault((status.st_dev, status.st_ino), sample)
        if other.labels != sample.labels:
            classes = [hierarchy.leaves[s.labels[-1]] for s in (other, sample)]
            raise DatasetError(
                f"{other.picture} and {sample.picture} are one file in two classes, "
                f"{classes[0]} and {classes[1]}"
            )
