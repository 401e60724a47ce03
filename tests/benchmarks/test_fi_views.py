"""The benchmark of averages over several views: its rows are those of the predictor."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
from dataset_trees import write_fi

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
from fi_views import main

from mdan_zoo.datasets.registry import read_dataset
from mdan_zoo.datasets.split_methods import make_split
from mdan_zoo.datasets.splits import select
from mdan_zoo.inference.predictor import Predictor


def test_rows_compare_the_views_with_a_single_view(tmp_path):
    folder, model = write_fi(tmp_path / "fi"), "flat_fi8_lite0"
    tree = Predictor(model, device="cpu").hierarchy
    samples = read_dataset("FI", folder, tree)
    split = make_split("FI", samples, folder, "80/20")
    split.save(tmp_path / "split.tsv")
    output = tmp_path / "rows.csv"
    given = ["--data", folder, "--models", model, "--views", "flip", "--output", output]
    main([*map(str, given), "--split", str(tmp_path / "split.tsv")])
    with output.open(newline="", encoding="utf-8") as file:
        single, flip = csv.DictReader(file)
    assert [(row["views"], row["passes"]) for row in (single, flip)] == [
        ("single", "1"),
        ("flip", "2"),
    ]

    tested = [samples[index] for index in select(split, samples, folder, "test")]
    accuracies = []
    for row in (single, flip):
        predictor = Predictor(model, device="cpu", views=row["views"], decode="independent")
        found = [predictor.predict(sample.image).levels[1].label for sample in tested]
        right = [
            label == tree.levels[1][s.labels[1]] for label, s in zip(found, tested, strict=True)
        ]
        accuracies.append(np.mean(right))
        assert int(row["images"]) == len(tested) > 0
        assert float(row["emotion_accuracy"]) == pytest.approx(accuracies[-1], abs=1e-4)
    assert single["emotion_accuracy_difference"] == "0.0"
    difference = float(flip["emotion_accuracy_difference"])
    assert difference == pytest.approx(accuracies[1] - accuracies[0], abs=1e-4)
    assert float(flip["difference_low"]) <= difference <= float(flip["difference_high"])
