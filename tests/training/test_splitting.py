"""Splits of training runs: training and test images, and warnings about them."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest
from tiny_model import OWN_TREE, write_own_data, write_tiny_model

from mdan_zoo.cli.main import main
from mdan_zoo.datasets.readers.folder import read_folder
from mdan_zoo.datasets.split_methods import make_split
from mdan_zoo.datasets.splits import Split
from mdan_zoo.errors import DatasetError, ImageError, InputError
from mdan_zoo.evaluation.leakage import save_trained_on
from mdan_zoo.training import TrainingConfig, fine_tuning_recipe, train
from mdan_zoo.training.losses import sample_targets
from mdan_zoo.training.recipe import Recipe
from mdan_zoo.training.run import prepare
from mdan_zoo.training.splitting import Source, check_classes, keep_splits


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Random weights, with the list that says so: what they learned from is known."""
    path = write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.safetensors")
    save_trained_on(path, [], path.parent)
    return path


@pytest.fixture(scope="module")
def divided(tmp_path_factory):
    """Own images in the folders train and test."""
    folder = tmp_path_factory.mktemp("data") / "divided"
    write_own_data(folder / "train")
    write_own_data(folder / "test", images=3, seed=1)
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
    machine = {"workers": 0}
    return train(TrainingConfig(recipe, data, output, hierarchy=tree, **machine, **more)).parent


def find(model, data, output, *changes, tree=OWN_TREE, split=None):
    """Return the split that a training would take."""
    plan = TrainingConfig(
        fine_tuning_recipe(str(model), changes), data, output, hierarchy=tree, split=split
    )
    (source,) = prepare(plan).sources
    keep_splits([source], output)
    return source.split


def folders(split, part):
    return {name.split("/")[0] for name in split.images(part)}


# --- the parts that images come in


@pytest.mark.slow
def test_test_images_that_the_start_had_learned_are_reported(model, data, tmp_path, caplog):
    start = tmp_path / "start.safetensors"
    shutil.copy(model, start)
    save_trained_on(start, sorted(data.glob("*/*.jpg")), data)
    output = learn(start, data, tmp_path / "run", "split=80/20")
    test = json.loads((output / "training.json").read_text())["test"]
    assert test["trained_on"] == test["images"] > 0
    said = "5 of the 5 test images were also used for training, either in this run"
    assert said in caplog.text


@pytest.mark.slow
def test_images_that_come_divided_are_trained_and_tested_on_as_they_lie(as_it_comes):
    split = Split.load(as_it_comes / "split.tsv")
    assert split.method == "official"
    assert (folders(split, "train"), folders(split, "test")) == ({"train"}, {"test"})
    report = json.loads((as_it_comes / "training.json").read_text())
    assert (report["split"], report["images"]) == ("official", 24)
    tested = (as_it_comes / "test" / "evaluation.md").read_text()
    assert "The model was not trained on any of these images." in tested


@pytest.mark.slow
def test_they_are_divided_again_where_that_is_asked_for(anew):
    split = Split.load(anew / "split.tsv")
    assert split.method == "80/20, seed 0"
    assert folders(split, "train") == {"train", "test"}


def test_parts_without_one_to_train_on_are_reported(model, divided, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "test").symlink_to(divided / "test")
    with pytest.raises(InputError, match=r"the parts test \(12 images\), but no part train"):
        learn(model, tmp_path / "data", tmp_path / "run")


@pytest.mark.parametrize(("method", "told"), [("official or 80/20", True), ("official", False)])
def test_parts_that_the_recipe_does_not_demand_are_reported(
    method, told, model, divided, tmp_path, caplog
):
    assert find(model, divided, tmp_path, f"split={method}").method == "official"
    notes = [record.getMessage() for record in caplog.records]
    assert len(notes) == told
    assert all("has the parts test (12 images), train (24 images); train" in n for n in notes)


# --- a split that is given


def test_a_given_split_is_kept_next_to_the_weights(model, divided, tmp_path):
    """Also where the images come in parts. The same folder then takes no other."""
    paths = []
    for seed in (3, 4):
        samples = read_folder(divided, OWN_TREE)
        paths.append(tmp_path / f"{seed}.tsv")
        make_split("folder", samples, divided, "80/20", seed).save(paths[-1])
    for _ in range(2):
        found = find(model, divided, tmp_path / "run", split=paths[0])
        assert found == Split.load(tmp_path / "run" / "split.tsv") == Split.load(paths[0])
    for other in ({"split": paths[1]}, {}):
        with pytest.raises(InputError, match=r"split\.tsv is the split '80/20, seed 3', not"):
            find(model, divided, tmp_path / "run", **other)


def test_a_split_of_one_part_is_reported(model, data, tmp_path):
    names = [image.relative_to(data).as_posix() for image in data.glob("*/*.jpg")]
    Split.from_parts("folder", "mine", ".", {"0": names}).save(tmp_path / "split.tsv")
    with pytest.raises(InputError, match="'mine' has only the part 0"):
        learn(model, data, tmp_path / "run", split=tmp_path / "split.tsv")
    assert not (tmp_path / "run").exists()


