"""The comparison of numbers of steps in fine-tuning."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from oasis_folder import write_oasis

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import fine_tuning_steps
from fine_tuning_steps import TREE, categories, measure, summarise, write_images
from PIL import Image
from result_tables import read


@pytest.fixture
def found(tmp_path):
    """Five images of every category."""
    images = {leaf: [tmp_path / f"{leaf} {n}.jpg" for n in range(5)] for leaf in TREE.leaves}
    for number, file in enumerate(file for files in images.values() for file in files):
        Image.new("RGB", (40, 40), (12 * number, 100, 240 - 12 * number)).save(file)
    return images


def test_the_table_names_the_category_of_every_image(tmp_path):
    (category, images), *others = categories(write_oasis(tmp_path / "oasis")).items()
    assert (category, len(images), others) == ("scenery", 12, [])


def test_no_image_is_both_trained_and_tested_on(found, tmp_path):
    write_images(found, {"train": 2, "test": 3}, seed=0, to=tmp_path / "drawn")
    for leaf in TREE.leaves:
        parts = [
            {file.name for file in (tmp_path / "drawn" / part / leaf).iterdir()}
            for part in ("train", "test")
        ]
        assert [len(part) for part in parts] == [2, 3]
        assert not parts[0] & parts[1]
    write_images(found, {"train": 2, "test": 3}, seed=1, to=tmp_path / "again")
    first, second = (
        sorted(f.name for f in (tmp_path / to / "train").glob("*/*")) for to in ("drawn", "again")
    )
    assert first != second


@pytest.mark.slow
def test_a_training_is_as_long_as_asked_and_tested(found, tmp_path):
    write_images(found, {"train": 1, "test": 1}, seed=0, to=tmp_path / "drawn")
    turn = measure(tmp_path / "drawn", min_steps=9, seed=0)
    assert turn["epochs"] == 9, "a step an epoch, of 4 images"
    assert turn["seconds"] > 0
    assert {turn["coarse_accuracy"] * 4, turn["fine_accuracy"] * 4} <= {0, 1, 2, 3, 4}


def test_the_spread_is_that_over_seeds():
    turns = [{"epochs": 8, "fine_accuracy": 0.5}, {"epochs": 8, "fine_accuracy": 0.7}]
    expected = {"epochs": 8, "fine_accuracy": 0.6, "fine_accuracy_sd_seeds": 0.1414}
    assert summarise(turns) == expected


def test_one_seed_has_no_spread(capsys):
    with pytest.raises(SystemExit):
        fine_tuning_steps.main(["--data", "x", "--seeds", "0"])
    assert "two or more" in capsys.readouterr().err


def test_the_recipe_takes_a_number_that_was_no_worse_than_more():
    from mdan_zoo.training.recipe import fine_tuning_recipe

    rows = {int(row["min_steps"]): row for row in read("fine_tuning_steps.csv")}
    chosen = rows[fine_tuning_recipe("mdan_oasis4").min_steps]
    for steps, row in rows.items():
        if steps > int(chosen["min_steps"]):
            spread = float(row["fine_accuracy_sd_seeds"])
            assert float(row["fine_accuracy"]) - float(chosen["fine_accuracy"]) <= spread
