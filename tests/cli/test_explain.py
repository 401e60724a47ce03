"""The command `explain` with checkpoints of networks other than MDAN."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="figures need matplotlib")

from drawn import assert_nothing_overlaps, texts
from matplotlib.image import imread
from random_weights import CONFIG, save_random_weights

from mdan_zoo.cli.main import main
from mdan_zoo.inference.explanation import explain
from mdan_zoo.inference.predictor import Predictor
from mdan_zoo.plots import plot


@pytest.mark.parametrize(
    ("architecture", "name", "legend"),
    [
        ("wscnet", "sentiment map", "features F and F * M are classified."),
        ("pdanet", "spatial attention", "weights of the positions, which sum to 1."),
        ("intensity", "intensity", "features F and F * I are classified."),
    ],
)
def test_the_command_explains_attention_of_the_finest_level_alone(
    architecture, name, legend, photos, tmp_path, capsys
):
    path, output = tmp_path / "model.safetensors", tmp_path / "explained.png"
    config = dataclasses.replace(CONFIG, architecture=architecture, options=None)
    save_random_weights(path, config=config)
    options = ["--checkpoint", str(path), "--output", str(output), "--device", "cpu"]
    assert main(["explain", str(photos[0]), *options]) == 0
    assert capsys.readouterr().out.endswith(f"{output}\n")
    explanation = explain(photos[0], model=Predictor(checkpoint=path, device="cpu"))
    expected = plot(explanation, tmp_path / "expected.png")
    drawn = imread(output)
    np.testing.assert_array_equal(drawn, imread(tmp_path / "expected.png"))
    said = texts(expected)
    assert "quadrant: attention" in said
    assert "polarity: attention" not in said
    assert f"{name} of all classes" in said
    assert said[-2].endswith(legend)
    assert_nothing_overlaps(expected)
