"""Custom dataset: a folder per class."""

from __future__ import annotations

from pathlib import Path

from mdan_zoo.datasets.files import SPLIT_FOLDERS, images_below, layout_error, shown
from mdan_zoo.datasets.labels import Labels
from mdan_zoo.datasets.sample import Sample
from mdan_zoo.errors import DatasetError
from mdan_zoo.hierarchy.tree import Hierarchy

_LAYOUT = "<class>/*.jpg or {train,val,test}/<class>/*.jpg, where <class> is a leaf of the tree"


def read_folder(folder: Path, hierarchy: Hierarchy) -> list[Sample]:
    """Read images that lie in folders named after the leaves of a tree, at any depth.

    `joy/1.jpg`, `train/joy/1.jpg`, `positive/joy/zest/1.jpg` and `joy/flickr/1.jpg` are all fine.

    Args:
        folder: The folder; if it has folders train, val or test, all images must be in these.
        hierarchy: The tree; its names and aliases are understood.

    Raises:
        DatasetError: An image is in no class, in one that the tree lacks, or in two; a leaf has no
            images; or there are fewer than two images.
    """
    images = images_below(folder)
    if not images:
        raise layout_error(folder, "a dataset", _LAYOUT)
    labels = Labels(hierarchy)
    parts = [image.relative_to(folder).parts for image in images]
    splits = [SPLIT_FOLDERS.get(names[0].lower(), "") for names in parts]
    outside = [path for path, split in zip(images, splits, strict=True) if not split]
    if 0 < len(outside) < len(images):
        raise DatasetError(
            f"{folder} has folders for splits, but {len(outside)} images are in none of them: "
            + shown(outside)
        )
    samples = [
        labels.hard(
            image, _find_leaf(image, names[bool(split) : -1], labels), "/".join(names), split
        )
        for image, names, split in zip(images, parts, splits, strict=True)
    ]
    _refuse_links(samples, hierarchy)
    return labels.checked(samples, folder, every_class=True)


def _find_leaf(image: Path, names: tuple[str, ...], labels: Labels) -> int:
    """Return the leaf that an image's folders name, outermost first.

    In positive/sadness/shame the sadness above shame is its parent, even if a leaf is so called.
    """
    if not names:
        raise DatasetError(f"{image} is in no folder of a class; expected {_LAYOUT}")
    hierarchy = labels.hierarchy
    leaves = [labels.leaf(name, image) for name in names if labels.has(name)]
    if not leaves:
        return labels.leaf(names[-1], image)  # tells the nearest names
    above = hierarchy.path(hierarchy.leaves[leaves[-1]])
    other = [hierarchy.leaves[k] for k in leaves if hierarchy.leaves[k] not in above]
    if other:
        raise DatasetError(f"{image} is in the folders of two classes, {other[0]} and {above[-1]}")
    return leaves[-1]


def _refuse_links(samples: list[Sample], hierarchy: Hierarchy) -> None:
    """Check that no file is in two classes by a link."""
    first: dict[tuple[int, int], Sample] = {}
    for sample in samples:
        status = sample.image.stat()
        other = first.setdefault((status.st_dev, status.st_ino), sample)
        if other.labels != sample.labels:
            classes = [hierarchy.leaves[s.labels[-1]] for s in (other, sample)]
            raise DatasetError(
                f"{other.image} and {sample.image} are one file in two classes, "
                f"{classes[0]} and {classes[1]}"
            )
