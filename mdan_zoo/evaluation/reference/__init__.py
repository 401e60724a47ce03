"""Published results for comparison: `paper.csv`, `ablations.csv` and `other.csv`.

`paper.csv` holds Tables 1 and 3 of Xu, Wang, Wu & Lui, "MDAN: Multi-level Dependent Attention
Network for Visual Emotion Analysis", CVPR 2022, and `ablations.csv` Tables 2, 4 and 5. `other.csv`
holds majority-class baselines and results of other publications. All accuracies are in percent, on
the test set.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib import resources

NOT_IN_THE_PAPER = {
    "EmoSet-118K": "it was published a year later, at ICCV 2023",
    "Emotion6": '"Emotion" in Table 1 is Emotion-6, with 8,350 images (section 5.1)',
    "GAPED": "it has categories and ratings of valence and arousal instead of emotions",
    "MVSA-Single": "it has labels of the polarity only",
    "OASIS": "it has ratings of valence and arousal instead of classes",
    "Twitter-I": "it has labels of the polarity only",
    "UnBiasedEmo": "of the datasets by its authors, the paper uses Emotion-6 and WEBEmo",
}
"""Supported datasets without results in the paper, with the reason."""


@dataclass(frozen=True)
class ReferenceResult:
    """A published accuracy in percent: a number, or a range such as "70 to 74"."""

    dataset: str
    model: str
    level: str
    branch: str  # "overall" for all models other than MDAN
    accuracy: str
    source: str  # the publication, or the table and row of the paper
    note: str = ""  # remarks on comparability

    @property
    def low(self) -> float:
        """The accuracy, or the lower end of the range."""
        return float(self.accuracy.split(" to ")[0])

    @property
    def high(self) -> float:
        """The accuracy, or the upper end of the range."""
        return float(self.accuracy.split(" to ")[-1])

    def to_dict(self) -> dict[str, str | float]:
        """Return all fields as JSON types, with `low` and `high` as numbers."""
        return {**vars(self), "low": self.low, "high": self.high}


def paper_results(dataset: str) -> list[ReferenceResult]:
    """Return the results of the MDAN paper on a dataset, in the order of its tables."""
    return _load("paper.csv", dataset)


def ablation_results(dataset: str) -> list[ReferenceResult]:
    """Return the results of the ablation studies of the paper on a dataset."""
    return _load("ablations.csv", dataset)


def other_results(dataset: str) -> list[ReferenceResult]:
    """Return baselines and results of other publications on a dataset."""
    return _load("other.csv", dataset)


def _load(name: str, dataset: str) -> list[ReferenceResult]:
    text = resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    return [ReferenceResult(**row) for row in rows if row["dataset"] == dataset]
