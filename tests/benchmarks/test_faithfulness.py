"""The benchmark of the maps' faithfulness runs, and its areas and intervals are what they say."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest
import torch
from oasis_folder import write_oasis

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import faithfulness
from faithfulness import Key, area, interval, orders, summarise


def test_the_highest_values_are_reached_first():
    scores = torch.tensor([[0.0, 1.0], [3.0, 2.0]])
    reached = orders(scores, side=2, steps=4)[:, 0].int().tolist()
    assert reached == [
        [[0, 0], [0, 0]],
        [[0, 0], [1, 0]],
        [[0, 0], [1, 1]],
        [[0, 1], [1, 1]],
        [[1, 1], [1, 1]],
    ]


def test_areas_and_differences_to_the_controls():
    falling = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.5, 0.0]])
    assert area(falling).tolist() == [0.25, 0.5]
    curves = {
        Key("m", "l", "deletion", "class"): falling,
        Key("m", "l", "deletion", "random"): torch.ones(2, 3),
        Key("m", "l", "deletion", "centre"): falling,
    }
    row = next(iter(summarise(curves, resamples=100)))
    assert (row["map"], row["images"], row["area"]) == ("class", 2, 0.375)
    assert (row["minus_random"], row["minus_centre"], row["minus_centre_high"]) == (-0.625, 0, 0)


def test_the_interval_is_the_bootstrap_s():
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(400, generator=generator, dtype=torch.float64)
    drawn = torch.randint(400, (4000, 400), generator=generator)
    columns = interval("area", values, drawn)
    error = float(values.std()) / 20
    assert columns["area_low"] == pytest.approx(float(values.mean()) - 1.96 * error, abs=0.01)
    assert columns["area_high"] == pytest.approx(float(values.mean()) + 1.96 * error, abs=0.01)


@pytest.mark.slow
def test_it_writes_a_row_for_every_map(tmp_path, capsys):
    folder, output = write_oasis(tmp_path / "oasis"), tmp_path / "results" / "new.csv"
    options = ["--images", "2", "--steps", "2", "--output", str(output)]
    faithfulness.main(["--data", str(folder), *options])
    assert f"written to {output}" in capsys.readouterr().out
    with output.open(newline="") as file:
        rows = list(csv.DictReader(file))
    keys = {(row["model"], row["level"], row["curve"], row["map"]) for row in rows}
    maps = {("mdan_oasis4", "polarity"): 4, ("mdan_oasis4", "quadrant"): 4}
    maps["flat_oasis4", "quadrant"] = 3
    assert len(keys) == len(rows) == 2 * sum(maps.values())
    with output.with_name("new_curves.csv").open(newline="") as file:
        points = list(csv.DictReader(file))
    assert len(points) == 3 * len(rows)
    assert {point["share"] for point in points} == {"0.0", "0.5", "1.0"}
