"""Dataset check: unreadable files, contradictory labels, and images in several splits."""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mdan_zoo.datasets.file_index import FileIndex, IndexedFile
from mdan_zoo.datasets.files import LOGGER, shown
from mdan_zoo.datasets.registry import choose_hierarchy, get_dataset
from mdan_zoo.datasets.sample import Sample
from mdan_zoo.hierarchy.tree import Hierarchy

PLACEHOLDER_COPIES = 3
"""From this number of copies on, a file is suspected to be a "photo removed" placeholder."""

_SPLIT_ORDER = ("", "train", "val", "test")


@dataclass(frozen=True)
class ClassCount:
    """Number of images of a leaf in a split; the split is "" where the dataset has none."""

    split: str
    leaf: str
    images: int


@dataclass(frozen=True)
class EqualFiles:
    """Identical image files.

    Attributes:
        sha256: Of the content.
        images: The files.
        leaves: Their classes, each once.
        splits: Their splits, each once.
        groups: Their groups, each once.
    """

    sha256: str
    images: tuple[str, ...]
    leaves: tuple[str, ...]
    splits: tuple[str, ...]
    groups: tuple[str, ...]

    @property
    def has_several_labels(self) -> bool:
        """Whether the dataset itself gives one image several labels, as WEBEmo does.

        The copies then have the same name, group and split.
        """
        names = {Path(image).name for image in self.images}
        return len(self.leaves) > 1 and len(names) == len(self.groups) == len(self.splits) == 1

    @property
    def is_contradiction(self) -> bool:
        """Whether identical files have several labels, which are not the dataset's own."""
        return len(self.leaves) > 1 and not self.has_several_labels

    @property
    def crosses_splits(self) -> bool:
        """Whether identical files are in several splits."""
        return len(self.splits) > 1

    @property
    def is_placeholder(self) -> bool:
        """Whether the number of copies suggests a placeholder."""
        return len(self.images) >= PLACEHOLDER_COPIES and not self.has_several_labels


@dataclass(frozen=True)
class DatasetReport:
    """Content and problems of a dataset.

    Attributes:
        dataset: Its name.
        root: Its folder.
        hierarchy: Name of the hierarchy that it was read with.
        images: Number of samples.
        counts: Images of every leaf in every split.
        notes: Warnings of the reader, such as skipped files.
        empty_classes: Leaves without a training image.
        unreadable: A description of each file that cannot be decoded, beginning with its path.
        equal_files: Groups of identical files.
    """

    dataset: str
    root: str
    hierarchy: str
    images: int
    counts: tuple[ClassCount, ...]
    notes: tuple[str, ...]
    empty_classes: tuple[str, ...]
    unreadable: tuple[str, ...]
    equal_files: tuple[EqualFiles, ...]

    @property
    def contradictions(self) -> tuple[EqualFiles, ...]:
        """Identical files with several labels, except where the dataset itself gives several."""
        return tuple(files for files in self.equal_files if files.is_contradiction)

    @property
    def several_labels(self) -> tuple[EqualFiles, ...]:
        """Images with several labels in the dataset itself."""
        return tuple(files for files in self.equal_files if files.has_several_labels)

    @property
    def across_splits(self) -> tuple[EqualFiles, ...]:
        """Identical files in several splits."""
        return tuple(files for files in self.equal_files if files.crosses_splits)

    @property
    def placeholders(self) -> tuple[EqualFiles, ...]:
        """Identical files that are probably placeholders."""
        return tuple(files for files in self.equal_files if files.is_placeholder)

    @property
    def ok(self) -> bool:
        """Whether the dataset is fit for training.

        Identical files of one class are fine: a new split keeps them in one part.
        """
        return not (
            self.empty_classes
            or self.unreadable
            or self.contradictions
            or self.across_splits
            or self.placeholders
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain dicts, lists, strings and numbers."""
        kinds = ("contradictions", "across_splits", "placeholders", "several_labels")
        found = {kind: [files.sha256 for files in getattr(self, kind)] for kind in kinds}
        return {**dataclasses.asdict(self), **found, "ok": self.ok}


def check_dataset(name: str, folder: Path, hierarchy: Hierarchy | None = None) -> DatasetReport:
    """Read a dataset, decode every image and search for duplicates.

    Args:
        name: One of `mdan_zoo.datasets.registry.DATASETS`.
        folder: The dataset's folder.
        hierarchy: The hierarchy; by default the dataset's own.

    Raises:
        DatasetError: The folder is not a copy of the dataset.
    """
    reader, tree = get_dataset(name), choose_hierarchy(name, hierarchy)
    with _collected_notes() as notes:
        samples = reader.read(folder, tree)
    if reader.images not in (None, len(samples)):
        notes.append(f"{len(samples)} images; {name} is said to have {reader.images}")
    notes += _without_ending(samples)
    files = FileIndex(decode=True).read([sample.image for sample in samples])
    return DatasetReport(
        name,
        str(folder),
        tree.name,
        len(samples),
        _count(samples, tree),
        tuple(notes),
        _empty_classes(samples, tree),
        tuple(file.problem for file in files if file.problem),
        _equal_files(samples, files, tree),
    )


def _without_ending(samples: Sequence[Sample]) -> list[str]:
    """Return a note on files without a suffix next to the images, mostly downloads."""
    folders = sorted({sample.image.parent for sample in samples})
    inside = (path for folder in folders for path in sorted(folder.iterdir()))
    unnamed = [path for path in inside if not path.suffix and path.name[0] != "."]
    unnamed = [path for path in unnamed if path.is_file()]
    if not unnamed:
        return []
    return [f"files without an ending, such as .jpg, are passed over: {shown(unnamed)}"]


class _Notes(logging.Handler):
    """Logging handler that collects messages."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextmanager
def _collected_notes() -> Iterator[list[str]]:
    """Yield a list that collects the warnings of the readers within the block."""
    handler = _Notes()
    LOGGER.addHandler(handler)
    try:
        yield handler.messages
    finally:
        LOGGER.removeHandler(handler)


def _count(samples: Sequence[Sample], tree: Hierarchy) -> tuple[ClassCount, ...]:
    numbers = Counter((sample.split, sample.labels[-1]) for sample in samples)
    splits = sorted({sample.split for sample in samples}, key=_SPLIT_ORDER.index)
    return tuple(
        ClassCount(split, leaf, numbers[split, k])
        for split in splits
        for k, leaf in enumerate(tree.leaves)
    )


def _empty_classes(samples: Sequence[Sample], tree: Hierarchy) -> tuple[str, ...]:
    # A copy may consist of the test images alone.
    training = [sample for sample in samples if sample.split in ("", "train")] or samples
    used = {sample.labels[-1] for sample in training}
    return tuple(leaf for k, leaf in enumerate(tree.leaves) if k not in used)


def _equal_files(
    samples: Sequence[Sample], files: Sequence[IndexedFile], tree: Hierarchy
) -> tuple[EqualFiles, ...]:
    groups: dict[str, list[Sample]] = {}
    for sample, file in zip(samples, files, strict=True):
        groups.setdefault(file.sha256, []).append(sample)
    return tuple(
        EqualFiles(
            sha256,
            tuple(str(sample.image) for sample in group),
            tuple(dict.fromkeys(tree.leaves[sample.labels[-1]] for sample in group)),
            tuple(dict.fromkeys(sample.split for sample in group)),
            tuple(dict.fromkeys(sample.group for sample in group)),
        )
        for sha256, group in groups.items()
        if sha256 and len(group) > 1
    )
