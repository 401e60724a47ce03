"""Recipes of the systems to compare MDAN with, and the commands that train them."""

from __future__ import annotations

import dataclasses
import shlex

import pytest
from dataset_trees import write_fi, write_images
from tiny_model import OWN_TREE

from mdan_zoo.errors import InputError
from mdan_zoo.training import TrainingConfig, train
from mdan_zoo.training.recipe import Recipe, load_recipe
from mdan_zoo.training.report import read_report
from mdan_zoo.training.state import STATE_FILE
from mdan_zoo.zoo.configs import REGISTERED, SYSTEMS, training_command


@pytest.mark.parametrize("system", ["flat", "wscnet", "alexnet"])
def test_a_compared_system_has_the_recipe_of_mdan_on_its_dataset(system):
    for dataset in ("fi8", "artphoto8"):
        found, mdan = (load_recipe(f"{start}_{dataset}") for start in (system, "mdan"))
        init = f"{system}_fi8" if mdan.init else ""
        assert found == dataclasses.replace(mdan, model=f"{system}_{dataset}", init=init)
    found = load_recipe("flat_artphoto8_resnet50")
    assert found == dataclasses.replace(
        load_recipe("flat_artphoto8"), model=found.model, init="flat_fi8_resnet50"
    )


def test_a_system_on_the_backbone_of_a_released_model_has_its_recipe():
    """But not MDAN's loss weights and temperature: the baseline's were fitted on its own."""
    flat = load_recipe("flat_fi8_lite0", ["temperature=none"])
    found = load_recipe("wscnet_fi8_lite0")
    assert found == dataclasses.replace(flat, model="wscnet_fi8_lite0")


def test_a_curriculum_has_a_stage_for_every_level_unless_it_starts_from_another_one():
    assert load_recipe("curriculum_webemo25").stages == "polarity,primary,secondary"
    assert load_recipe("curriculum_fi8_lite0").stages == "polarity,emotion"
    assert load_recipe("curriculum_fi8", ["stages=emotion"]).stages == "emotion"
    small = load_recipe("curriculum_iaps8")
    assert (small.init, small.stages) == ("curriculum_fi8", "")
    assert load_recipe("curriculum_iaps8", ["init="]).stages == "polarity,emotion"


def test_a_probe_is_trained_on_the_embeddings_of_an_image_and_its_mirror_image():
    expected = load_recipe("flat_fi8", ["frozen_stages=4", "cached_views=2", "min_crop_area=1"])
    assert load_recipe("probe_fi8") == dataclasses.replace(expected, model="probe_fi8")


def test_all_layers_of_a_network_without_pretrained_weights_learn_at_one_rate():
    for name in ("smallcnn_fi8", "smallcnn_artphoto8"):
        for changes in ([], ["lr=0.02"]):
            recipe = load_recipe(name, changes)
            assert recipe.backbone_lr == recipe.lr


def test_the_command_of_a_system_starts_from_the_model_of_its_recipe():
    for name, config in SYSTEMS.items():
        _, _, init = training_command(config).partition(" --init ")
        assert init.removesuffix("/model.safetensors") == load_recipe(name).init


@pytest.mark.slow
def test_the_commands_train_a_system_on_fi_and_then_on_a_small_dataset(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_fi(tmp_path / "fi")
    classes = ("amusement", "anger", "awe", "content", "disgust", "excitement", "fear", "sad")
    names = [f"testImages_artphoto/{name}_{n:04}.jpg" for name in classes for n in range(2)]
    write_images(tmp_path / "artphoto", names)
    quick = ["--set", "epochs=1", "--set", "batch_size=8", "--workers", "0"]
    for name, data, changes in (
        ("smallcnn_fi8", "fi", []),
        ("smallcnn_artphoto8", "artphoto", ["--set", "split=all"]),
    ):
        _, program, *arguments = shlex.split(f"_ {training_command(SYSTEMS[name])}")
        paths = {"FOLDER": data, "DIR": name}
        status, _, messages = run(*(paths.get(word, word) for word in arguments), *changes, *quick)
        assert (program, status) == ("mdan-zoo", 0), messages
        assert read_report(tmp_path / name)["model"] == name
    assert "smallcnn_fi8" in read_report(tmp_path / name)["recipe"]["init"]


@pytest.mark.slow
def test_a_run_is_resumed_although_a_newer_system_has_its_name(
    tiny_model, own_images, tmp_path, monkeypatch
):
    output = tmp_path / "wscnet_fi8"
    recipe = Recipe("mdan_fi8", init=str(tiny_model), epochs=1, batch_size=8, split="all")
    config = TrainingConfig(recipe, own_images, output, hierarchy=OWN_TREE, workers=0)
    with monkeypatch.context() as version:
        version.delitem(REGISTERED, output.name)
        weights = train(config)
    expected = weights.read_bytes()
    weights.unlink()
    assert train(config).read_bytes() == expected
    (output / STATE_FILE).unlink()
    with pytest.raises(InputError, match="wscnet_fi8 is a registered model"):
        train(config)
