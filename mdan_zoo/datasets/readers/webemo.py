"""WEBEmo: 267,441 stock photographs under 25 of Parrott's emotions (Panda et al., ECCV 2018).

The release is two lists of URLs, `train25.txt` and `test25.txt`, with a class id on every line.
Download scripts put the images into folders named after the ids 0 to 24 or after the classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mdan_zoo.datasets.file_index import FileIndex
from mdan_zoo.datasets.files import (
    LOGGER,
    SPLIT_FOLDERS,
    class_folders,
    layout_error,
    shown,
    split_folders,
)
from mdan_zoo.datasets.labels import Labels
from mdan_zoo.datasets.readers.webemo_lists import (
    RELEASE,
    Download,
    compare,
    read_list,
    release_class,
)
from mdan_zoo.datasets.sample import Sample
from mdan_zoo.errors import DatasetError
from mdan_zoo.hierarchy.tree import Hierarchy

_SPLITS = SPLIT_FOLDERS | {"train25": "train", "test25": "test"}
_LAYOUT = (
    "the downloaded images in train/ and test/ (or images/train25/ and images/test25/), in "
    "folders named after the ids 0 to 24 or after the classes"
)


def read_webemo(folder: Path, hierarchy: Hierarchy) -> list[Sample]:
    """Read the downloaded images of WEBEmo.

    Some URLs have several labels in the release. Each label counts, as in published evaluations.
    Such copies, with equal names and contents, form a group, so that a split does not separate
    them. Images of confusion are skipped if the hierarchy has no such class.

    Args:
        folder: Contains the images and, optionally, the lists of URLs, which are then compared.
        hierarchy: A hierarchy with the classes of WEBEmo, such as "webemo25".

    Returns:
        A sample for every image file, with the split of the release.

    Raises:
        DatasetError: The layout is wrong, a class is not in the hierarchy, or the labels were cut
            to their last digit by a download script.
    """
    downloads = _find(folder)
    for split in ("train", "test"):
        path = folder / f"{split}25.txt"
        compare((d for d in downloads if d.split == split), read_list(path), path)
    labels = Labels(hierarchy, RELEASE)
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


def _find(folder: Path) -> list[Download]:
    splits = split_folders(folder, _SPLITS) or split_folders(folder / "images", _SPLITS)
    downloads = []
    for split, path in splits:
        classes = class_folders(path)
        _refuse_lost_digits(path, list(classes))
        for name, images in classes.items():
            label = release_class(name, path / name)
            downloads += [Download(image, split, label) for image in images]
    if not downloads:
        raise layout_error(folder, "WEBEmo", _LAYOUT)
    return downloads


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
        equal = index.duplicates(named) if len(named) > 1 else [named]
        if len(equal) == 1 and len(equal[0]) == len(named):
            groups.update(dict.fromkeys(named, name))
        else:
            groups.update({image: _below(image, folder) for image in named})
            for copies in equal:
                groups.update(dict.fromkeys(copies, _below(copies[0], folder)))
    return groups


def _below(image: Path, folder: Path) -> str:
    return image.relative_to(folder).as_posix()


def _refuse_lost_digits(path: Path, names: Sequence[str]) -> None:
    if names and all(len(name) == 1 and name.isdecimal() for name in names):
        raise DatasetError(
            f"{path} has only the classes {shown(names, 10)}, but WEBEmo's ids run to 24: a "
            "circulating download script takes the last digit of a label for the label, so these "
            "images are wrongly labelled or incomplete; download them again with another"
        )


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
