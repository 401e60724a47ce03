"""What is known of the benchmarks besides the paper's numbers, to be shown apart from them.

From later publications, from the releases' own lists, and by counting. All accuracies in percent.
No torch.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class KnownResult:
    """One number, or the range of several, that is not the paper's.

    Attributes:
        benchmark: The data set.
        level: Name of the level of the data set's emotion tree.
        system: What the number is of.
        low: In percent.
        high: The same, but for a range.
        source: Where it comes from.
        note: What has to be known to compare with it.
    """

    benchmark: str
    level: str
    system: str
    low: float
    high: float
    source: str
    note: str = ""

    @property
    def accuracy(self) -> str:
        """The number or the range, as text."""
        return f"{self.low:g}" if self.low == self.high else f"{self.low:g} to {self.high:g}"


def known_results(benchmark: str) -> list[KnownResult]:
    """Return what is known of a data set, by level; empty where nothing is."""
    return [result for result in KNOWN if result.benchmark == benchmark]


_MAJORITY = "always the most frequent class"
_EMOSET = "Yang et al., EmoSet, ICCV 2023"
_RETRAINED = "retrained there, the only independent training of MDAN that was found"
_LIST = "counted in the release's test list"

KNOWN = (
    KnownResult("WEBEmo", "polarity", _MAJORITY, 54.3, 54.3, "by counting", "it is negative"),
    KnownResult("WEBEmo", "secondary", _MAJORITY, 11.4, 11.4, "by counting"),
    KnownResult(
        "WEBEmo",
        "secondary",
        "frozen CLIP B/32 with an MLP",
        40.65,
        40.65,
        "a later report",
        "on another partition of the images than MDAN's 34.28",
    ),
    KnownResult(
        "WEBEmo",
        "secondary",
        "the most that one answer an image can reach",
        95.74,
        95.74,
        _LIST,
        "2,140 of its addresses have more than one label",
    ),
    KnownResult("FI", "polarity", _MAJORITY, 70.5, 70.5, "by counting"),
    KnownResult("FI", "emotion", _MAJORITY, 23.1, 23.1, "by counting"),
    KnownResult(
        "FI",
        "emotion",
        "the models of later papers",
        70,
        74,
        "later papers",
        "none that was found is above the 76.41 that the paper reports for MDAN",
    ),
    KnownResult("EmoSet-118K", "polarity", "MDAN", 93.71, 93.71, _EMOSET, _RETRAINED),
    KnownResult("EmoSet-118K", "polarity", "ResNet-50", 93.48, 93.48, _EMOSET),
    KnownResult("EmoSet-118K", "emotion", "MDAN", 75.75, 75.75, _EMOSET, _RETRAINED),
    KnownResult("EmoSet-118K", "emotion", "ResNet-50", 74.04, 74.04, _EMOSET),
    KnownResult(
        "ArtPhoto",
        "emotion",
        "independent results",
        30,
        45,
        "other authors",
        "far below the paper's 78.12, which is not to be expected",
    ),
    KnownResult(
        "Abstract",
        "emotion",
        "independent results",
        30,
        45,
        "other authors",
        "far below the paper's 72.34, which is not to be expected",
    ),
)
