"""Custom dataset: a folder per class."""

from __future__ import annotations

from pathlib import Path

from mdan_zoo.datasets.files import SPLIT_FOLDERS, images_below, layout_error, shown
from mdan_zoo.datasets.labels import Labels
from mdan_zoo.datasets.sample import Sample
from mdan_zoo.errors import DatasetError
from mdan_zoo.hierarchy.tree import Hierarchy

_LAYOUT = (
    "<class>/*.jpg or {train,val,test}/<class>/*.jpg, where <class> is a class of the hierarchy"
)


def read_folder(folder: Path, hierarchy: Hierarchy) -> list[Sample]:
    """Read images in folders named after the classes of a hierarchy, or their aliases.

    `joy/1.jpg`, `train/joy/1.jpg`, `positive/joy/zest/1.jpg` and `joy/flickr/1.jpg` are valid. An
    image in `positive/1.jpg` is labelled at that level only. If there are folders train, val or
    test, all images must be in these. Every image must be in one class. If all images are
    labelled at one level, every class of that level must have images.
    """
    images = images_below(folder)
    if not images:
        raise layout_error(folder, "a custom dataset", _LAYOUT)
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
        labels.coarse(
            image, _find_class(image, names[bool(split) : -1], labels), "/".join(names), split
        )
        for image, names, split in zip(images, parts, splits, strict=True)
    ]
    _refuse_links(samples, hierarchy)
    return labels.checked(samples, folder, every_class=True)


def folder_class_names(folder: Path, hierarchy: Hierarchy) -> set[str]:
    """Return the names of all folders that images are in, at any depth."""
    parts = {image.relative_to(folder).parts[:-1] for image in images_below(folder)}
    return {name.strip() for names in parts for name in names}


def _find_class(image: Path, names: tuple[str, ...], labels: Labels) -> tuple[int, ...]:
    """Return the path of the class named by the folders of an image, outermost first.

    In positive/sadness/shame, sadness is the parent of shame, even if a leaf has the same name.
    """
    if not names:
        raise DatasetError(f"{image} is in no folder of a class; expected {_LAYOUT}")
    hierarchy = labels.hierarchy
    paths = [path for name in names if (path := labels.path(name)) is not None]
    finest = max(map(len, paths), default=0)
    if finest < hierarchy.depth and labels.path(names[-1]) is None:
        labels.leaf(names[-1], image)  # raises an error that suggests the nearest names
    found = [path for path in paths if len(path) == finest][-1]
    own = [hierarchy.class_name(found[: level + 1]) for level in range(finest)]
    other = [hierarchy.class_name(path) for path in paths if hierarchy.class_name(path) not in own]
    if other:
        raise DatasetError(f"{image} is in the folders of two classes, {other[0]} and {own[-1]}")
    return found


def _refuse_links(samples: list[Sample], hierarchy: Hierarchy) -> None:
    """Check that no file is in two classes by a symbolic or hard link."""
    first: dict[tuple[int, int], Sample] = {}
    for sample in samples:
        status = sample.image.stat()
        other = first.setdefault((status.st_dev, status.st_ino), sample)
        if other.labels != sample.labels:
            classes = " and ".join(hierarchy.class_name(s.labels) for s in (other, sample))
            raise DatasetError(
                f"{other.image} and {sample.image} are one file in two classes, {classes}"
            )
