"""Output formats of predictions."""

from __future__ import annotations

import csv
import dataclasses
import io
import json

import pytest

from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.inference.formats import FORMATS, csv_columns, to_csv, to_json
from mdan_zoo.inference.prediction import DimensionPrediction, Prediction
from mdan_zoo.models.dimensions import Dimension

TREE = get_hierarchy("circumplex4")
LEAVES = (0.1, 0.2, 0.3, 0.4)
GOOD = Prediction("a,b.jpg", "m", TREE, {"overall": ((0.1 + 0.2, 0.3 + 0.4), LEAVES)})
FAILED = Prediction("c.jpg", "m", TREE, {}, error='it is "empty"')


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_has_one_line_per_prediction(name):
    for prediction in (GOOD, FAILED):
        line = FORMATS[name].line(prediction)
        assert line.endswith("\n")
        assert line.count("\n") == 1
        assert prediction.image in line


def test_text():
    assert FORMATS["text"].header(TREE, ()) == ""
    assert FORMATS["text"].line(GOOD) == f"a,b.jpg  {GOOD}\n"
    assert FORMATS["text"].line(FAILED) == 'c.jpg  error: it is "empty"\n'


def test_json():
    assert FORMATS["json"].header(TREE, ()) == ""
    assert json.loads(FORMATS["json"].line(GOOD)) == GOOD.to_dict()
    assert json.loads(to_json([GOOD, FAILED])) == [GOOD.to_dict(), FAILED.to_dict()]


def test_csv():
    text = to_csv([GOOD, FAILED], TREE)
    assert text == FORMATS["csv"].header(TREE, ()) + "".join(
        map(FORMATS["csv"].line, [GOOD, FAILED])
    )
    good, failed = csv.DictReader(text.splitlines())
    assert list(good) == csv_columns(TREE)
    assert (good["image"], good["error"], good["polarity_label"]) == ("a,b.jpg", "", "positive")
    for level in GOOD.levels:
        assert float(good[f"{level.name}_score"]) == level.score
        for label, score in level.scores.items():
            assert float(good[f"{level.name}:{label}"]) == score
    assert failed["error"] == 'it is "empty"'
    assert {value for key, value in failed.items() if key not in ("image", "error")} == {""}


@pytest.mark.parametrize("name", ["a\u202fb.png", "\udcff.png", "a\nb.png", ""])
def test_data_have_the_real_name_and_text_a_printable_one(name):
    prediction = dataclasses.replace(GOOD, image=name)
    assert json.loads(FORMATS["json"].line(prediction))["image"] == name
    (row,) = csv.reader(io.StringIO(FORMATS["csv"].line(prediction), newline=""))
    assert row[0] == name
    assert FORMATS["text"].line(prediction) == f"{name!r}  {GOOD}\n"


@pytest.mark.parametrize("name", ["=1+1.jpg", "+1.jpg", "-1.jpg", "@a.jpg", "\ta.jpg"])
def test_a_spreadsheet_finds_no_formula(name):
    rating = DimensionPrediction("valence", -1.5, -3, 3)
    tree = Hierarchy.from_nested({"-": ["=a"], "+": ["@b"]})
    levels = ((0.4, 0.6), (0.4, 0.6))
    prediction = Prediction(name, "m", tree, {"overall": levels}, dimensions=(rating,))
    lines = FORMATS["excel"].header(tree, (Dimension("valence", -3, 3),))
    assert lines[0] == "\ufeff"
    header, row = csv.reader(io.StringIO(lines[1:] + FORMATS["excel"].line(prediction), newline=""))
    assert (header[-1], row[0], row[2], row[-1]) == ("valence", f"'{name}", "'+", "-1.5")
    assert not any(cell.startswith(tuple("=+-@\t")) for cell in header + row[:-1])
    (plain,) = csv.reader([FORMATS["csv"].line(prediction)])
    assert plain[0] == name


def test_csv_without_predictions_has_a_header():
    assert to_csv([], TREE) == ",".join(csv_columns(TREE)) + "\n"
