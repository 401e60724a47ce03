"""Which pictures a training takes, which it keeps aside, and who is told."""

from __future__ import annotations

import json

import pytest
from tiny_model import OWN_TREE, write_own_data, write_tiny_model

from mdan_zoo.datasets.splits import Split
from mdan_zoo.errors import InputError
from mdan_zoo.training import Plan, fine_tuning_recipe, train
from mdan_zoo.training.machine import Machine


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


@pytest.fixture
def learn(model, tmp_path):
    """Train for one epoch; return the output folder."""

    def learn(data, *changes, output="run", init=model, tree=OWN_TREE, **more):
        recipe = fine_tuning_recipe(str(init), ["epochs=1", "batch_size=8", *changes])
        machine = Machine(workers=0)
        plan = Plan(recipe, data, tmp_path / output, hierarchy=tree, machine=machine, **more)
        return train(plan).parent

    return learn


def folders(split, part):
    return {name.split("/")[0] for name in split.pictures(part)}


# --- the parts that pictures come in


def test_pictures_that_come_divided_are_trained_and_tested_on_as_they_lie(learn, divided, caplog):
    run = learn(divided)
    split = Split.load(run / "split.tsv")
    assert split.method == "official"
    assert (folders(split, "train"), folders(split, "test")) == ({"train"}, {"test"})
    report = json.loads((run / "training.json").read_text())
    assert (report["split"], report["pictures"]) == ("official", 24)
    (note,) = (record.getMessage() for record in caplog.records)
    assert "in the parts test (12 pictures), train (24 pictures); train is trained on" in note


def test_they_are_divided_anew_where_that_is_asked_for(learn, divided, caplog):
    split = Split.load(learn(divided, "split=80/20") / "split.tsv")
    assert split.method == "80/20, seed 0"
    assert folders(split, "train") == {"train", "test"}
    assert not caplog.records


def test_parts_without_one_to_train_on_are_told(learn, divided, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "test").symlink_to(divided / "test")
    with pytest.raises(InputError, match=r"test \(12 pictures\), none of which is train"):
        learn(tmp_path / "data")
