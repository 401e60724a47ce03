"""Sample: an image, its class at every level, and the group that it belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Sample:
    """One labelled image.

    Attributes:
        image: Its file.
        labels: Class id at every level of the tree, coarse to fine.
        distribution: Share of raters for every leaf, summing to one; all on one leaf where only
            a label is known.
        group: Images of one group show the same thing and never stand on both sides of a split.
        ratings: Mean ratings by name, such as {"valence": 4.7, "arousal": 2.3}, where the data
            set has them, as pairs.
        split: "train", "val" or "test" where the data set itself says so, else "".
    """

    image: Path
    labels: tuple[int, ...]
    distribution: tuple[float, ...]
    group: str
    ratings: tuple[tuple[str, float], ...] = ()
    split: str = ""
