"""What the paper reports, to set a model's own numbers beside. No torch.

Xu, Wang, Wu & Lui, "MDAN: Multi-level Dependent Attention Network for Visual Emotion Analysis",
CVPR 2022: Table 1 and Table 3, accuracies in percent on the testing set.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from mdan_zoo.errors import UnknownNameError, did_you_mean


@dataclass(frozen=True)
class PaperResult:
    """One number of the paper.

    Attributes:
        benchmark: The data set.
        model: The system, by its usual name.
        level: Name of the level of the data set's emotion tree.
        accuracy: In percent.
        branch: Of MDAN's three predictions; "overall" for every other system.
        table: Where it stands: the table, and the row as the paper names it.
        note: What has to be known to compare with it.
    """

    benchmark: str
    model: str
    level: str
    accuracy: float
    branch: Literal["overall", "local", "global"]
    table: str
    note: str = ""


def paper_results(benchmark: str) -> list[PaperResult]:
    """Return what the paper reports on a data set, in the order of its tables.

    Args:
        benchmark: One of WEBEmo, Emotion-6, FI, ArtPhoto, IAPSsubset and Abstract; for those of
            `NOT_IN_THE_PAPER` the list is empty.

    Raises:
        UnknownNameError: Neither the paper nor the zoo has a data set of that name.
    """
    known = {*(name for name, _ in _COLUMNS), *NOT_IN_THE_PAPER}
    if benchmark not in known:
        raise UnknownNameError(
            f"there is no benchmark {benchmark!r}; {did_you_mean(benchmark, sorted(known))}"
        )
    return [result for result in (*_table_1(), *_table_3()) if result.benchmark == benchmark]


NOT_IN_THE_PAPER = {
    "EmoSet-118K": "it appeared a year later, at ICCV 2023",
    "Emotion6": "what Table 1 calls so are the 8,350 images of Emotion-6, by section 5.1",
    "OASIS": "it is no benchmark of classes: its ratings are of valence and arousal",
    "UnBiasedEmo": "it is by the authors of Emotion-6, whose other two data sets the paper has",
}
"""Data sets that the zoo can read and the paper does not report on, with what explains it."""

_COLUMNS = (
    ("Emotion-6", "polarity"),
    ("Emotion-6", "primary"),
    ("FI", "polarity"),
    ("FI", "emotion"),
    ("WEBEmo", "polarity"),
    ("WEBEmo", "primary"),
    ("WEBEmo", "secondary"),
    ("ArtPhoto", "polarity"),
    ("ArtPhoto", "emotion"),
    ("IAPSsubset", "polarity"),
    ("IAPSsubset", "emotion"),
    ("Abstract", "polarity"),
    ("Abstract", "emotion"),
)
"""The columns of Table 1, from left to right. Its "Emotion" is Emotion-6."""

# The name of the system, the row's name in the paper, and the row; None is the paper's "-".
_TABLE_1: tuple[tuple[str, str, tuple[float | None, ...]], ...] = (
    (
        "SentiBank",
        "Sentibank [1]",
        (None, None, 56.47, 44.49, None, None, None, 67.74, 53.96, 81.79, 73.58, 64.95, 50.68),
    ),
    (
        "DeepSentiBank",
        "DeepSentibank [3]",
        (None, None, 64.39, 53.16, None, None, None, 68.73, 68.54, 85.63, 75.88, 71.19, 66.46),
    ),
    (
        "AlexNet",
        "AlexNet [7]",
        (75.88, 51.35, 72.43, 58.30, None, 48.66, 28.21, 69.27, 67.03, 84.58, 72.24, 65.49, 61.96),
    ),
    (
        "VGG-16",
        "VGGNet-16 [17]",
        (None, None, 83.05, None, None, None, None, 70.09, 68.16, 88.51, 74.78, 72.48, 62.41),
    ),
    (
        "PCNN",
        "PCNN [25]",
        (None, None, 75.34, 56.16, None, None, None, 70.96, 68.93, 88.84, 76.87, 70.84, 67.17),
    ),
    (
        "ResNet-50",
        "ResNet-50 [6]",
        (79.23, 54.99, 85.43, 64.74, 76.65, 51.97, 31.80, 70.93, None, 89.95, None, 73.07, None),
    ),
    (
        "ResNet-101",
        "ResNet-101 [6]",
        (79.78, 56.69, 85.92, 66.16, 78.17, 52.35, 32.14, 71.08, 69.36, 90.13, 75.09, 73.36, 63.56),
    ),
    (
        "Zhu 2017",
        "Zhu et al. [34]",
        (None, None, 84.26, 73.03, None, None, None, 75.50, 71.63, 91.38, 82.39, 73.88, 68.45),
    ),
    (
        "Panda 2018",
        "Panda [12]",
        (77.72, None, 84.81, None, 81.41, None, None, None, None, None, None, None, None),
    ),
    (
        "Yang 2018",
        "Yang et al. [23]",
        (None, None, 86.35, None, None, None, None, 74.80, None, 92.39, None, 76.03, None),
    ),
    (
        "Rao 2019",
        "Rao et al. [14]",
        (81.87, None, 87.51, 75.46, None, None, None, 77.28, 74.58, 93.66, 84.71, 77.77, 70.77),
    ),
    (
        "WSCNet",
        "WSCNet [16]",
        (82.15, 58.47, 86.74, 70.07, 79.43, 52.61, 32.75, 80.38, 72.86, 94.61, 82.25, 77.84, 64.45),
    ),
    (
        "PDANet",
        "PDANet [30]",
        (82.27, 59.24, 87.25, 72.13, 80.96, 53.46, 32.82, 80.27, 74.62, 95.18, 80.92, 78.24, 67.13),
    ),
    (
        "Zhang & Xu 2020",
        "Zhang [28]",
        (82.95, 60.41, 90.97, 75.91, 82.47, 53.88, 33.01, 79.24, None, 95.83, None, 83.02, None),
    ),
    (
        "MDAN",
        "Ours",
        (84.62, 61.66, 91.08, 76.41, 82.72, 55.65, 34.28, 91.50, 78.12, 96.73, 85.96, 83.80, 72.34),
    ),
)

# The row's name in the paper, its data set and level, and the accuracies of P_L and P_G. The third
# column, P_O, repeats the last row of Table 1.
_TABLE_3 = (
    ("Emotion-6", ("Emotion-6", "primary"), 60.73, 58.83),
    ("FI-8", ("FI", "emotion"), 75.21, 72.75),
    ("WEBEmo-6", ("WEBEmo", "primary"), 53.88, 53.34),
    ("WEBEmo-25", ("WEBEmo", "secondary"), 34.03, 32.95),
    ("Emotion-2", ("Emotion-6", "polarity"), 84.44, 81.48),
    ("FI-2", ("FI", "polarity"), 89.50, 87.39),
    ("WEBEmo-2", ("WEBEmo", "polarity"), 82.53, 79.91),
    ("Abstract-2", ("Abstract", "polarity"), 84.15, 80.64),
    ("IAPSsubset-2", ("IAPSsubset", "polarity"), 95.75, 95.25),
    ("ArtPhoto-2", ("ArtPhoto", "polarity"), 92.50, 89.38),
)

# Section 5.2, for the paper's own model.
_FIVE_FOLDS = "mean of 5-fold cross-validation after training on FI"
_PROTOCOLS = {
    "Emotion-6": "mean of three runs; 80 % of the images train, 20 % test",
    "FI": "mean of three runs; 80 % of the images train, 5 % validate, 15 % test",
    "WEBEmo": "one run; 80 % of the images train, 20 % test",
    "ArtPhoto": _FIVE_FOLDS,
    "IAPSsubset": _FIVE_FOLDS,
    "Abstract": _FIVE_FOLDS,
}


def _table_1() -> Iterator[PaperResult]:
    for model, row, values in _TABLE_1:
        for (benchmark, level), accuracy in zip(_COLUMNS, values, strict=True):
            if accuracy is not None:
                note = _PROTOCOLS[benchmark] if model == "MDAN" else ""
                yield PaperResult(
                    benchmark, model, level, accuracy, "overall", f"Table 1, {row}", note
                )


def _table_3() -> Iterator[PaperResult]:
    for row, (benchmark, level), local, global_ in _TABLE_3:
        place, note = f"Table 3, {row}", _PROTOCOLS[benchmark]
        yield PaperResult(benchmark, "MDAN", level, local, "local", place, note)
        yield PaperResult(benchmark, "MDAN", level, global_, "global", place, note)
