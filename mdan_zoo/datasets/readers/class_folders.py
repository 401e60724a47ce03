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
        folder: The folder of the dataset.
        places: Folders in it where the classes or splits may lie; the first that exists is read,
            or `folder` itself if none does.
        labels: The hierarchy of the samples, and that of the dataset.
        dataset: Name of the dataset, for error messages.
        expected: Description of the layout, for error messages.

    Raises:
        DatasetError: No images were found, or a class is not in the hierarchy.
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
