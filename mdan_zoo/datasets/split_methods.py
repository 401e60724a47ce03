"""Split methods: official, percentages and folds, independent of the order of the samples.

All but the official split and `grouped_folds` assign the groups to parts in an order by class and
then by a hash of the seed and the name of the group.
"""

from __future__ import annotations

import dataclasses
import hashlib
import posixpath
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mdan_zoo.datasets.file_index import FileIndex
from mdan_zoo.datasets.sample import Sample
from mdan_zoo.datasets.splits import Split, group_members, grouped_folds, image_names
from mdan_zoo.errors import DatasetError, InputError

_PART_NAMES = {2: ("train", "test"), 3: ("train", "val", "test")}


def make_split(
    dataset: str,
    samples: Sequence[Sample],
    folder: Path,
    method: str,
    seed: int = 0,
    files: FileIndex | None = None,
) -> Split:
    """Split a dataset.

    Args:
        dataset: Its name.
        samples: Its images. All images of a group are put into one part. Except in the official
            split, groups that contain identical files are also kept together.
        folder: Its folder, with all images below it.
        method: One of

            * "80/20" and other percentages that sum to 100: the parts "train" and "test".
            * "80/5/15" and the like: the parts "train", "val" and "test".
            * "5-fold" and the like: the parts "0" to "4".
            * "grouped-5-fold" and the like: the parts "0" to "4", made by `grouped_folds`, which
              ignores classes.
            * "official": the parts of the dataset itself.
            * "official or 80/20" and the like: "official" if it has parts, else the other.

            Percentages and folds hold within every class of the finest level (for a group, the
            class of most of its images), up to a few images: with k parts and at most n images in
            a group, fewer than k * n off for a class whose groups are pure, and fewer than
            (k - 1) * n off for a part as a whole.
        seed: Seed of the split; not used by the official one.
        files: Index in which identical files are looked up.

    Raises:
        DatasetError: The dataset cannot be split by this method.
        InputError: The method is unknown.
    """
    names = image_names(samples, folder)
    described = describe_method(samples, method, seed)
    method = described.removesuffix(f", seed {seed}")
    parts = _divide(samples, names, method, seed, files or FileIndex())
    empty = [part for part, indices in parts.items() if not indices]
    if empty:
        raise DatasetError(
            f"{dataset} has {len(samples)} images in {folder}, too few for {method}: "
            f"nothing is left for {', '.join(empty)}"
        )
    # Copies of a dataset differ in the folders around the images, so names are relative to these.
    base = posixpath.commonpath([posixpath.dirname(name) for name in names]) or "."
    inside = [name.removeprefix(f"{base}/") for name in names]
    return Split.from_parts(
        dataset,
        described,
        base,
        {part: [inside[index] for index in indices] for part, indices in parts.items()},
    )


def describe_method(samples: Sequence[Sample], method: str, seed: int = 0) -> str:
    """Return the `Split.method` of what `make_split` makes of these samples."""
    other = method.removeprefix("official or ")
    if other == "official" or (other != method and any(sample.split for sample in samples)):
        return "official"
    return f"{other}, seed {seed}"


def _divide(
    samples: Sequence[Sample], names: Sequence[str], method: str, seed: int, files: FileIndex
) -> dict[str, list[int]]:
    if method == "official":
        return _official(samples, names)
    if match := re.fullmatch(r"(grouped-)?(\d{1,4})-fold", method):
        joined, count = _joined(samples, files), int(match[2])
        if match[1]:
            folds = grouped_folds(joined, count, seed)
        else:
            folds = _deal(_units(joined, seed, count), [1] * count)
        return {str(number): fold for number, fold in enumerate(folds)}
    shares = [int(share) for share in re.findall(r"\d{1,3}", method)]
    known = "/".join(map(str, shares)) == method and len(shares) in _PART_NAMES
    if not known or sum(shares) != 100 or 0 in shares:
        raise InputError(
            "the split method must be 'official', percentages that sum to 100 such as '80/20' or "
            f"'80/5/15', '5-fold' or 'grouped-5-fold', not {method!r}"
        )
    dealt = _deal(_units(_joined(samples, files), seed), shares)
    return dict(zip(_PART_NAMES[len(shares)], dealt, strict=True))


def _official(samples: Sequence[Sample], names: Sequence[str]) -> dict[str, list[int]]:
    parts: dict[str, list[int]] = {}
    for index, sample in enumerate(samples):
        parts.setdefault(sample.split, []).append(index)
    unassigned = parts.get("", [])
    if unassigned or not samples:
        which = f", such as {names[unassigned[0]]!r}" if unassigned else ""
        raise DatasetError(
            "this dataset has no official split: "
            f"{len(unassigned)} of its {len(samples)} images are in no official part{which}; "
            "use another method, such as 80/20"
        )
    return parts


def _joined(samples: Sequence[Sample], files: FileIndex) -> list[Sample]:
    """Return the samples with groups merged where they contain identical files."""
    joined: dict[str, str] = {}

    def root(group: str) -> str:
        while group in joined:
            group = joined[group]
        return group

    groups = {sample.image: sample.group for sample in samples}
    for same in files.duplicates(groups):  # missing files are reported when they are read
        first, *others = sorted({root(groups[image]) for image in same})
        joined.update(dict.fromkeys(others, first))
    return [dataclasses.replace(sample, group=root(sample.group)) for sample in samples]


def _units(samples: Sequence[Sample], seed: int, folds: int | None = None) -> list[list[int]]:
    """Return the indices of every group, ordered by class and then by the seed."""

    def place(members: list[int]) -> tuple[tuple[int, int], str]:
        finest = (samples[index].labels for index in members)
        counts = Counter((len(labels), labels[-1]) for labels in finest)
        leaf = min(counts, key=lambda leaf: (-counts[leaf], leaf))
        # Names that are not UTF-8 raise an error later.
        text = f"{seed}\t{samples[members[0]].group}".encode(errors="replace")
        return leaf, hashlib.sha256(text).hexdigest()

    return sorted(group_members(samples, folds), key=place)


def _deal(units: Sequence[Sequence[int]], shares: Sequence[int]) -> list[list[int]]:
    """Assign each unit to the part that is furthest below its share of the images so far.

    Every part then has nearly its share of any run of consecutive units, such as a class.
    """
    parts: list[list[int]] = [[] for _ in shares]
    lacking = [0] * len(shares)  # in images times the sum of the shares, so that it stays exact
    for unit in units:
        lacking = [lack + share * len(unit) for lack, share in zip(lacking, shares, strict=True)]
        poorest = lacking.index(max(lacking))
        lacking[poorest] -= sum(shares) * len(unit)
        parts[poorest].extend(unit)
    return parts
