"""Datasets that name the class in a folder or file name: Emotion-6, UnBiasedEmo, FI, ArtPhoto."""

from __future__ import annotations

from pathlib import Path

from mdan_zoo.datasets.files import (
    class_folders,
    first_folder,
    images_below,
    layout_error,
    shown,
    split_folders,
)
from mdan_zoo.datasets.labels import Labels
from mdan_zoo.datasets.sample import Sample
from mdan_zoo.errors import DatasetError
from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.hierarchy.tree import Hierarchy


def read_emotion6_panda(folder: Path, hierarchy: Hierarchy) -> list[Sample]:
    """Read Emotion-6 of Panda et al., which is not Emotion6 of Peng et al.

    The class is the emotion, even if the search query is the name of another emotion.
    """
    labels = Labels(hierarchy, get_hierarchy("panda6"))
    return _read(folder, labels, "Emotion-6", "images/<emotion>/<query>/<sub>/<file>", "images")


def read_unbiased_emo(folder: Path, hierarchy: Hierarchy) -> list[Sample]:
    """Read UnBiasedEmo, in which each object occurs with several emotions."""
    labels = Labels(hierarchy, get_hierarchy("panda6"))
    return _read(folder, labels, "UnBiasedEmo", "images/<emotion>/<object>/<file>", "images")


def read_fi(folder: Path, hierarchy: Hierarchy) -> list[Sample]:
    """Read FI in one of its two layouts; the folder may also be the inner one.

    The layouts are one folder per class, and the split of WSCNet (She et al., 2020) with short
    class names. The number of images differs from copy to copy.
    """
    lists = sorted((folder / "agg").glob("*.csv"))
    if lists and not images_below(folder):
        raise DatasetError(
            f"{folder} contains only FI's lists of URLs and votes, {shown(lists)}; download the "
            "images that are still available into emotion_dataset/<emotion>/ first"
        )
    layout = "emotion_dataset/<emotion>/*.jpg or FI/{train,val,test}/<emotion>/*.jpg"
    labels = Labels(hierarchy, get_hierarchy("mikels8"))
    return _read(folder, labels, "FI", layout, "emotion_dataset", "FI")


def read_artphoto(folder: Path, hierarchy: Hierarchy) -> list[Sample]:
    """Read ArtPhoto, whose file names begin with the class, as in `sad_0012.jpg`.

    The folder is `testImages_artphoto` or contains it.
    """
    root = first_folder([folder / "testImages_artphoto", folder])
    images = images_below(root)
    if not images:
        raise layout_error(root, "ArtPhoto", "testImages_artphoto/<class>_NNNN.jpg")
    labels = Labels(hierarchy, get_hierarchy("mikels8"))
    samples = [
        labels.hard(path, labels.leaf(path.stem.rpartition("_")[0], path), path.name)
        for path in images
    ]
    return labels.checked(samples, root)


def _read(
    folder: Path, labels: Labels, dataset: str, layout: str, *subfolders: str
) -> list[Sample]:
    """Read `<class>/.../<file>` or `{train,val,test}/<class>/.../<file>`.

    The classes or splits are in the first of the subfolders that exists, or else in `folder`.
    """
    root = first_folder([*(folder / name for name in subfolders), folder])
    found = [
        (split, path / name, images)
        for split, path in split_folders(root) or [("", root)]
        for name, images in class_folders(path).items()
    ]
    if not any(labels.has(path.name) for _, path, _ in found):
        raise layout_error(folder, dataset, layout)
    samples = [
        labels.hard(image, leaf, image.relative_to(folder).as_posix(), split)
        for split, path, images in found
        for leaf in [labels.leaf(path.name, path)]
        for image in images
    ]
    return labels.checked(samples, folder)
