"""Dataset check: unreadable files, placeholders, contradictory labels and duplicates."""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from logging.handlers import BufferingHandler
from pathlib import Path
from typing import Any

from mdan_zoo.datasets.duplicates import DuplicateImages, find_identical, find_near_duplicates
from mdan_zoo.datasets.file_index import FileIndex
from mdan_zoo.datasets.files import LOGGER, shown
from mdan_zoo.datasets.registry import choose_hierarchy, get_dataset, read_dataset
from mdan_zoo.datasets.sample import Sample
from mdan_zoo.hierarchy.tree import Hierarchy


@dataclass(frozen=True)
class ClassCount:
    """Number of images of a leaf in a split; the split is "" if the dataset has none."""

    split: str
    leaf: str
    images: int


@dataclass(frozen=True)
class DatasetReport:
    """Content and problems of a dataset.

    Attributes:
        dataset: Its name.
        root: Its folder.
        hierarchy: Name of the hierarchy with which it was read.
        images: Number of samples.
        counts: Images of every leaf in every split.
        notes: Warnings of the reader, such as skipped files.
        empty_classes: Classes of the finest labelled level without a training image.
        unreadable: A description of each file that cannot be decoded, beginning with its path.
        equal_files, several_labels, placeholders, contradictions, across_splits: See
            `IdenticalFiles`.
        near_duplicates: Images that look the same but differ as files.
        to_exclude: Images that should not be trained on, with reasons. Near-duplicates are not
            among them, as the hash can be wrong.
    """

    dataset: str
    root: str
    hierarchy: str
    images: int
    counts: tuple[ClassCount, ...]
    notes: tuple[str, ...]
    empty_classes: tuple[str, ...]
    unreadable: tuple[str, ...]
    equal_files: tuple[DuplicateImages, ...]
    several_labels: tuple[DuplicateImages, ...]
    placeholders: tuple[DuplicateImages, ...]
    contradictions: tuple[DuplicateImages, ...]
    across_splits: tuple[DuplicateImages, ...]
    near_duplicates: tuple[DuplicateImages, ...]
    to_exclude: dict[str, str]

    @property
    def ok(self) -> bool:
        """Whether the dataset is fit for training.

        Identical files of one class are acceptable: a new split keeps them in one part.
        """
        return not self.to_exclude and not self.empty_classes

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain dicts, lists, strings and numbers."""
        kinds = ("contradictions", "across_splits", "placeholders", "several_labels")
        found = {kind: [files.sha256 for files in getattr(self, kind)] for kind in kinds}
        return {**dataclasses.asdict(self), **found, "ok": self.ok}


def check_dataset(
    name: str, folder: Path, hierarchy: Hierarchy | None = None, exclude: Path | None = None
) -> DatasetReport:
    """Read a dataset as `read_dataset` does, decode every image and search for duplicates.

    Near-duplicates are searched for if ImageHash is installed; otherwise a note says so.
    """
    reader, hierarchy = get_dataset(name), choose_hierarchy(name, hierarchy)
    handler = BufferingHandler(sys.maxsize)
    LOGGER.addHandler(handler)
    try:
        samples = read_dataset(name, folder, hierarchy, exclude=exclude)
    finally:
        LOGGER.removeHandler(handler)
    notes = [record.getMessage() for record in handler.buffer]
    if reader.images not in (None, len(samples)):
        notes.append(f"{len(samples)} images; the published number for {name} is {reader.images}")
    notes += _without_suffix(samples)
    files = FileIndex(decode=True, dhash=find_spec("imagehash") is not None)
    checked = files.read([sample.image for sample in samples])
    if not files.dhash:
        notes.append("no search for near-duplicates: it needs pip install 'mdan-zoo[train]'")
    identical = find_identical(samples, files, hierarchy)
    unreadable = {str(file.path): file.problem for file in checked if file.problem}
    # If there are only test images, they count as training images.
    training = [sample for sample in samples if sample.split in ("", "train")] or samples
    used = {sample.labels for sample in training}
    finest = hierarchy.paths(max(map(len, used)) - 1)
    return DatasetReport(
        name,
        str(folder),
        hierarchy.name,
        len(samples),
        _count(samples, hierarchy),
        tuple(notes),
        tuple(hierarchy.class_name(path) for path in finest if path not in used),
        tuple(unreadable.values()),
        **vars(identical),
        near_duplicates=find_near_duplicates(samples, files, hierarchy),
        to_exclude={
            **identical.to_exclude(samples),
            **{
                path: problem.replace(path, "unreadable", 1) for path, problem in unreadable.items()
            },
        },
    )


def _without_suffix(samples: Sequence[Sample]) -> list[str]:
    """Return a note on files without a suffix next to the images, which are mostly downloads."""
    folders = sorted({sample.image.parent for sample in samples})
    inside = (path for folder in folders for path in sorted(folder.iterdir()))
    skipped = [p for p in inside if not p.suffix and p.name[0] != "." and p.is_file()]
    if not skipped:
        return []
    return [f"files without a suffix, such as .jpg, are skipped: {shown(skipped)}"]


def _count(samples: Sequence[Sample], hierarchy: Hierarchy) -> tuple[ClassCount, ...]:
    numbers = Counter((sample.split, sample.labels) for sample in samples)
    splits = [split for split in ("", "train", "val", "test") if split in {s for s, _ in numbers}]
    coarse = {labels for _, labels in numbers if len(labels) < hierarchy.depth}
    return tuple(
        ClassCount(split, hierarchy.class_name(labels), numbers[split, labels])
        for split in splits
        for labels in (*sorted(coarse), *hierarchy.leaf_paths)
    )
