"""The model factory."""

from __future__ import annotations

import dataclasses
import re

import pytest
import torch

import mdan_zoo
from mdan_zoo.backbones.pyramid import with_normalisation
from mdan_zoo.errors import (
    CheckpointError,
    InputError,
    UnknownNameError,
    WeightsUnavailableError,
)
from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.images.input_spec import InputSpec
from mdan_zoo.inference.predictor import Predictor
from mdan_zoo.inference.verification import golden_image
from mdan_zoo.models.config import ModelConfig
from mdan_zoo.weights.manifest import load_manifest
from mdan_zoo.zoo.configs import MODELS, REGISTERED, SYSTEMS
from mdan_zoo.zoo.factory import build_network, create_model, get_config, list_models

PAPER_MODELS = ("webemo25", "emotion6", "fi8", "artphoto8", "iaps8", "abstract8")


def test_the_papers_six_benchmarks_are_registered_with_its_backbone_and_size():
    for name in PAPER_MODELS:
        config = get_config(f"mdan_{name}")
        assert config.backbone == "resnet101"
        assert (config.options.dim, config.options.alpha) == (1024, 0.7)
        assert (config.options.heads, config.options.lcam) == ((2, 4, 8), "plain")
        assert not config.options.normalise_pyramid
        assert config.input == InputSpec(resize=512, crop=448)


BACKBONES = {
    "flat": "resnet101",
    "curriculum": "resnet50",
    "alexnet": "alexnet:embedding",
    "vgg16": "vgg16:embedding",
    "smallcnn": "smallcnn:embedding",
    "probe": "vit_base_patch16_clip_quickgelu_224.openai:embedding",
    **dict.fromkeys(("wscnet", "pdanet", "fpn", "cnnrnn", "intensity"), "resnet101"),
}


def test_compared_systems_are_registered_on_every_dataset_of_the_paper():
    assert {name.partition("_")[0] for name in SYSTEMS} == set(BACKBONES)
    datasets = (*PAPER_MODELS, "emoset8")
    for system, backbone in BACKBONES.items():
        for name in datasets:
            config, expected = (get_config(f"{start}_{name}") for start in (system, "mdan"))
            own = "flat" if system in ("curriculum", "alexnet", "vgg16", "smallcnn") else system
            assert (config.architecture, config.backbone) == (own, backbone)
            assert (config.hierarchy, config.dataset) == (expected.hierarchy, expected.dataset)
            assert config.input == expected.input or system in ("smallcnn", "probe")
        more = ["fi8_lite0"] if ":" not in backbone else []
        more += [f"{name}_resnet50" for name in datasets if system == "flat"]
        names = {f"{system}_{name}" for name in (*datasets, *more)}
        assert set(list_models(f"{system}_*")) - {"flat_oasis4"} == names
    assert not SYSTEMS.keys() & load_manifest().keys()


def test_a_suffix_names_another_backbone():
    lite0, mdan = get_config("wscnet_fi8_lite0"), get_config("mdan_fi8_lite0")
    changed = {"name": mdan.name, "architecture": "mdan", "options": mdan.options}
    assert dataclasses.replace(lite0, **changed) == mdan
    resnet50, flat = get_config("flat_iaps8_resnet50"), get_config("flat_iaps8")
    assert dataclasses.replace(resnet50, name=flat.name, backbone="resnet101") == flat


def test_the_normalisation_of_a_system_is_that_of_its_backbone():
    for config in SYSTEMS.values():
        assert with_normalisation(config.input, config.backbone) == config.input


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("wscnet_fi8", "mdan-zoo train wscnet_fi8 --data FOLDER --output DIR"),
        (
            "pdanet_fi8_lite0",
            "mdan-zoo train pdanet_fi8_lite0 --data FI=FOLDER --data OASIS=FOLDER --output DIR",
        ),
        (
            "flat_iaps8_resnet50",
            "mdan-zoo train flat_iaps8_resnet50 --data FOLDER --output DIR --init "
            "flat_fi8_resnet50/model.safetensors",
        ),
    ],
)
def test_without_an_entry_in_the_manifest_the_error_has_the_training_command(name, command):
    message = f"{name} has no released weights: .*To train the model: {re.escape(command)}$"
    with pytest.raises(WeightsUnavailableError, match=message):
        create_model(name, pretrained=True)


def test_a_mistyped_name_is_helped():
    with pytest.raises(UnknownNameError, match="'mdan_fi9'; did you mean 'mdan_fi8'"):
        create_model("mdan_fi9")
    with pytest.raises(UnknownNameError, match="did you mean 'resnet101'"):
        create_model("mdan_fi8", backbone="resnet1O1")
    with pytest.raises(UnknownNameError, match="webemo25"):
        create_model("mdan_fi8", hierarchy="webemo26")


@pytest.mark.parametrize("name", [5, None, ["mdan_fi8"], 2.5])
def test_a_name_that_is_no_text_is_refused(name):
    with pytest.raises(UnknownNameError, match="there is no model"):
        get_config(name)
    with pytest.raises(UnknownNameError, match="there is no built-in hierarchy"):
        get_hierarchy(name)


