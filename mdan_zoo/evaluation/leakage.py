"""Leakage check: find test images that a checkpoint was trained on.

Training writes the list of its images next to the checkpoint; the package contains the lists of
the released ones. Images are identified by their content, in any folder and under any name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from mdan_zoo._util.files import write_atomically
from mdan_zoo.datasets.file_index import FileIndex
from mdan_zoo.datasets.splits import get_split, list_splits, split_hashes
from mdan_zoo.weights.manifest import load_manifest

TRAINED_ON_FILE = "trained_on.txt"
_FIRST_LINE = "# SHA-256 of every image that the weights with this SHA-256 were trained on: "
_UNKNOWN_START = "# and what the weights that they started from were trained on, which is not known"


def save_trained_on(
    weights: Path,
    images: Iterable[Path],
    folder: Path | Mapping[str, Path],
    *,
    init: Path | None = None,
    dataset: str = "",
    others: Iterable[Path] = (),
    files: FileIndex | None = None,
) -> None:
    """Write `TRAINED_ON_FILE` next to a checkpoint: a line "SHA-256  name" for every image.

    Names are relative to `folder`, or with several datasets, whose folders are given by name, to
    the one that contains the image. `dataset` is the name of a single dataset. The images that
    `init` was trained on, the checkpoint that the training started from, are listed as well, if
    known; some of them may be among `others`, the other images of the datasets.
    """
    folders = folder if isinstance(folder, Mapping) else {dataset: folder}
    named = {path: _relative(path, folders)[1] for path in images}
    listed: list[str] = []
    if init is not None:
        found = _trained_on(init, dataset)[0]
        listed = [_UNKNOWN_START] if found is None else found
        released = {name: _trained_on(init, name)[1] for name in folders}
        for path in others:
            owner, name = _relative(path, folders)
            if name in released[owner]:
                named[path] = name
    hashes = (files or FileIndex()).sha256s(list(named))
    pairs = zip(hashes, named.values(), strict=True)
    lines = {*listed, *(f"{sha256}  {name}" for sha256, name in pairs)}
    text = "\n".join([_FIRST_LINE + _sha256(weights), *sorted(lines)]) + "\n"
    write_atomically(weights.parent / TRAINED_ON_FILE, text.encode(errors="surrogateescape"))


def _relative(path: Path, folders: Mapping[str, Path]) -> tuple[str, str]:
    """Return the dataset of an image, whose folder contains it, and the name in that folder."""
    inside = {name: folder for name, folder in folders.items() if path.is_relative_to(folder)}
    dataset = max(inside, key=lambda name: len(inside[name].parts))
    return dataset, path.relative_to(inside[dataset]).as_posix()


def count_trained_on(
    weights: Path,
    dataset: str,
    images: Sequence[Path],
    names: Sequence[str],
    files: FileIndex | None = None,
) -> int | None:
    """Count the images that a checkpoint was trained on; `names` are relative to their folder.

    Returns:
        None if unknown: neither the checkpoint's folder nor the package has the list of its
        training images, or no image was found in a list that lacks the images of the checkpoint
        that the training started from.
    """
    listed, released = _trained_on(weights, dataset)
    if listed is None:
        return None
    known = {line.partition(" ")[0] for line in listed}
    count = sum(
        sha256 in known or name in released
        for sha256, name in zip((files or FileIndex()).sha256s(images), names, strict=True)
    )
    return None if not count and _UNKNOWN_START in listed else count


def _trained_on(weights: Path, dataset: str) -> tuple[list[str] | None, set[str]]:
    """Return a line "SHA-256  name" for every training image, or None if unknown, and names.

    The names are those of the training images of released weights in `dataset`; a copy of the
    dataset may have been resized or recompressed.
    """
    sha256 = _sha256(weights)
    splits = _released_splits(sha256)
    names = {
        f"{split.folder}/{name}"
        for split in map(get_split, splits)
        if split.dataset == dataset
        for part, images in split.parts
        if part != "test"
        for name in images
    }
    with suppress(OSError):
        content = (weights.parent / TRAINED_ON_FILE).read_bytes()
        first, *lines = content.decode(errors="surrogateescape").removesuffix("\n").split("\n")
        if first == _FIRST_LINE + sha256:  # the list of another checkpoint is ignored
            return lines, names
    return [line for split in splits for line in split_hashes(split)] if splits else None, names


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _released_splits(sha256: str) -> list[str]:
    """Return the packaged splits that released weights were trained on; [] for any others."""
    for entry in load_manifest().values():
        if entry.sha256 == sha256:
            training = (entry.details or {}).get("training") or {}
            splits = [training, *training.get("splits", {}).values()]
            used = {split.get("split_sha256") for split in splits}
            return [name for name in list_splits() if get_split(name).sha256 in used]
    return []
