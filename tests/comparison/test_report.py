"""Comparison report: the Markdown table and its notes."""

from __future__ import annotations

import json
import math
import re

import pytest

from mdan_zoo.comparison.report import to_json, to_markdown, write_comparison
from mdan_zoo.comparison.results import control_of
from mdan_zoo.datasets.file_index import FileIndex
from mdan_zoo.training import train
from mdan_zoo.training.report import read_report, write_report


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
        "recipe": {"model": "mdan_fi8", "epochs": 2, "stages": "", "cached_views": 0},
        "initial_weights": "resnet18.pth (sha256 cd)",
        "changes_on_resume": {},
        "seeds": [0, 1],
        "parameters": 11_200_000,
        "gmacs": 0.152,
        "train_images_per_second": 14.56,
        "predict_images_per_second": 26.04,
        "predict_machine": "cpu, 2 threads",
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
        "recipe": "mdan_fi8, epochs=2",
        "options": {},
        "precision": "float32",
        "accumulate": 1,
        "not_complete": [],
        "control": "mdan_fi8",
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
    assert first[-6:] == ["6.25 ± 1.00", "11.20", "0.15", "14.6", "26.0", "2"]
    assert second[2:6] == ["25.00", "-", "Table 1, Ours", "-"]
    assert second[-6:] == [""] * 6


def test_the_notes_name_split_input_backbone_recipe_and_seeds(summary):
    text = to_markdown(summary)
    for words in (
        f"sha256 `{'ab' * 32}`",
        "Test images: 3,496.",
        "Input: 64 x 64 pixels, squashed. Recipe: mdan_fi8, epochs=2.",
        "Backbone: resnet18.",
        "Initial weights: resnet18.pth (sha256 cd).",
        "Precision: float32.",
        "over 2 seeds",
        "Prediction speed: cpu, 2 threads.",
        "Control: `mdan_fi8`. Differences",
        "10,000 resamples",
    ):
        assert words in text
    for words in ("Recipe field", "Options", "cached_views", "Not complete", "Resumed"):
        assert words not in text
    other = {**summary["systems"][0], "system": "alexnet_fi8", "backbone": "alexnet:embedding"}
    summary |= {"control": "", "systems": [{**summary["systems"][0], "seeds": [0]}, other]}
    text = to_markdown(summary)
    assert "Backbone: resnet18 of `mdan_fi8`; alexnet:embedding of `alexnet_fi8`." in text
    assert "over 1 or 2 seeds" in text
    assert "No system is a flat classifier" in text


def test_the_notes_show_what_systems_do_not_share_and_what_is_not_complete(summary):
    mdan = summary["systems"][0]
    staged = {**mdan["recipe"], "stages": "0,1", "cached_views": 2, "epochs": None}
    other = {**mdan, "system": "curriculum_fi8", "recipe": staged, "initial_weights": "default"}
    other["changes_on_resume"] = {"1": [{"step": 3, "from": {"lr": 1}, "to": {"lr": 2}}]}
    summary |= {"systems": [mdan, other], "options": {"alpha": "0.1", "dropout": 0.2}}
    summary |= {"precision": "bf16", "accumulate": 4, "not_complete": ["flat_fi8, seed 0"]}
    text = to_markdown(summary | {"control": "flat_fi8"})
    for words in (
        "Recipe field stages: empty of `mdan_fi8`; 0,1 of `curriculum_fi8`.",
        "Recipe field epochs: 2 of `mdan_fi8`; default of `curriculum_fi8`.",
        "Options of all systems that have them: alpha=0.1, dropout=0.2.",
        "Initial weights: resnet18.pth (sha256 cd) of `mdan_fi8`; default of `curriculum_fi8`.",
        "Precision: bf16, 4 micro-batches per step.",
        "all seeds share the random views of seed 0",
        "Not complete: flat_fi8, seed 0.",
        "Resumed with another recipe: curriculum_fi8, seed 1: [{'step': 3, 'from': {'lr': 1}",
        "Control: `flat_fi8`, of which no run is complete",
    ):
        assert words in text
    assert "Recipe field model" not in text


def test_values_that_are_not_defined_are_null_in_json(summary):
    summary["systems"][0]["levels"]["emotion"]["difference"] = {"value": 0.5, "low": math.nan}
    plain = json.loads(to_json(summary), parse_constant=lambda name: pytest.fail(name))
    assert plain["systems"][0]["levels"]["emotion"]["difference"] == {"value": 0.5, "low": None}
    assert plain["images"] == 3496


def test_the_control_is_preferably_on_the_common_backbone(compared):
    models = "alexnet_fi8,flat_fi8:backbone=resnet34,flat_fi8:stages=0,1,curriculum_fi8"
    members = compared(f"{models},mdan_fi8:dim=8,flat_fi8_resnet50,flat_fi8").members
    assert control_of(members) == "flat_fi8"
    assert control_of(members[:-1]) == "alexnet_fi8"
    assert control_of(members[2:5]) == ""


@pytest.mark.slow
def test_a_control_without_a_complete_run_is_not_replaced(compared):
    models = "flat_fi8,mdan_fi8:dim=8,alexnet_fi8"
    comparison = compared(models, "epochs=1", "batch_size=4", seeds=2)
    source = comparison.find_split(FileIndex())
    path = train(comparison.run_of(comparison.members[1], 0, source))
    report = read_report(path.parent)
    change = {"step": 1, "from": {"lr": 0.1}, "to": {"lr": 0.01}}
    write_report(path.parent, {**report, "changes": [change]})
    text = write_comparison(comparison, source).read_text(encoding="utf-8")
    assert "Control: `flat_fi8`, of which no run is complete" in text
    missing = ("flat_fi8, seed 0", "alexnet_fi8, seed 0", "flat_fi8, seed 1")
    missing += ("mdan_fi8:dim=8, seed 1", "alexnet_fi8, seed 1")
    (note,) = re.findall(r"Not complete: (.*)\.", text)
    assert sorted(note.split("; ")) == sorted(missing)
    assert f"Resumed with another recipe: mdan_fi8:dim=8, seed 0: [{change}]." in text
