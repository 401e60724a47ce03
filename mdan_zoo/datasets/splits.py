"""Splits: which pictures train and which test. Groups stay together."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence

from mdan_zoo.datasets.sample import Sample
from mdan_zoo.errors import DatasetError


def grouped_folds(samples: Sequence[Sample], folds: int, seed: int) -> list[list[int]]:
    """Divide samples into folds of nearly equal size, no group in two of them.

    Args:
        samples: The data set.
        folds: How many folds, at least 2.
        seed: Another seed gives another division.

    Returns:
        For every fold the indices of its samples, ascending.

    Raises:
        DatasetError: There are fewer groups than folds.
    """
    members: dict[str, list[int]] = {}
    for index, sample in enumerate(samples):
        members.setdefault(sample.group, []).append(index)
    if not 2 <= folds <= len(members):
        raise DatasetError(f"cannot make {folds} folds of {len(members)} groups of pictures")
    order = sorted(members)
    random.Random(seed).shuffle(order)
    result: list[list[int]] = [[] for _ in range(folds)]
    for group in order:
        min(result, key=len).extend(members[group])
    return [sorted(fold) for fold in result]


def split_sha256(samples: Sequence[Sample], folds: Sequence[Sequence[int]]) -> str:
    """Return the SHA-256 of a split: of its lines "fold<TAB>file name", sorted."""
    lines = sorted(
        f"{number}\t{samples[index].picture.name}\n"
        for number, fold in enumerate(folds)
        for index in fold
    )
    return hashlib.sha256("".join(lines).encode()).hexdigest()
