"""Which pictures a training takes, which it keeps aside, and who is told."""

from __future__ import annotations

import json
import shutil

import pytest
from tiny_model import OWN_TREE, write_own_data, write_tiny_model

from mdan_zoo.cli import main
from mdan_zoo.datasets.splits import Split
from mdan_zoo.errors import InputError
from mdan_zoo.training import Plan, fine_tuning_recipe, train
from mdan_zoo.training.machine import Machine
from mdan_zoo.training.run import _find_split, prepare


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.safetensors")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_own_data(tmp_path_factory.mktemp("data") / "feelings")


@pytest.fixture(scope="module")
def divided(tmp_path_factory):
    """Own pictures in the folders train and test."""
    folder = tmp_path_factory.mktemp("data") / "divided"
    write_own_data(folder / "train")
    write_own_data(folder / "test", pictures=3, seed=1)
    return folder


@pytest.fixture(scope="module")
def as_it_comes(model, divided, tmp_path_factory):
    return learn(model, divided, tmp_path_factory.mktemp("runs") / "as_it_comes")


@pytest.fixture(scope="module")
def anew(model, divided, tmp_path_factory):
    return learn(model, divided, tmp_path_factory.mktemp("runs") / "anew", "split=80/20")


def learn(model, data, output, *changes, tree=OWN_TREE, **more):
    """Train for one epoch; return the output folder."""
    recipe = fine_tuning_recipe(str(model), ["epochs=1", "batch_size=8", *changes])
    machine = Machine(workers=0)
    return train(Plan(recipe, data, output, hierarchy=tree, machine=machine, **more)).parent


def folders(split, part):
    return {name.split("/")[0] for name in split.pictures(part)}


# --- the parts that pictures come in


def test_pictures_that_come_divided_are_trained_and_tested_on_as_they_lie(as_it_comes):
    split = Split.load(as_it_comes / "split.tsv")
    assert split.method == "official"
    assert (folders(split, "train"), folders(split, "test")) == ({"train"}, {"test"})
    report = json.loads((as_it_comes / "training.json").read_text())
    assert (report["split"], report["pictures"]) == ("official", 24)
    tested = (as_it_comes / "test" / "evaluation.md").read_text()
    assert "The weights were trained on none of these pictures." in tested


def test_they_are_divided_anew_where_that_is_asked_for(anew):
    split = Split.load(anew / "split.tsv")
    assert split.method == "80/20, seed 0"
    assert folders(split, "train") == {"train", "test"}


def test_parts_without_one_to_train_on_are_told(model, divided, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "test").symlink_to(divided / "test")
    with pytest.raises(InputError, match=r"test \(12 pictures\), none of which is train"):
        learn(model, tmp_path / "data", tmp_path / "run")


@pytest.mark.parametrize(("method", "told"), [("official or 80/20", True), ("official", False)])
def test_parts_that_the_recipe_does_not_demand_are_told(
    method, told, model, divided, tmp_path, caplog
):
    recipe = fine_tuning_recipe(str(model), [f"split={method}"])
    plan = Plan(recipe, divided, tmp_path, hierarchy=OWN_TREE)
    assert _find_split(plan, prepare(plan)).method == "official"
    notes = [record.getMessage() for record in caplog.records]
    assert len(notes) == told
    assert all("in the parts test (12 pictures), train (24 pictures); train" in n for n in notes)


# --- what an evaluation knows of it


def test_an_evaluation_tells_how_many_pictures_were_trained_on(anew, divided, tmp_path, capsys):
    """Of the official test part, which it takes by default, also where that is a copy."""
    learned = Split.load(anew / "split.tsv").pictures("train")
    count = sum(name.startswith("test/") for name in learned)
    assert count > 0
    for picture in (divided / "test").rglob("*.jpg"):
        (tmp_path / "copy" / picture.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(picture, tmp_path / "copy" / picture.parent.name / f"copy {picture.name}")
    for data in (divided, tmp_path / "copy"):
        given = ("evaluate", anew / "model.safetensors", "--data", data, "--bootstrap", 100)
        assert main([str(argument) for argument in given]) == 0
        told = f"**The weights were trained on {count} of these 12 pictures.**"
        assert told in capsys.readouterr().out
