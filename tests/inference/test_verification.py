"""What a checkpoint predicts for the known image."""

from __future__ import annotations

import dataclasses

from random_weights import CONFIG, save_random_weights

from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.inference.predictor import Predictor
from mdan_zoo.inference.verification import golden_image, read_weight_file
from mdan_zoo.models.dimensions import Dimension


def test_a_level_with_the_name_of_the_ratings_keeps_its_scores(tmp_path):
    tree = dataclasses.replace(
        get_hierarchy("circumplex4"), name="own", level_names=("dimensions", "quadrant")
    )
    scales = (Dimension("valence", 1, 7),)
    config = dataclasses.replace(CONFIG, name="own", hierarchy="own", dimensions=scales)
    save_random_weights(tmp_path / "model.safetensors", tree, config)
    golden = read_weight_file(tmp_path / "model.safetensors").golden
    predicted = Predictor(checkpoint=tmp_path / "model.safetensors").predict(golden_image())
    assert golden.keys() == {"dimensions", "quadrant"}
    assert golden["dimensions"].keys() == {"negative", "positive", "valence"}
    assert abs(golden["dimensions"]["positive"] - predicted.levels[0].scores["positive"]) < 1e-4
    assert abs(golden["dimensions"]["valence"] - predicted.dimensions[0].value) < 1e-4
