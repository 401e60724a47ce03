"""Duplicate images of a dataset: identical files, and near-duplicates by a perceptual hash."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mdan_zoo.datasets.file_index import FileIndex
from mdan_zoo.datasets.files import shown
from mdan_zoo.datasets.sample import Sample
from mdan_zoo.hierarchy.tree import Hierarchy

PLACEHOLDER_COPIES = 3
"""Minimum number of identical files in several classes that are taken for a placeholder."""

_MAX_DISTANCE = 12
"""Largest Hamming distance between the 256-bit hashes of near-duplicates."""

_MIN_BITS = 32
"""Hashes with fewer ones, or fewer zeros, are of flat images or gradients, which are all alike."""

_BLOCK = 256  # rows of the distance matrix that are in memory at a time
_SPLITS = ("", "train", "val", "test")


@dataclass(frozen=True)
class DuplicateImages:
    """Images with the same content, and the classes, splits and groups that they are in.

    `sha256` is that of the identical files, or "" for near-duplicates.
    """

    sha256: str
    images: tuple[str, ...]
    leaves: tuple[str, ...]
    splits: tuple[str, ...]
    groups: tuple[str, ...]

    def __str__(self) -> str:
        splits = f" ({', '.join(self.splits)})" if len(self.splits) > 1 else ""
        where = ", ".join(self.leaves) + splits
        return f"{len(self.images)} files in {where}: {shown(self.images)}"


@dataclass(frozen=True)
class IdenticalFiles:
    """Sets of identical files in a dataset.

    Attributes:
        equal_files: All sets.
        several_labels: Those to which the dataset itself gives several labels, as WEBEmo does: the
            copies have the same name, group and split.
        placeholders: Of the others, those in several classes with `PLACEHOLDER_COPIES` or more
            copies, such as the image "photo no longer available" of a website.
        contradictions: Of the others, those in several classes with fewer copies.
        across_splits: Those in several splits.
    """

    equal_files: tuple[DuplicateImages, ...]
    several_labels: tuple[DuplicateImages, ...]
    placeholders: tuple[DuplicateImages, ...]
    contradictions: tuple[DuplicateImages, ...]
    across_splits: tuple[DuplicateImages, ...]

    def to_exclude(self, samples: Sequence[Sample]) -> dict[str, str]:
        """Return the images that should not be trained on, and why.

        Of identical files in several splits, those in the last one, such as test, are kept.
        """
        reasons = {
            image: f"{kind}: {len(found.images)} identical files in {', '.join(found.leaves)}"
            for kind in ("placeholder", "contradiction")
            for found in getattr(self, f"{kind}s")
            for image in found.images
        }
        split = {str(sample.image): sample.split for sample in samples}
        for found in self.across_splits:
            last = max(found.splits, key=_SPLITS.index)
            for image in found.images:
                if split[image] != last:
                    reasons.setdefault(image, f"across splits: also in {last}")
        return reasons


def find_identical(
    samples: Sequence[Sample], files: FileIndex, hierarchy: Hierarchy
) -> IdenticalFiles:
    """Find the identical files of a dataset; only files that share their size are read."""
    known = {sample.image: sample for sample in samples}
    found = []
    for same in files.duplicates(known):
        (sha256,) = {file.sha256 for file in files.read(same)}
        found.append(_describe([known[path] for path in same], hierarchy, sha256))
    found.sort(key=lambda same: same.images)
    several = [same for same in found if len(same.leaves) > 1]
    own = [same for same in several if _has_one_name(same)]
    others = [same for same in several if not _has_one_name(same)]
    return IdenticalFiles(
        tuple(found),
        tuple(own),
        tuple(same for same in others if len(same.images) >= PLACEHOLDER_COPIES),
        tuple(same for same in others if len(same.images) < PLACEHOLDER_COPIES),
        tuple(same for same in found if len(same.splits) > 1),
    )


def find_near_duplicates(
    samples: Sequence[Sample], files: FileIndex, hierarchy: Hierarchy
) -> tuple[DuplicateImages, ...]:
    """Find images that look the same but differ as files, such as resized or re-encoded copies.

    `files` must have perceptual hashes.
    """
    by_content: dict[str, list[Sample]] = {}
    hashes: dict[str, bytes] = {}
    for sample, file in zip(samples, files.read([s.image for s in samples]), strict=True):
        if file.dhash:
            by_content.setdefault(file.sha256, []).append(sample)
            hashes[file.sha256] = file.dhash
    contents = list(by_content.values())
    return tuple(
        _describe([sample for index in group for sample in contents[index]], hierarchy)
        for group in group_hashes(list(hashes.values()))
    )


def group_hashes(hashes: Sequence[bytes]) -> list[list[int]]:
    """Return the indices of hashes that are near each other, in groups of two or more.

    Each hash of a group is within 12 bits of another one. Hashes of almost only zeros or ones are
    in no group.
    """
    if not hashes:
        return []
    import numpy as np
    from scipy.sparse import coo_array  # a dependency of ImageHash
    from scipy.sparse.csgraph import connected_components

    bits = np.unpackbits(np.array([np.frombuffer(found, np.uint8) for found in hashes]), axis=1)
    length, ones = bits.shape[1], bits.sum(axis=1)
    used = np.flatnonzero((ones >= _MIN_BITS) & (ones <= length - _MIN_BITS))
    # The product of two vectors of 1 and -1 is the number of equal minus that of unequal bits.
    signs = np.where(bits[used], 1, -1).astype(np.float32)
    pairs = [np.empty((2, 0), np.intp)]
    for start in range(0, len(signs), _BLOCK):
        product = signs[start : start + _BLOCK] @ signs[start:].T
        pairs.append(np.array(np.nonzero(product >= length - 2 * _MAX_DISTANCE)) + start)
    rows, columns = np.concatenate(pairs, axis=1)
    graph = coo_array((np.ones(len(rows), bool), (rows, columns)), shape=(len(used), len(used)))
    groups: dict[int, list[int]] = {}
    for index, component in zip(used, connected_components(graph, directed=False)[1], strict=True):
        groups.setdefault(int(component), []).append(int(index))
    return [group for group in groups.values() if len(group) > 1]


def _has_one_name(same: DuplicateImages) -> bool:
    names = {Path(image).name for image in same.images}
    return len(names) == len(same.groups) == len(same.splits) == 1


def _describe(samples: Sequence[Sample], hierarchy: Hierarchy, sha256: str = "") -> DuplicateImages:
    paths = {sample.labels for sample in samples}
    # A coarse label agrees with those of its descendants.
    finest = [p for p in paths if not any(q != p and q[: len(p)] == p for q in paths)]
    return DuplicateImages(
        sha256,
        tuple(str(sample.image) for sample in samples),
        tuple(
            hierarchy.class_name(s) for s in dict.fromkeys(s.labels for s in samples) if s in finest
        ),
        tuple(dict.fromkeys(sample.split for sample in samples)),
        tuple(dict.fromkeys(sample.group for sample in samples)),
    )
