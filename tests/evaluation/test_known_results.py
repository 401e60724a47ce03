"""What is known of the benchmarks from elsewhere, apart from the paper's numbers."""

from __future__ import annotations

import re

import pytest

from mdan_zoo.datasets.registry import DATASETS
from mdan_zoo.evaluation.known_results import KNOWN, known_results
from mdan_zoo.evaluation.paper_results import paper_results
from mdan_zoo.hierarchy.builtin import get_hierarchy


@pytest.mark.parametrize(
    ("benchmark", "level", "system", "accuracy"),
    [
        ("EmoSet-118K", "emotion", "MDAN", "75.75"),
        ("EmoSet-118K", "polarity", "MDAN", "93.71"),
        ("EmoSet-118K", "emotion", "ResNet-50", "74.04"),
        ("EmoSet-118K", "polarity", "ResNet-50", "93.48"),
        ("FI", "emotion", "the models of later papers", "70 to 74"),
        ("FI", "emotion", "always the most frequent class", "23.1"),
        ("FI", "polarity", "always the most frequent class", "70.5"),
        ("WEBEmo", "secondary", "frozen CLIP B/32 with an MLP", "40.65"),
        ("WEBEmo", "secondary", "the most that one answer an image can reach", "95.74"),
        ("WEBEmo", "secondary", "always the most frequent class", "11.4"),
        ("WEBEmo", "polarity", "always the most frequent class", "54.3"),
        ("ArtPhoto", "emotion", "independent results", "30 to 45"),
        ("Abstract", "emotion", "independent results", "30 to 45"),
    ],
)
def test_numbers_are_the_known_ones(benchmark, level, system, accuracy):
    (found,) = (r for r in known_results(benchmark) if (r.level, r.system) == (level, system))
    assert found.accuracy == accuracy
    assert found.source


def test_every_row_is_of_a_level_of_its_data_set():
    assert len(KNOWN) == 13
    assert len({(r.benchmark, r.level, r.system) for r in KNOWN}) == len(KNOWN)
    for result in KNOWN:
        tree = get_hierarchy(DATASETS[result.benchmark].hierarchy)
        assert result.level in tree.level_names
        assert 0 < result.low <= result.high < 100
    assert known_results("folder") == []


def test_what_the_notes_say_of_the_papers_numbers_is_what_it_reports():
    for result in KNOWN:
        reported = [
            f"{r.accuracy:.2f}"
            for r in paper_results(result.benchmark)
            if (r.model, r.level, r.branch) == ("MDAN", result.level, "overall")
        ]
        assert set(re.findall(r"\d\d\.\d\d", result.note)) <= set(reported)
