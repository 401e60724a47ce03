"""Comparison report: the Markdown table and its notes."""

from __future__ import annotations

import pytest

from mdan_zoo.comparison.report import to_markdown
from mdan_zoo.comparison.results import control_of


def value(mean, sd=None):
    return {"mean": mean, "sd": sd, "by_seed": [mean]}


@pytest.fixture
def summary():
    measures = ("accuracy", "balanced_accuracy", "macro_f1", "calibration_error")
    levels = {
        "polarity": {
            **{measure: value(0.5, 0.125) for measure in measures},
            "difference": {"value": 0.015, "low": -0.01, "high": 0.04},
            "as_printed_in_the_paper": "91.08",
        },
        "emotion": {
            **{measure: value(0.25) for measure in measures},
            "difference": None,
            "as_printed_in_the_paper": "",
        },
    }
    system = {
        "system": "mdan_fi8",
        "backbone": "resnet18",
        "seeds": [0, 1],
        "parameters": 11_200_000,
        "gmacs": 0.152,
        "train_images_per_second": 14.56,
        "predict_images_per_second": 26.04,
        "violation_rate": value(0.0625, 0.01),
        "paper": "Table 1, Ours",
        "levels": levels,
    }
    return {
        "dataset": "FI",
        "split": "80/5/15, seed 0",
        "split_sha256": "ab" * 32,
        "images": 3496,
        "input": "64 x 64 pixels, squashed",
        "recipe": "flat_fi8, epochs=2",
        "control": "flat_fi8",
        "resamples": 10_000,
        "systems": [system],
    }


def test_values_of_the_system_are_in_its_first_row(summary):
    lines = [line for line in to_markdown(summary).splitlines() if line.startswith("| `")]
    first, second = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines)
    assert first[:5] == [
        "`mdan_fi8`",
        "polarity",
        "50.00 ± 12.50",
        "+1.50 (-1.00 to +4.00)",
        "Table 1, Ours",
    ]
    assert first[5] == "91.08"
    assert first[-5:] == ["6.25 ± 1.00", "11.20", "0.15", "14.6", "26.0"]
    assert second[2:6] == ["25.00", "-", "Table 1, Ours", "-"]
    assert second[-5:] == [""] * 5


def test_the_notes_name_split_input_backbone_recipe_and_seeds(summary):
    text = to_markdown(summary)
    for words in (
        f"sha256 `{'ab' * 32}`",
        "Test images: 3,496.",
        "Input: 64 x 64 pixels, squashed. Recipe: flat_fi8, epochs=2.",
        "Backbone: resnet18.",
        "over 2 seeds",
        "Control: `flat_fi8`.",
        "10,000 resamples",
    ):
        assert words in text
    other = {**summary["systems"][0], "system": "alexnet_fi8", "backbone": "alexnet:embedding"}
    summary |= {"control": "", "systems": [{**summary["systems"][0], "seeds": [0]}, other]}
    text = to_markdown(summary)
    assert "Backbones: resnet18 of `mdan_fi8`; alexnet:embedding of `alexnet_fi8`." in text
    assert "over 1 or 2 seeds" in text
    assert "No system is a flat classifier" in text


def test_the_control_is_preferably_on_the_common_backbone(compared):
    models = "alexnet_fi8,flat_fi8:backbone=resnet34,flat_fi8:stages=0,1,curriculum_fi8"
    members = compared(f"{models},mdan_fi8:dim=8,flat_fi8_resnet50,flat_fi8").members
    assert control_of(members) == "flat_fi8"
    assert control_of(members[:-1]) == "alexnet_fi8"
    assert control_of(members[2:5]) == ""
