"""Results of the paper: equal to its tables, and consistent with each other and with its text."""

from __future__ import annotations

import pytest

from mdan_zoo.datasets.registry import DATASETS
from mdan_zoo.evaluation.reference import NOT_IN_THE_PAPER, ReferenceResult, paper_results
from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.zoo.configs import MODELS

TREES = {name: get_hierarchy(data.hierarchy) for name, data in DATASETS.items() if data.hierarchy}
REPORTED = [name for name in TREES if name not in NOT_IN_THE_PAPER]


def accuracy(benchmark: str, model: str, level: str, branch: str = "overall") -> float:
    (result,) = (
        result
        for result in paper_results(benchmark)
        if (result.model, result.level, result.branch) == (model, level, branch)
    )
    assert result.low == result.high
    return result.low


@pytest.mark.parametrize(
    ("benchmark", "model", "level", "branch", "percent"),
    [
        ("WEBEmo", "MDAN", "secondary", "overall", 34.28),
        ("WEBEmo", "MDAN", "primary", "overall", 55.65),
        ("WEBEmo", "MDAN", "polarity", "local", 82.53),
        ("WEBEmo", "AlexNet", "primary", "overall", 48.66),
        ("Emotion-6", "MDAN", "primary", "global", 58.83),
        ("Emotion-6", "Panda 2018", "polarity", "overall", 77.72),
        ("FI", "MDAN", "emotion", "overall", 76.41),
        ("FI", "WSCNet", "emotion", "overall", 70.07),
        ("ArtPhoto", "MDAN", "polarity", "local", 92.50),
        ("ArtPhoto", "ResNet-50", "polarity", "overall", 70.93),
        ("IAPSsubset", "PDANet", "emotion", "overall", 80.92),
        ("Abstract", "SentiBank", "emotion", "overall", 50.68),
    ],
)
def test_numbers_are_those_of_the_tables(benchmark, model, level, branch, percent):
    assert accuracy(benchmark, model, level, branch) == percent


def test_a_result_names_its_table_and_row():
    results = paper_results("FI")
    assert results[0] == ReferenceResult(
        "FI", "SentiBank", "polarity", "overall", "56.47", "Table 1, Sentibank [1]"
    )
    assert results[-1].source == "Table 3, FI-2"
    (mdan,) = (r for r in results if r.source == "Table 1, Ours" and r.level == "emotion")
    assert mdan.note == "mean of three runs; 80 % training, 5 % validation, 15 % test"


@pytest.mark.parametrize("benchmark", REPORTED)
def test_every_benchmark_of_the_paper_has_its_rows(benchmark):
    results = paper_results(benchmark)
    assert {result.dataset for result in results} == {benchmark}
    assert {result.level for result in results} == set(TREES[benchmark].level_names)
    for level in TREES[benchmark].level_names:
        assert accuracy(benchmark, "MDAN", level) == max(
            r.low for r in results if r.level == level and r.branch == "overall"
        )
    keys = [(result.model, result.level, result.branch) for result in results]
    assert len(set(keys)) == len(keys)
    assert all(0 < result.low < 100 for result in results)


def test_the_counts_are_those_of_the_tables():
    everything = [result for name in REPORTED for result in paper_results(name)]
    rows = [result for result in everything if result.source.startswith("Table 1")]
    assert len(everything) - len(rows) == 2 * 10
    cells = {"SentiBank": 8, "AlexNet": 12, "ResNet-50": 10, "Panda 2018": 3, "MDAN": 13}
    for model, count in cells.items():
        assert sum(result.model == model for result in rows) == count
    assert len({result.model for result in rows}) == 15


def test_every_dataset_has_results_or_a_reason_for_having_none():
    assert set(REPORTED) == {"WEBEmo", "Emotion-6", "FI", "ArtPhoto", "IAPSsubset", "Abstract"}
    assert set(NOT_IN_THE_PAPER) | set(REPORTED) == set(TREES)
    trained_on = {name for config in MODELS.values() for name in config.dataset.split("+")}
    assert trained_on <= set(TREES)
    for name in NOT_IN_THE_PAPER:
        assert paper_results(name) == []


def test_the_text_of_the_paper_agrees():
    # Abstract and section 1: gains over the best earlier system, which are relative.
    best = accuracy("WEBEmo", "Zhang & Xu 2020", "secondary")
    assert round(100 * (accuracy("WEBEmo", "MDAN", "secondary") - best) / best, 2) == 3.85
    best = accuracy("Emotion-6", "Zhang & Xu 2020", "primary")
    assert round(100 * (accuracy("Emotion-6", "MDAN", "primary") - best) / best, 2) == 2.07
    # Section 5.4: gains in points.
    for level, gain in (("primary", 1.77), ("secondary", 1.27)):
        mine, best = (accuracy("WEBEmo", model, level) for model in ("MDAN", "Zhang & Xu 2020"))
        assert round(mine - best, 2) == gain
    # Section 5.4: only on Abstract and ArtPhoto is P_L above P_O.
    above = {
        result.dataset
        for name in REPORTED
        for result in paper_results(name)
        if result.branch == "local" and result.low > accuracy(name, "MDAN", result.level)
    }
    assert above == {"Abstract", "ArtPhoto"}
    # Table 2 repeats the row of ResNet-101.
    repeated = {"WEBEmo": (78.17, 52.35, 32.14), "FI": (85.92, 66.16), "Emotion-6": (79.78, 56.69)}
    for name, values in repeated.items():
        levels = TREES[name].level_names
        assert tuple(accuracy(name, "ResNet-101", level) for level in levels) == values
