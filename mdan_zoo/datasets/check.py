"""Dataset check: unreadable files, contradictory labels, and images in several splits."""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from logging.handlers import BufferingHandler
from pathlib import Path
from typing import Any

from mdan_zoo.datasets.file_index import FileIndex, IndexedFile
from mdan_zoo.datasets.files import LOGGER, shown
from mdan_zoo.datasets.registry import choose_hierarchy, get_dataset
from mdan_zoo.datasets.sample import Sample
from mdan_zoo.hierarchy.tree import Hierarchy

PLACEHOLDER_COPIES = 3
"""Minimum number of copies of a file that is suspected to be a "photo removed" placeholder."""


@dataclass(frozen=True)
class ClassCount:
    """Number of images of a leaf in a split; the split is "" if the dataset has none."""

    split: str
    leaf: str
    images: int


@dataclass(frozen=True)
class IdenticalFiles:
    """Image files with the same content, and the classes, splits and groups that they are in."""

    sha256: str
    images: tuple[str, ...]
    leaves: tuple[str, ...]
    splits: tuple[str, ...]
    groups: tuple[str, ...]


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
        equal_files: All sets of identical files.
        contradictions: Identical files with several labels that are not the dataset's own.
        across_splits: Identical files in several splits.
        placeholders: Identical files with enough copies to be placeholders.
        several_labels: Images to which the dataset itself gives several labels, as WEBEmo does.
            The copies have the same name, group and split.
    """

    dataset: str
    root: str
    hierarchy: str
    images: int
    counts: tuple[ClassCount, ...]
    notes: tuple[str, ...]
    empty_classes: tuple[str, ...]
    unreadable: tuple[str, ...]
    equal_files: tuple[IdenticalFiles, ...]
    contradictions: tuple[IdenticalFiles, ...]
    across_splits: tuple[IdenticalFiles, ...]
    placeholders: tuple[IdenticalFiles, ...]
    several_labels: tuple[IdenticalFiles, ...]

    @property
    def ok(self) -> bool:
        """Whether the dataset is fit for training.

        Identical files of one class are acceptable: a new split keeps them in one part.
        """
        kinds = ("empty_classes", "unreadable", "contradictions", "across_splits", "placeholders")
        return not any(getattr(self, kind) for kind in kinds)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain dicts, lists, strings and numbers."""
        kinds = ("contradictions", "across_splits", "placeholders", "several_labels")
        found = {kind: [files.sha256 for files in getattr(self, kind)] for kind in kinds}
        return {**dataclasses.asdict(self), **found, "ok": self.ok}


def check_dataset(name: str, folder: Path, hierarchy: Hierarchy | None = None) -> DatasetReport:
    """Read a dataset as `read_dataset` does, decode every image and search for duplicates."""
    reader, hierarchy = get_dataset(name), choose_hierarchy(name, hierarchy)
    handler = BufferingHandler(sys.maxsize)
    LOGGER.addHandler(handler)
    try:
        samples = reader.read(folder, hierarchy)
    finally:
        LOGGER.removeHandler(handler)
    notes = [record.getMessage() for record in handler.buffer]
    if reader.images not in (None, len(samples)):
        notes.append(f"{len(samples)} images; the published number for {name} is {reader.images}")
    notes += _without_suffix(samples)
    files = FileIndex(decode=True).read([sample.image for sample in samples])
    identical = _identical_files(samples, files, hierarchy)
    # If there are only test images, they count as training images.
    training = [sample for sample in samples if sample.split in ("", "train")] or samples
    used = {sample.labels for sample in training}
    finest = hierarchy.paths(max(map(len, used)) - 1)
    several = tuple(found for found in identical if _has_several_labels(found))
    others = [found for found in identical if not _has_several_labels(found)]
    return DatasetReport(
        name,
        str(folder),
        hierarchy.name,
        len(samples),
        _count(samples, hierarchy),
        tuple(notes),
        tuple(hierarchy.class_name(path) for path in finest if path not in used),
        tuple(file.problem for file in files if file.problem),
        identical,
        contradictions=tuple(found for found in others if len(found.leaves) > 1),
        across_splits=tuple(found for found in identical if len(found.splits) > 1),
        placeholders=tuple(found for found in others if len(found.images) >= PLACEHOLDER_COPIES),
        several_labels=several,
    )


def _has_several_labels(files: IdenticalFiles) -> bool:
    names = {Path(image).name for image in files.images}
    return len(files.leaves) > 1 and len(names) == len(files.groups) == len(files.splits) == 1


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


def _identical_files(
    samples: Sequence[Sample], files: Sequence[IndexedFile], hierarchy: Hierarchy
) -> tuple[IdenticalFiles, ...]:
    groups: dict[str, list[Sample]] = {}
    for sample, file in zip(samples, files, strict=True):
        groups.setdefault(file.sha256, []).append(sample)
    return tuple(
        IdenticalFiles(
            sha256,
            tuple(str(sample.image) for sample in group),
            tuple(dict.fromkeys(hierarchy.class_name(sample.labels) for sample in group)),
            tuple(dict.fromkeys(sample.split for sample in group)),
            tuple(dict.fromkeys(sample.group for sample in group)),
        )
        for sha256, group in groups.items()
        if sha256 and len(group) > 1
    )
