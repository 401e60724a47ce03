"""Output of the commands for the default model, which also predicts valence and arousal."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest
from clean_checkout import ROOT

import mdan_zoo
from mdan_zoo.weights.manifest import load_manifest
from mdan_zoo.zoo.configs import DEFAULT_MODEL


def test_the_default_prediction_has_valence_and_arousal_in_every_format(run):
    image = ROOT / "examples" / "cat.jpg"
    prediction = mdan_zoo.Predictor(DEFAULT_MODEL, device="cpu").predict(image)
    assert [(d.name, d.low, d.high) for d in prediction.dimensions] == [
        ("valence", 1, 7),
        ("arousal", 1, 7),
    ]
    assert all(1 < rating.value < 7 for rating in prediction.dimensions)

    _, output, _ = run("predict", image, "--device", "cpu")
    number = r"(\d\.\d\d)"
    pattern = f"{re.escape(str(image))}  \\w+ {number} > \\w+ {number}"
    pattern += f", valence {number} \\(1 to 7\\), arousal {number} \\(1 to 7\\)\n"
    match = re.fullmatch(pattern, output)
    shown = [
        *(level.score for level in prediction.levels),
        *(d.value for d in prediction.dimensions),
    ]
    assert [float(text) for text in match.groups()] == pytest.approx(shown, abs=0.0051)

    line = json.loads(run("predict", image, "--device", "cpu", "--format", "json")[1])
    assert list(line) == ["image", "model", "path", "levels", "dimensions", "error"]
    assert line["model"] == DEFAULT_MODEL
    for rating, expected in zip(line["dimensions"], prediction.dimensions, strict=True):
        assert rating == {**vars(expected), "value": pytest.approx(expected.value, abs=1e-4)}

    _, output, _ = run("predict", image, "--device", "cpu", "--format", "csv")
    (row,) = csv.DictReader(io.StringIO(output))
    assert list(row)[-2:] == ["valence", "arousal"]
    for rating in prediction.dimensions:
        assert float(row[rating.name]) == pytest.approx(rating.value, abs=1e-4)


def test_info_of_a_model_with_dimensions(run):
    _, output, _ = run("info", "mdan_fi8_lite0")
    assert "\ndimensions: valence (1 to 7), arousal (1 to 7)\n" in output
    (row,) = load_manifest()["mdan_fi8_lite0"].details["metrics"]["rows"][1:2]
    assert f"\n    {row['model']}, {row['branch']}: seeds {row['seeds']:d}, polarity_acc" in output
    assert "\ndimensions:" not in run("info", "mdan_oasis4")[1]
