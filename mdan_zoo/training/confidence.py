"""Confidence filter: removes images with uncertain predictions from the training part of a split.

After You et al., Robust Image Sentiment Analysis Using Progressively Trained and Domain Transferred
Deep Networks, AAAI 2015.
"""

from __future__ import annotations

import math
import os
import random
from collections.abc import Iterable
from pathlib import Path

from mdan_zoo.datasets.splits import Split
from mdan_zoo.errors import DatasetError, InputError
from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.training.distillation import read_predictions

UNCERTAIN = "uncertain"
"""The part of a split that has the removed images."""


def without_uncertain(
    split: Split, folder: Path, hierarchy: Hierarchy, table: Path, seed: int = 0
) -> Split:
    """Return a split with some images of the part "train" moved to the part `UNCERTAIN`.

    An image is moved with the probability max(0, 2 - exp(g)), where g is the difference between the
    two largest probabilities at the finest level: 1 if they are equal, and 0 if g is at least ln 2.
    Images without a prediction stay.

    Args:
        split: The split.
        folder: Folder of the dataset.
        hierarchy: Hierarchy of the predictions.
        table: Predictions of a model that was trained on the part "train", written by
            `mdan-zoo predict --format csv`. Relative names are relative to the current folder.
        seed: Seed of the random numbers.

    Raises:
        InputError: The split has no part "train".
        DatasetError: The table is not as expected, has none of the images, or none would be left.
    """
    parts: dict[str, Iterable[str]] = dict(split.parts)
    if "train" not in parts:
        raise InputError(
            f"only a split with the part train can be filtered, not {split.method!r}, which has "
            f"the parts {', '.join(parts)}"
        )
    shares = read_predictions(table, hierarchy).shares or {}
    base, numbers = folder / split.folder, random.Random(seed)
    drawn = {name: numbers.random() for name in parts["train"]}
    paths = {name: os.path.abspath(base / name) for name in drawn}
    gaps = {name: _gap(shares[path][-1]) for name, path in paths.items() if path in shares}
    removed = {name for name, gap in gaps.items() if drawn[name] < 2 - math.exp(gap)}
    kept = [name for name in parts["train"] if name not in removed]
    about = f"of the {len(drawn):,} training images of {split.dataset}"
    if not gaps:
        raise DatasetError(f"none {about} is in {table}")
    if not kept:
        raise DatasetError(f"all {about} have uncertain predictions in {table}")
    parts["train"] = kept
    if removed:
        parts[UNCERTAIN] = removed
    method = f"{split.method}, without uncertain images"
    return Split.from_parts(split.dataset, method, split.folder, parts)


def _gap(probabilities: Iterable[float]) -> float:
    """Return the difference between the two largest probabilities; 0 is added to a single one."""
    second, first = sorted([0.0, *probabilities])[-2:]
    return first - second
