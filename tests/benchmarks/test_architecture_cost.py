"""The benchmark of architectures runs; what it measures on this machine does not matter here."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest
from architecture_tests import built_in

from mdan_zoo.models.registry import list_architectures

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import architecture_cost


@pytest.mark.slow
def test_every_architecture_has_a_row_for_training_and_prediction(tmp_path):
    output = tmp_path / "cost.csv"
    options = "--backbone test_resnet --size 64 --batch 2 --repeats 2"
    architecture_cost.main([*options.split(), "--output", str(output)])
    with output.open(newline="", encoding="utf-8") as file:
        rows = {(row["architecture"], row["mode"]): row for row in csv.DictReader(file)}
    names = built_in(list_architectures())
    assert set(rows) == {(name, mode) for name in names for mode in architecture_cost.MODES}
    for (name, mode), row in rows.items():
        q1, median, q3 = (float(row[f"time_ratio{end}"]) for end in ("_q1", "", "_q3"))
        assert 0 < q1 <= median <= q3
        flat = rows["flat", mode]
        ratio = int(row["peak_bytes"]) / int(flat["peak_bytes"])
        assert float(row["memory_ratio"]) == round(ratio, 3)
        assert int(row["multiply_accumulates"]) >= int(flat["multiply_accumulates"]), name
        assert (row["backbone"], row["size"], row["threads"]) == ("test_resnet", "64", "1")
    assert float(rows["flat", "training"]["time_ratio"]) == 1
    # A frozen backbone has no gradients, and prediction keeps no activations.
    assert float(rows["probe", "training"]["memory_ratio"]) < 0.9
    training, prediction = (int(rows["mdan", m]["peak_bytes"]) for m in architecture_cost.MODES)
    assert training > prediction
