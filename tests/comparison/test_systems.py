"""Systems: their notation, and the presets, which agree with the tables of the paper."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mdan_zoo.comparison.runs import Comparison
from mdan_zoo.comparison.systems import PRESETS, merge_systems, parse_systems, preset
from mdan_zoo.errors import InputError, UnknownNameError
from mdan_zoo.evaluation.reference import ablation_results
from mdan_zoo.training import TrainingConfig, load_recipe

ROOT = Path(__file__).parents[2]
PAPER = ROOT.parent / "shared" / "paper" / "mdan_paper.txt"
LEVELS = {
    "WEBEmo": ("polarity", "primary", "secondary"),
    "FI": ("polarity", "emotion"),
    "Emotion-6": ("polarity", "primary"),
}


def test_commas_before_letters_separate_systems():
    text = "flat_fi8, mdan_fi8:heads=1,1,8:alpha=0.6,flat_fi8:backbone=resnet50:stages=0,1"
    flat, mdan, staged = parse_systems(text, "FI")
    assert (flat.model, flat.options, flat.row) == ("flat_fi8", {}, "Table 1, ResNet-101 [6]")
    assert mdan.options == {"heads": "1,1,8", "alpha": "0.6"}
    assert mdan.row == "Table 4, 1 and 1 heads"
    assert (staged.backbone, staged.stages, staged.options) == ("resnet50", "0,1", {})
    assert staged.row == "Table 1, Panda [12]"
    assert staged.text == "flat_fi8:backbone=resnet50:stages=0,1"
    assert staged.folder == "flat_fi8_backbone=resnet50_stages=0_1"


def test_levels_of_stages_may_be_names():
    text = "flat_fi8:stages=polarity,emotion, mdan_fi8:stages=polarity:dim=8,wscnet_fi8"
    staged, mdan, plain = parse_systems(text, "FI")
    assert (staged.stages, mdan.stages, plain.stages) == ("polarity,emotion", "polarity", "")
    assert (mdan.options, plain.text) == ({"dim": "8"}, "wscnet_fi8")
    assert parse_systems(staged.text, "FI") == [staged]


def test_a_dataset_without_an_mdan_has_systems_but_no_rows():
    systems = parse_systems("mdan_emotion6,flat_emotion6", "UnBiasedEmo")
    assert [(system.text, system.row) for system in systems] == [
        ("mdan_emotion6", ""),
        ("flat_emotion6", ""),
    ]
    assert systems[0].printed("UnBiasedEmo") == {}
    with pytest.raises(InputError, match="no MDAN is trained on 'UnBiasedEmo' alone"):
        preset("table1", "UnBiasedEmo")


def test_a_backbone_may_have_an_ending():
    (system,) = parse_systems("flat_fi8:backbone=alexnet:embedding:dropout=0.1", "FI")
    assert (system.backbone, system.options) == ("alexnet:embedding", {"dropout": "0.1"})


def test_a_system_of_both_options_is_compared_once_with_its_first_row():
    given = parse_systems("wscnet_fi8,flat_fi8", "FI")
    merged = merge_systems(given, preset("table2", "FI"))
    assert [system.text for system in merged[:2]] == ["wscnet_fi8", "flat_fi8"]
    assert merged[1].row == "Table 1, ResNet-101 [6]"
    assert len(merged) == 8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("flat_fi9", "there is no model 'flat_fi9'; did you mean 'flat_fi8'"),
        ("flat_fi8:dropout", "there is no model 'flat_fi8:dropout'; did you mean 'flat_fi8'"),
        ("flat_fi8:dropout=", "the form NAME=VALUE, such as alpha=0.5, not 'dropout='"),
        ("flat_fi8:=3", "not '=3'"),
        ("mdan_fi8:dim=8:dim=4", "mdan_fi8:dim=8:dim=4: a change is given twice"),
    ],
)
def test_a_wrong_system_is_reported(text, message):
    with pytest.raises((UnknownNameError, InputError), match=re.escape(message)):
        parse_systems(text, "FI")


def test_a_dataset_without_models_is_reported():
    with pytest.raises(InputError, match="no MDAN is trained on 'fi' alone; available: Abstract"):
        preset("table1", "fi")


@pytest.mark.parametrize("name", PRESETS)
def test_every_row_builds(name, tmp_path):
    systems = preset(name, "FI")
    assert len(systems) == len(PRESETS[name])
    recipe = load_recipe(systems[0].model)
    config = TrainingConfig(recipe, tmp_path, tmp_path, dataset="FI", backbone="resnet18", size=64)
    members = Comparison(systems, config).members
    assert {member.model.input.crop for member in members} == {64}
    assert {member.model.backbone for member in members} >= {"resnet18"}
    assert all(member.gmacs > 0 for member in members)


@pytest.mark.slow
def test_the_networks_of_the_tables_have_the_documented_numbers_of_parameters(tmp_path):
    text = (ROOT / "docs" / "network.md").read_text(encoding="utf-8")
    rows = dict(
        re.findall(r"^\| (Table [245][^|:]*?)(?:: [^|]*)? \| [^|]* \| ([\d,]+) \|", text, re.M)
    )
    checked = 0
    for name, dataset in (("table2", "WEBEmo"), ("table4", "FI"), ("table5", "WEBEmo")):
        systems = preset(name, dataset)
        config = TrainingConfig(load_recipe(systems[0].model), tmp_path, tmp_path, dataset=dataset)
        for member in Comparison(systems, config).members:
            row = member.system.row
            known = rows.get(row) or rows.get(row.replace("Table 2, ", "Table 2 "))
            if known:
                assert member.parameters == int(known.replace(",", "")), row
                checked += 1
    assert checked >= 21


# The numbers of the paper


def printed(dataset, row):
    return {r.level: float(r.accuracy) for r in ablation_results(dataset) if r.source == row}


def test_the_text_of_the_paper_agrees_with_the_numbers():
    base, *_, full, last, other = (printed("WEBEmo", row)["secondary"] for row in PRESETS["table5"])
    assert round(base - printed("WEBEmo", "Table 2, (e)")["secondary"], 2) == 0.93
    row4 = printed("WEBEmo", "Table 5, row 4")["secondary"]
    assert round(row4 - base, 2) == 0.35
    assert (full, last, other) == (34.28, 33.48, 33.48)
    heads = {row: printed("FI", row)["emotion"] for row in PRESETS["table4"]}
    assert max(heads, key=heads.__getitem__) == "Table 4, 2 and 4 heads"


def test_every_row_of_a_table_has_its_printed_numbers():
    for name, datasets in (("table2", LEVELS), ("table4", ("FI", "Emotion-6"))):
        for dataset in datasets:
            for system in preset(name, dataset):
                assert tuple(system.printed(dataset)) == LEVELS[dataset], system.row
    for system in preset("table5", "WEBEmo"):
        assert tuple(system.printed("WEBEmo")) == ("secondary",)
    assert {row: bool(s.printed("FI")) for s in preset("table1", "FI") for row in [s.row]} == (
        dict.fromkeys(PRESETS["table1"], True)
    )
    assert not any(system.printed("Emotion-6") for system in preset("fig7", "Emotion-6"))


@pytest.mark.skipif(not PAPER.is_file(), reason="the text of the paper is not at ../shared")
def test_the_numbers_are_those_of_the_tables():
    lines = [line.split("\t") for line in PAPER.read_text(encoding="utf-8").splitlines()]
    cells = [[re.sub("</?b>", "", cell) for cell in line] for line in lines]
    found = 0
    for line in cells:
        names = [n for n in ("(a)", "(b)", "(c)", "(d)", "(e)", "(f)") if n in line[:2]]
        if names and len(line) == 9:
            values = [float(cell) for cell in line[2:]]
            by_dataset = [[*printed(d, f"Table 2, {names[0]}").values()] for d in LEVELS]
            assert [value for row in by_dataset for value in row] == values
            found += 1
        if len(line) == 8 and line[0].isdigit() and line[2] in "784 392 196 98 49":
            row = f"Table 4, {line[0]} and {line[1]} heads"
            by_dataset = [[*printed(d, row).values()] for d in ("FI", "Emotion-6")]
            assert [v for row in by_dataset for v in row] == [float(cell) for cell in line[4:]]
            found += 1
    table5 = [line[-1] for line in cells if line[0] == "✓" and len(line) == 7]
    assert [
        f"{printed('WEBEmo', f'Table 5, row {n}')['secondary']:.2f}" for n in range(1, 9)
    ] == table5
    assert found == 6 + 7
