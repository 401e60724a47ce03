"""WEBEmo's lists of URLs, and what they tell about the images that were downloaded from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from mdan_zoo.datasets.files import LOGGER, read_text, shown
from mdan_zoo.datasets.labels import Labels
from mdan_zoo.errors import DatasetError, UnknownNameError
from mdan_zoo.hierarchy.builtin import get_hierarchy

RELEASE = get_hierarchy("webemo25_release")

Listed: TypeAlias = Mapping[str, set[str]]
"""The classes of every listed image, by file name."""


@dataclass(frozen=True)
class Download:
    """A downloaded image: its file, named as in its URL, its split and its class."""

    image: Path
    split: str
    label: str


def release_class(name: str, place: object) -> str:
    """Return the class that a folder or line stands for, by the release's id or by name."""
    if not name.isdecimal():
        return RELEASE.leaves[Labels(RELEASE).leaf(name, place)]
    try:
        return RELEASE.leaves[RELEASE.leaf_from_release_id("webemo", int(name))]
    except UnknownNameError as error:
        raise DatasetError(f"{place}: WEBEmo's class ids run from 0 to 24, not {name}") from error


def read_list(path: Path) -> Listed:
    """Read a list with a URL and a class id on every line; nothing is listed without the file."""
    listed: dict[str, set[str]] = {}
    for number, line in enumerate(read_text(path).splitlines() if path.is_file() else (), start=1):
        url, _, label = line.strip().rpartition(" ")
        if url and label.isdecimal():
            listed.setdefault(url.rpartition("/")[2], set()).add(release_class(label, path))
        elif line.strip():
            raise DatasetError(f"{path}: line {number} is not 'URL label' but {line!r}")
    return listed


def compare(downloads: Iterable[Download], listed: Listed, path: Path) -> None:
    """Compare the images of a split with its list, and warn of those that are not there.

    Files that are in no list may be renamed and are passed over.

    Raises:
        DatasetError: Images lie in the folder of another class than the list says.
    """
    found = list(downloads)
    wrong = [
        f"{download.image} (listed as {' and '.join(sorted(listed[download.image.name]))})"
        for download in found
        if download.label not in listed.get(download.image.name, {download.label})
    ]
    if wrong:
        raise DatasetError(
            f"{len(wrong)} images lie in the folder of another class than {path} says: "
            f"{shown(wrong)}; one circulating download script keeps only the last digit of a label"
        )
    absent = sorted(set(listed) - {download.image.name for download in found})
    if absent:
        LOGGER.warning(
            f"{len(absent)} of the {len(listed)} images of {path} are not there, as links die: "
            + shown(absent)
        )
