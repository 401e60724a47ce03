"""Sample: an image, its class at every level, and the group that it belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Sample:
    """One labelled image.

    Attributes:
        image: Image file.
        labels: Class ids of all levels, coarse to fine.
        distribution: Share of raters for every leaf, summing to one; all on one leaf if only a
            label is known.
        group: Images of one group show the same subject and are never divided by a split.
        ratings: Pairs (name, mean rating), such as ("valence", 4.7), if the dataset has them.
        split: "train", "val" or "test" if the dataset has an official split, else "".
    """

    image: Path
    labels: tuple[int, ...]
    distribution: tuple[float, ...]
    group: str
    ratings: tuple[tuple[str, float], ...] = ()
    split: str = ""
