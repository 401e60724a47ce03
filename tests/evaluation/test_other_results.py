"""Baselines and results of other publications."""

from __future__ import annotations

import re

import pytest

from mdan_zoo.datasets.registry import DATASETS
from mdan_zoo.evaluation.reference import other_results, paper_results
from mdan_zoo.hierarchy.builtin import get_hierarchy

OTHERS = [result for name in DATASETS for result in other_results(name)]


@pytest.mark.parametrize(
    ("benchmark", "level", "model", "accuracy"),
    [
        ("EmoSet-118K", "emotion", "MDAN", "75.75"),
        ("EmoSet-118K", "polarity", "MDAN", "93.71"),
        ("EmoSet-118K", "emotion", "ResNet-50", "74.04"),
        ("EmoSet-118K", "polarity", "ResNet-50", "93.48"),
        ("FI", "emotion", "models of later papers", "70 to 74"),
        ("FI", "emotion", "majority class", "23.1"),
        ("FI", "polarity", "majority class", "70.5"),
        ("WEBEmo", "secondary", "frozen CLIP B/32 with an MLP", "40.65"),
        ("WEBEmo", "secondary", "upper bound for one label per image", "95.74"),
        ("WEBEmo", "secondary", "majority class", "11.4"),
        ("WEBEmo", "polarity", "majority class", "54.3"),
        ("ArtPhoto", "emotion", "independent results", "30 to 45"),
        ("Abstract", "emotion", "independent results", "30 to 45"),
    ],
)
def test_numbers_are_as_published(benchmark, level, model, accuracy):
    (found,) = (r for r in other_results(benchmark) if (r.level, r.model) == (level, model))
    assert found.accuracy == accuracy
    assert found.source


def test_every_row_has_a_level_of_its_dataset():
    assert len(OTHERS) == 13
    assert len({(r.dataset, r.level, r.model) for r in OTHERS}) == len(OTHERS)
    for result in OTHERS:
        tree = get_hierarchy(DATASETS[result.dataset].hierarchy)
        assert result.level in tree.level_names
        assert 0 < result.low <= result.high < 100
    assert other_results("folder") == []


def test_numbers_of_the_paper_in_notes_are_correct():
    for result in OTHERS:
        reported = [
            r.accuracy
            for r in paper_results(result.dataset)
            if (r.model, r.level, r.branch) == ("MDAN", result.level, "overall")
        ]
        assert set(re.findall(r"\d\d\.\d\d", result.note)) <= set(reported)
