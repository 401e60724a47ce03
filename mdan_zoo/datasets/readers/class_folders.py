"""Class folders: a layout that several datasets share, optionally within split folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mdan_zoo.datasets.files import class_folders, layout_error, split_folders
from mdan_zoo.datasets.labels import Labels
from mdan_zoo.datasets.sample import Sample


def read_class_folders(
    folder: Path,
    places: Sequence[str],
    labels: Labels,
    *,
    dataset: str,
    expected: str,
) -> list[Sample]:
    """Read `<class>/.../<file>` or `{train,val,test}/<class>/.../<file>`.

    Args:
        folder: The folder of the data set.
        places: Folders in it where the classes or splits may lie; the first that exists is read,
            or `folder` itself if none does.
        labels: The tree whose class ids the samples get, and the data set's own.
        dataset: Name of the data set, for the messages.
        expected: The layout in words, for the messages.

    Raises:
        DatasetError: There are no such images, or a class is not in the tree.
    """
    root = next((folder / place for place in places if (folder / place).is_dir()), folder)
    splits = split_folders(root) or [("", root)]
    found = [
        (split, path / name, images)
        for split, path in splits
        for name, images in class_folders(path).items()
    ]
    if not any(labels.has(path.name) for _, path, _ in found):
        raise layout_error(folder, dataset, expected)
    samples = [
        labels.hard(
            image, labels.leaf(path.name, path), image.relative_to(folder).as_posix(), split
        )
        for split, path, images in found
        for image in images
    ]
    return labels.checked(samples, folder)