def test_models_are_listed_by_pattern():
    assert list_models() == sorted(REGISTERED)
    assert "mdan_fi8" in list_models("mdan_*8")
    assert "mdan_oasis4" not in list_models("mdan_*8")
    assert "mdan_oasis4" in list_models(pretrained=True)
    assert "mdan_fi8" not in list_models(pretrained=True)
    assert list_models("*_fi8_lite0", pretrained=True) == ["flat_fi8_lite0", "mdan_fi8_lite0"]


def test_unreleased_weights_are_an_error_that_says_how_to_train_them():
    with pytest.raises(WeightsUnavailableError, match="mdan-zoo train mdan_fi8 --data"):
        create_model("mdan_fi8", pretrained=True)


@pytest.mark.parametrize("change", [{"hierarchy": "mikels8"}, {"backbone": "resnet18"}])
def test_released_weights_fit_nothing_else(change):
    with pytest.raises(InputError, match="fit only its own hierarchy"):
        create_model("mdan_oasis4", pretrained=True, **change)


def test_released_weights_are_not_lost_on_the_meta_device():
    with torch.device("meta"), pytest.raises(CheckpointError, match="on the meta device"):
        create_model("flat_oasis4", pretrained=True)


def test_two_sources_of_weights_are_refused(random_checkpoint):
    with pytest.raises(InputError, match="give one of them"):
        create_model("mdan_oasis4", pretrained=True, checkpoint=random_checkpoint)


def test_a_custom_hierarchy_takes_the_place_of_the_models():
    tree = mdan_zoo.Hierarchy.from_nested({"good": ["calm", "glad"], "bad": ["sad"]})
    model = create_model("mdan_oasis4", hierarchy=tree)
    assert model(torch.zeros(2, 3, 64, 64)).probs["overall"][1].shape == (2, 3)


def test_a_checkpoint_of_another_model_is_refused(random_checkpoint):
    with pytest.raises(CheckpointError, match="belongs to another model"):
        create_model("mdan_fi8", backbone="mobilenetv2_100", checkpoint=random_checkpoint)
    with pytest.raises(CheckpointError, match="trained for the hierarchy"):
        create_model("mdan_oasis4", hierarchy="mikels8", checkpoint=random_checkpoint)


def test_a_config_survives_writing_and_reading():
    for config in MODELS.values():
        assert ModelConfig.from_dict(config.to_dict()) == config
    with pytest.raises(InputError, match="unexpected keyword argument 'colour'"):
        ModelConfig.from_dict({**MODELS["mdan_fi8"].to_dict(), "colour": "red"})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("crop", 100),
        ("crop", 448.0),
        ("resize", 300),
        ("resize", 10**9),
        ("resize", 4097),
        ("resize", "512"),
        ("resize", True),
        ("interpolation", "nearest"),
        ("mean", (0.5,)),
        ("mean", None),
        ("mean", (0.5, "0.5", 0.5)),
        ("std", (0.0, 1.0, 1.0)),
    ],
)
def test_impossible_input_specs_are_refused(field, value):
    with pytest.raises(InputError, match=field):
        InputSpec(**{field: value})


@pytest.mark.parametrize(
    "change", [{"architecture": "foo"}, {"backbone": 5}, {"options": None}, {"input": [1]}]
)
def test_malformed_configs_are_refused(change):
    with pytest.raises(InputError):
        ModelConfig.from_dict({**MODELS["mdan_fi8"].to_dict(), **change})


def test_the_flat_classifier_has_no_local_branch():
    flat = ModelConfig("flat", "circumplex4", "OASIS", "mobilenetv2_100", "flat")
    output = build_network(flat)(torch.zeros(2, 3, 64, 64))
    assert list(output.log_probs) == ["overall", "global"]
    assert output.log_probs["overall"] is output.log_probs["global"]


@pytest.mark.parametrize("name", list_models(pretrained=True))
def test_released_weights_give_the_golden_output(name):
    """Guards weights, preprocessing and network together against silent change."""
    golden = dict(load_manifest()[name].details["golden"]["output"])
    prediction = Predictor(name, device="cpu").predict(golden_image())
    ratings = {rating.name: rating.value for rating in prediction.dimensions}
    assert ratings == pytest.approx(golden.pop("dimensions", {}), abs=2e-3)
    assert [level.name for level in prediction.levels] == list(golden)
    for level in prediction.levels:
        assert level.scores == pytest.approx(golden[level.name], abs=2e-3)


@pytest.mark.parametrize("name", list_models(pretrained=True))
def test_released_weights_are_those_of_the_registered_config(name):
    details = load_manifest()[name].details
    assert details["hierarchy"] == get_hierarchy(MODELS[name].hierarchy).to_dict()
    assert (
        InputSpec(
            **{k: tuple(v) if isinstance(v, list) else v for k, v in details["input"].items()}
        )
        == MODELS[name].input
    )


def test_a_custom_hierarchy_can_be_given_as_nested_dicts():
    model = create_model("mdan_oasis4", hierarchy={"good": ["calm", "glad"], "bad": ["sad"]})
    assert model.hierarchy.sizes == (2, 3)
    with pytest.raises(UnknownNameError, match="no built-in hierarchy"):
        create_model("mdan_oasis4", hierarchy="")


def test_a_config_can_take_the_place_of_a_name(random_checkpoint):
    config = get_config("mdan_oasis4")
    assert type(create_model(config, checkpoint=random_checkpoint)).__name__ == "MDAN"
    with pytest.raises(InputError, match="needs the name of a model, not a config"):
        create_model(config, pretrained=True)
