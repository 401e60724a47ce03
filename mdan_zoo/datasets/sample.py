"""Sample: an image, its class at the labelled levels, and the group that it belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Sample:
    """One labelled image.

    Attributes:
        image: Image file.
        labels: Class ids, coarse to fine. An image that is labelled at a coarse level only, such
            as its polarity, has no ids of the finer levels.
        distribution: Share of raters for every class of the finest labelled level, summing to one;
            all on one class if only a label is known.
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
