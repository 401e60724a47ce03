"""WEBEmo: 267,441 stock photographs under 25 of Parrott's emotions (Panda et al., ECCV 2018).

The release is two lists of URLs, `train25.txt` and `test25.txt`, with a class id on every line.
Download scripts put the images into folders named after the ids 0 to 24 or after the classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mdan_zoo.datasets.file_index import FileIndex
from mdan_zoo.datasets.files import (
    LOGGER,
    SPLIT_FOLDERS,
    class_folders,
    layout_error,
    read_text,
    shown,
    split_folders,
)
from mdan_zoo.datasets.labels import Labels
from mdan_zoo.datasets.sample import Sample
from mdan_zoo.errors import DatasetError, UnknownNameError
from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.hierarchy.tree import Hierarchy

_RELEASE = get_hierarchy("webemo25_release")
_SPLITS = SPLIT_FOLDERS | {"train25": "train", "test25": "test"}
_LAYOUT = (
    "the downloaded images in train/ and test/ (or images/train25/ and images/test25/), in "
    "folders named after the ids 0 to 24 or after the classes"
)


class _Download(NamedTuple):
    """A downloaded image: its file, named as in its URL, its split and its class."""

    image: Path
    split: str
    label: str


def read_webemo(folder: Path, hierarchy: Hierarchy) -> list[Sample]:
    """Read the downloaded images of WEBEmo, and compare them with the lists of URLs if present.

    Some URLs have several labels in the release. Each label counts, as in published evaluations.
    Such copies, with the same name and content, form a group, so that a split does not separate
    them. Images of confusion are skipped if the hierarchy has no such class. Labels that contradict
    the lists, or that a download script has cut to their last digit, are errors.
    """
    downloads = _find(folder)
    for split in ("train", "test"):
        path = folder / f"{split}25.txt"
        if path.is_file():
            _compare([d for d in downloads if d.split == split], path)
    labels = Labels(hierarchy, _RELEASE)
    kept = [d for d in downloads if d.label != "confusion" or labels.has("confusion")]
    if len(kept) < len(downloads):
        LOGGER.warning(
            f"{len(downloads) - len(kept)} images of confusion are skipped: hierarchy "
            f"{hierarchy.name!r} has no such class"
        )
    groups = _groups([download.image for download in kept], folder)
    samples = [
        labels.hard(d.image, labels.leaf(d.label, d.image), groups[d.image], d.split) for d in kept
    ]
    _warn_of_several_labels(samples)
    return labels.checked(samples, folder)


def _find(folder: Path) -> list[_Download]:
    splits = split_folders(folder, _SPLITS) or split_folders(folder / "images", _SPLITS)
    downloads = []
    for split, path in splits:
        classes = class_folders(path)
        if classes and all(len(name) == 1 and name.isdecimal() for name in classes):
            raise DatasetError(
                f"{path} has only the classes {shown(classes, 10)}, but WEBEmo's ids run to 24: "
                "a widespread download script keeps only the last digit of a label, so these "
                "images are incomplete or have wrong labels; download them with another script"
            )
        for name, images in classes.items():
            label = _release_class(name, path / name)
            downloads += [_Download(image, split, label) for image in images]
    if not downloads:
        raise layout_error(folder, "WEBEmo", _LAYOUT)
    return downloads


def _release_class(name: str, place: object) -> str:
    """Return the class of a folder or line, given by the id of the release or by name."""
    if not name.isdecimal():
        return _RELEASE.leaves[Labels(_RELEASE).leaf(name, place)]
    try:
        return _RELEASE.leaves[_RELEASE.leaf_from_release_id("webemo", int(name))]
    except UnknownNameError as error:
        raise DatasetError(f"{place}: WEBEmo's class ids run from 0 to 24, not {name}") from error


def _compare(downloads: Sequence[_Download], path: Path) -> None:
    """Check the classes of the images of a split against its list, and warn of missing images.

    Files that are not in the list may have been renamed and are accepted.
    """
    listed: dict[str, set[str]] = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        url, _, label = line.strip().rpartition(" ")
        if url and label.isdecimal():
            listed.setdefault(url.rpartition("/")[2], set()).add(_release_class(label, path))
        elif line.strip():
            raise DatasetError(f"{path}: line {number} is not 'URL label' but {line!r}")
    wrong = [
        f"{download.image} (listed as {' and '.join(sorted(listed[download.image.name]))})"
        for download in downloads
        if download.label not in listed.get(download.image.name, {download.label})
    ]
    if wrong:
        raise DatasetError(
            f"{len(wrong)} images are in the folder of another class than in {path}: "
            f"{shown(wrong)}; a widespread download script keeps only the last digit of a label"
        )
    absent = sorted(set(listed) - {download.image.name for download in downloads})
    if absent:
        LOGGER.warning(
            f"{len(absent)} of the {len(listed)} images of {path} are missing, which is normal "
            f"for old links: {shown(absent)}"
        )


def _groups(images: Sequence[Path], folder: Path) -> dict[Path, str]:
    """Return the group of every image: its name, or its path if other images have the same name.

    Copies with the same name are one group. Different images have the same name if the downloads
    were numbered within each class.
    """
    by_name: dict[str, list[Path]] = {}
    for image in images:
        by_name.setdefault(image.name, []).append(image)
    index, groups = FileIndex(), {}
    for name, named in by_name.items():
        if len(named) == 1 or (identical := index.duplicates(named)) == [named]:
            groups.update(dict.fromkeys(named, name))
            continue
        for copies in [*([image] for image in named), *identical]:
            groups.update(dict.fromkeys(copies, copies[0].relative_to(folder).as_posix()))
    return groups


def _warn_of_several_labels(samples: Sequence[Sample]) -> None:
    leaves: dict[str, set[int]] = {}
    for sample in samples:
        leaves.setdefault(sample.group, set()).add(sample.labels[-1])
    several = sorted(Path(group).name for group, found in leaves.items() if len(found) > 1)
    if several:
        LOGGER.warning(
            f"{len(several)} images have several labels, as in the release, and each counts: "
            + shown(several)
        )
