"""Training with another backbone, input size and resize mode than those of the model."""

from __future__ import annotations

import hashlib

import pytest
import timm
import torch
from oasis_folder import write_oasis

from mdan_zoo.errors import CheckpointError, InputError, UnknownNameError
from mdan_zoo.images.input_spec import InputSpec
from mdan_zoo.inference.predictor import Predictor
from mdan_zoo.training import TrainingConfig, prepare, train
from mdan_zoo.training.recipe import load_recipe
from mdan_zoo.training.report import read_report
from mdan_zoo.training.state import hash_of_start

NAME = "tf_efficientnet_lite0"
QUICK = ("cached_views=2", "batch_size=5", "epochs=2", "split=80/20")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_oasis(tmp_path_factory.mktemp("data") / "oasis")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(5)
    path = tmp_path_factory.mktemp("weights") / "lite.pth"
    torch.save(timm.create_model(NAME).state_dict(), path)
    return path


def config(folder, output, *changes, model="flat_oasis4", **options):
    return TrainingConfig(load_recipe(model, [*QUICK, *changes]), folder, output, **options)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["flat_oasis4", "mdan_oasis4"])
def test_a_model_is_trained_on_another_backbone(folder, weights, tmp_path, model):
    options = {"backbone": NAME, "size": 64, "resize_mode": "squash", "backbone_weights": weights}
    path = train(config(folder, tmp_path / "lite", model=model, **options))
    predictor = Predictor(checkpoint=path)
    assert predictor.name == "lite"
    assert predictor.config.backbone == NAME
    spec = predictor.config.input
    assert (spec.resize, spec.crop, spec.resize_mode) == (64, 64, "squash")
    assert spec.mean == (0.5, 0.5, 0.5)
    image = sorted((folder / "images").iterdir())[0]
    assert predictor.predict(image).levels[-1].label in predictor.hierarchy.leaves
    assert (
        f"--backbone {NAME} --size 64 --resize-mode squash --backbone-weights FILE"
        in read_report(tmp_path / "lite")["command"]
    )


def test_the_size_keeps_the_ratio_of_resize_and_crop(folder, tmp_path):
    run = prepare(
        config(
            folder,
            tmp_path / "small",
            "cached_views=0",
            "init=",
            model="mdan_oasis4",
            size=64,
            backbone_weights=write_weights(tmp_path, "mobilenetv2_100"),
        )
    )
    assert (run.model.input.resize, run.model.input.crop) == (64, 64)
    assert run.model.name == "small"
    assert run.model.backbone == "mobilenetv2_100"


def write_weights(folder, name):
    path = folder / "backbone.pth"
    torch.save(timm.create_model(name).state_dict(), path)
    return path


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"backbone": "resnet"}, UnknownNameError, "no backbone 'resnet'; did you mean"),
        ({"backbone": ""}, UnknownNameError, "no backbone ''"),
        ({"size": 0}, InputError, "crop must be a multiple of 32, not 0"),
        ({"size": 100}, InputError, "crop must be a multiple of 32, not 100"),
        ({"resize_mode": "stretch"}, InputError, "resize_mode must be 'crop' or 'squash'"),
    ],
)
def test_impossible_values_are_reported(folder, tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        prepare(config(folder, tmp_path / "out", **options))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"alhpa": 0.5}, UnknownNameError, "no option 'alhpa'; did you mean 'alpha'"),
        ({"alpha": "half"}, InputError, "alpha must be a number, not 'half'"),
        ({"alpha": 2}, InputError, "alpha must lie within 0 and 1, not 2"),
        ({"heads": "3,4,8"}, InputError, r"heads must divide .* not \(3, 4, 8\)"),
        ({"fusion": "lateral", "upsample_add": "false"}, InputError, "cannot be combined with"),
    ],
)
def test_impossible_options_are_reported(folder, tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        prepare(config(folder, tmp_path / "out", model="mdan_oasis4", options=options))
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_model_with_other_options_is_not_resumed_without_them(folder, weights, tmp_path):
    given = {"backbone": NAME, "size": 64, "backbone_weights": weights, "model": "mdan_oasis4"}
    options = {"alpha": "0.4", "heads": (1, 1, 8)}
    path = train(config(folder, tmp_path / "run", **given, options=options))
    predictor = Predictor(checkpoint=path)
    assert (predictor.name, predictor.config.options.alpha) == ("run", 0.4)
    assert predictor.config.options.heads == (1, 1, 8)
    assert "--option alpha=0.4 --option heads=1,1,8" in read_report(tmp_path / "run")["command"]
    for other in ({}, {"alpha": 0.5, "heads": (1, 1, 8)}):
        with pytest.raises(CheckpointError, match="created with another options"):
            train(config(folder, tmp_path / "run", **given, options=other))


def test_the_name_of_a_registered_model_is_not_taken(folder, tmp_path):
    taken = "named after its output folder, but mdan_fi8 is a registered model"
    with pytest.raises(InputError, match=taken):
        prepare(config(folder, tmp_path / "mdan_fi8", size=64))


def test_a_start_that_has_a_backbone_keeps_it(folder, tiny_model, tmp_path):
    given = config(folder, tmp_path / "out", f"init={tiny_model}", backbone=NAME)
    with pytest.raises(InputError, match=r"are for the backbone .*; remove --backbone tf_eff"):
        prepare(given)


def test_states_from_before_there_were_resize_modes_are_resumed():
    backbone = torch.nn.Linear(1, 1)
    spec = InputSpec(resize=320, crop=320)
    before = hashlib.sha256(
        b"InputSpec(resize=320, crop=320, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), "
        b"interpolation='bilinear')"
    )
    for name, value in backbone.state_dict().items():
        before.update(name.encode() + value.numpy().tobytes())
    assert hash_of_start(backbone.state_dict(), spec) == before.hexdigest()
    squashed = InputSpec(resize=320, crop=320, resize_mode="squash")
    assert hash_of_start(backbone.state_dict(), squashed) != before.hexdigest()