def test_a_split_of_another_data_set_is_refused(model, data, tmp_path):
    names = [path.relative_to(data).as_posix() for path in data.glob("*/*.jpg")]
    split = Split.from_parts("FI", "mine", ".", {"train": names[:-4], "test": names[-4:]})
    split.save(tmp_path / "fi.tsv")
    with pytest.raises(DatasetError, match=r"fi\.tsv is a split of FI, not of folder"):
        find(model, data, tmp_path / "run", split=tmp_path / "fi.tsv")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("views", ["cached_views=0", "cached_views=2"])
def test_a_split_that_cannot_be_is_reported_before_an_image_is_decoded(
    views, model, data, tmp_path
):
    """An image that cannot be read would be told as soon as it is decoded."""
    shutil.copytree(data, tmp_path / "data")
    (tmp_path / "data" / "calm" / "3.jpg").write_bytes(b"no image")
    changes = (views, "frozen_stages=3", "min_crop_area=0.5")
    with pytest.raises(InputError, match="not '80/30'"):
        learn(model, tmp_path / "data", tmp_path / "run", *changes, "split=80/30")
    with pytest.raises(ImageError, match=r"3\.jpg"):
        learn(model, tmp_path / "data", tmp_path / "run", *changes)
    assert not (tmp_path / "run").exists()


# --- classes that nobody could learn


@pytest.mark.parametrize(
    ("method", "where"),
    [("official", "in the split 'official'"), ("2-fold", "with fold [01] held out")],
)
def test_a_class_without_a_training_image_is_refused(method, where, model, data, tmp_path):
    for name in ("train/awe", "train/calm", "train/fear", "test/gloom"):
        folder = tmp_path / "data" / name
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(data / folder.name, folder)
    for image in sorted((tmp_path / "data" / "test" / "gloom").iterdir())[1:]:
        image.unlink()  # one is left, which is in the test part or in one of the folds
    with pytest.raises(InputError, match=f"{where}.* there is no training image of gloom"):
        find(model, tmp_path / "data", tmp_path / "run", f"split={method}")
    assert not (tmp_path / "run").exists()


def test_a_class_that_a_published_data_set_lacks_is_reported(data, caplog):
    samples = [s for s in read_folder(data, OWN_TREE) if s.labels[-1] != 3]
    source = Source("folder", data, samples, 0, None, data / "split.tsv")
    check_classes([source], OWN_TREE, custom=False)
    (note,) = (record.getMessage() for record in caplog.records)
    assert note.startswith("there is no training image of gloom (hierarchy")


def test_votes_that_are_not_learned_are_reported(data, caplog):
    samples = read_folder(data, OWN_TREE)
    sample_targets(samples, OWN_TREE, Recipe("mdan_fi8"))
    assert not caplog.records
    samples[5] = dataclasses.replace(samples[5], distribution=(0.25, 0.75, 0.0, 0.0))
    sample_targets(samples, OWN_TREE, Recipe("mdan_fi8", label_std_scale=1.0))
    assert not caplog.records
    sample_targets(samples, OWN_TREE, Recipe("mdan_fi8"))
    (note,) = (record.getMessage() for record in caplog.records)
    assert note.startswith("1 of the 24 images have votes for several classes")
    assert "--set label_std_scale=1 trains on all votes" in note


# --- what an evaluation knows of it


@pytest.mark.slow
def test_an_evaluation_tells_how_many_images_were_trained_on(anew, divided, tmp_path, capsys):
    """Of the official test part, which it takes by default, also where that is a copy."""
    learned = Split.load(anew / "split.tsv").images("train")
    count = sum(name.startswith("test/") for name in learned)
    assert count > 0
    for image in (divided / "test").rglob("*.jpg"):
        (tmp_path / "copy" / image.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(image, tmp_path / "copy" / image.parent.name / f"copy {image.name}")
    for data in (divided, tmp_path / "copy"):
        given = ("evaluate", anew / "model.safetensors", "--data", data, "--bootstrap", 100)
        assert main([str(argument) for argument in given]) == 0
        told = f"**The model was trained on {count} of these 12 images.**"
        assert told in capsys.readouterr().out


# --- images that should not be trained on


def test_excluded_images_make_another_run(model, data, tmp_path):
    (tmp_path / "exclude.tsv").write_text("awe/0.jpg\n")
    recipe = fine_tuning_recipe(str(model), ["split=all"])
    given = TrainingConfig(recipe, data, tmp_path / "run", hierarchy=OWN_TREE)
    run = prepare(dataclasses.replace(given, exclude=tmp_path / "exclude.tsv"))
    assert len(run.samples) == len(run.data) == 23
    assert run.fingerprint != prepare(given).fingerprint


def test_what_the_dataset_check_finds_is_told(model, tmp_path, caplog):
    data = write_own_data(tmp_path / "data")
    find(model, data, tmp_path / "run")
    assert "should not be trained on" not in caplog.text
    shutil.copy(data / "awe" / "0.jpg", data / "fear" / "copy.jpg")
    for number in range(1, 6):
        (data / "gloom" / f"{number}.jpg").unlink()
    find(model, data, tmp_path / "again")
    assert f"2 images in {data} should not be trained on (contradiction 2); list" in caplog.text
    command = f"mdan-zoo dataset folder --data {data} --hierarchy FILE --write-clean exclude.tsv"
    assert f"\n  {command}\n" in caplog.text
    assert f"{data} has only one image of gloom" in caplog.text
