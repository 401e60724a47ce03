"""Recipes, objective, evaluation, and a training that is killed and resumed."""

from __future__ import annotations

import math
import os
import signal
import statistics
import subprocess
import sys
import time

import pytest
import torch
from oasis_folder import write_oasis
from PIL import Image
from safetensors.torch import load_file, save_file

from mdan_zoo.checkpoint import read_identity
from mdan_zoo.config import InputSpec
from mdan_zoo.datasets.oasis import read_oasis
from mdan_zoo.errors import CheckpointError, InputError, TrainingError, UnknownNameError
from mdan_zoo.hierarchies import get_hierarchy
from mdan_zoo.models.backbone import build_backbone, last_stage
from mdan_zoo.training.evaluation import evaluate, pearson
from mdan_zoo.training.features import draw_views
from mdan_zoo.training.loop import STATE_FILE
from mdan_zoo.training.objective import cross_entropy, level_targets
from mdan_zoo.training.recipe import Recipe, list_recipes, load_recipe
from mdan_zoo.training.run import prepare, train
from mdan_zoo.training.start import load_backbone_file
from mdan_zoo.zoo import MODELS

QUICK = ("views=2", "batch_size=5", "epochs=3")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_oasis(tmp_path_factory.mktemp("data") / "oasis")


@pytest.fixture(scope="module")
def backbone_file(tmp_path_factory):
    """Random weights in the form of a real file: with a head that the pyramid does not have."""
    torch.manual_seed(3)
    backbone, _ = build_backbone("mobilenetv2_100")
    path = tmp_path_factory.mktemp("weights") / "backbone.safetensors"
    save_file({**backbone.state_dict(), "conv_head.weight": torch.zeros(3)}, path)
    return path


# --- recipes


def test_every_recipe_belongs_to_a_model():
    assert "mdan_oasis4" in list_recipes()
    for name in list_recipes():
        assert load_recipe(name).model == name
        assert name in MODELS


def test_a_recipe_is_changed_field_by_field():
    recipe = load_recipe("mdan_oasis4", ["epochs=3", "learning_rate=0.5"])
    assert (recipe.epochs, recipe.learning_rate) == (3, 0.5)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ("epoch=3", UnknownNameError, "no 'epoch'; did you mean 'epochs'"),
        ("epochs", InputError, "NAME=VALUE, not 'epochs'"),
        ("epochs=many", InputError, "epochs must be a int, not 'many'"),
        ("epochs=0", InputError, "epochs must be above 0, not 0"),
        ("views=1", InputError, "at least 2"),
        ("learning_rate=nan", InputError, "learning_rate must be a finite number, not nan"),
        ("model=mdan_fi8", InputError, "model cannot be changed"),
        ("ema_decay=1", InputError, "below 1, not 1"),
        ("overall_weight=-1", InputError, "must not be negative"),
    ],
)
def test_a_wrong_change_is_told(change, error, message):
    with pytest.raises(error, match=message):
        load_recipe("mdan_oasis4", [change])


def test_a_model_without_a_recipe_is_told():
    with pytest.raises(UnknownNameError, match="no training recipe for 'mdan_fi8'"):
        load_recipe("mdan_fi8")


# --- what is minimised, and how it is judged


def test_cross_entropy_is_eq_3_with_the_logarithm():
    predicted = [torch.tensor([[0.25, 0.75]]), torch.tensor([[0.1, 0.2, 0.3, 0.4]])]
    targets = [torch.tensor([[0.0, 1.0]]), torch.tensor([[0.0, 0.0, 0.5, 0.5]])]
    expected = -(math.log(0.75) + 0.5 * math.log(0.3) + 0.5 * math.log(0.4)) / 2
    assert cross_entropy([p.log() for p in predicted], targets).item() == pytest.approx(expected)


def test_targets_are_summed_up_the_tree():
    leaves = torch.tensor([[0.1, 0.2, 0.3, 0.4]])
    coarse, fine = level_targets(leaves, get_hierarchy("circumplex4"))
    torch.testing.assert_close(coarse, torch.tensor([[0.3, 0.7]]))
    assert fine.equal(leaves)


def test_metrics_of_known_predictions(folder):
    samples = read_oasis(folder)[::2]  # one of each theme
    tree = get_hierarchy("circumplex4")
    leaves = torch.tensor([sample.labels[-1] for sample in samples])
    fine = torch.nn.functional.one_hot(leaves, 4).float()
    fine[0] = torch.tensor([0.0, 0.0, 1.0, 0.0])  # the excited beach is taken for a serene one
    metrics = evaluate(level_targets(fine, tree), samples, tree).to_dict()
    assert metrics["polarity_accuracy"] == 1
    assert metrics["quadrant_accuracy"] == pytest.approx(5 / 6)
    arousal = [dict(sample.ratings)["arousal"] for sample in samples]
    expected = statistics.correlation([0, 0, 0, 1, 0, 1], arousal)
    assert metrics["arousal_r"] == pytest.approx(expected)


def test_the_correlation_with_a_constant_is_undefined():
    assert math.isnan(pearson(torch.ones(3), torch.tensor([1.0, 2.0, 4.0])))


# --- views and start


def test_views_are_the_picture_its_mirror_image_and_repeatable_crops():
    picture = Image.radial_gradient("L").resize((300, 200)).convert("RGB").crop((40, 0, 300, 200))
    spec, recipe = InputSpec(resize=64, crop=64), Recipe("mdan_oasis4", views=6)
    views = torch.stack(list(draw_views(picture, spec, recipe, seed=1)))
    assert views.shape == (6, 3, 64, 64)
    assert views.dtype == torch.uint8
    assert views[1].equal(views[0].flip(-1))
    assert views.equal(torch.stack(list(draw_views(picture, spec, recipe, seed=1))))
    other = torch.stack(list(draw_views(picture, spec, recipe, seed=2)))
    assert other[0].equal(views[0])
    assert not other[2].equal(views[2])


@pytest.mark.parametrize("name", ["mobilenetv2_100", "resnet18", "convnext_atto"])
def test_the_last_stage_makes_c5_of_c4(name):
    backbone, _ = build_backbone(name)
    backbone.eval()
    with torch.inference_mode():
        pyramid = list(backbone(torch.randn(1, 3, 64, 64)))
        assert last_stage(backbone)(pyramid[2]).equal(pyramid[3])


def test_a_file_of_another_backbone_is_refused(backbone_file):
    backbone, _ = build_backbone("resnet18")
    with pytest.raises(CheckpointError, match=r"does not fit the network: bn1"):
        load_backbone_file(backbone, backbone_file)


# --- trainings


def test_training_changes_the_last_stage_and_nothing_before_it(folder, backbone_file):
    recipe = load_recipe("mdan_oasis4", [*QUICK, "last_stage_rate=0.01"])
    data = prepare(recipe, folder, backbone_file)
    network = data.trainer(recipe, list(range(12))).run()
    names = {name for name, _ in last_stage(network.backbone).named_parameters()}
    assert names
    changed = [
        name
        for name, value in network.backbone.state_dict().items()
        if not value.equal(data.backbone_state[name])
    ]
    assert changed
    assert all(name.startswith(("blocks.5", "blocks.6")) for name in changed)


def test_a_loss_that_explodes_stops_the_training_and_keeps_the_state(
    folder, backbone_file, tmp_path
):
    recipe = load_recipe("mdan_oasis4", [*QUICK, "learning_rate=1e30", "warmup_steps=0"])
    with pytest.raises(TrainingError, match="learning rate"):
        train(recipe, folder, tmp_path, backbone_weights=backbone_file)
    assert not list(tmp_path.glob("*.safetensors"))


def test_a_state_of_another_recipe_is_refused(folder, backbone_file, tmp_path):
    train(load_recipe("mdan_oasis4", QUICK), folder, tmp_path, backbone_weights=backbone_file)
    other = load_recipe("mdan_oasis4", [*QUICK, "learning_rate=0.5"])
    with pytest.raises(CheckpointError, match="another recipe"):
        train(other, folder, tmp_path, backbone_weights=backbone_file)


def test_a_killed_training_goes_on_exactly(folder, backbone_file, tmp_path):
    """kill -9 between epochs or within one; the weights equal an undisturbed training's.

    Both run on one thread: how many share a sum decides how it is rounded.
    """

    def command(output):
        options = ["--data", folder, "--output", output, "--backbone-weights", backbone_file]
        changes = ("views=2", "batch_size=2", "epochs=8")
        return [
            sys.executable,
            "-m",
            "mdan_zoo",
            "train",
            "mdan_oasis4",
            *options,
            *(part for change in changes for part in ("--set", change)),
        ]

    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(
        command(tmp_path / "undisturbed"), env=environment, check=True, capture_output=True
    )
    output = tmp_path / "killed"
    process = subprocess.Popen(
        command(output), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    while not (output / STATE_FILE).exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the training ended before it could be killed"

    finished = subprocess.run(
        command(output), env=environment, capture_output=True, text=True, check=True
    )
    weights = output / "model.safetensors"
    assert finished.stdout.strip() == str(weights)
    expected = load_file(tmp_path / "undisturbed" / "model.safetensors")
    found = load_file(weights)
    assert expected.keys() == found.keys()
    assert all(value.equal(found[name]) for name, value in expected.items())
    assert read_identity(weights)[0] == MODELS["mdan_oasis4"]
    assert not list(output.glob(".*")), "leftovers"


def test_a_state_of_other_data_is_refused(folder, backbone_file, tmp_path):
    output = tmp_path / "run"
    train(load_recipe("mdan_oasis4", QUICK), folder, output, backbone_weights=backbone_file)
    other = write_oasis(tmp_path / "other")
    Image.new("RGB", (100, 80), "red").save(other / "images" / "Fog 1.jpg")
    with pytest.raises(CheckpointError, match="made with another data"):
        train(load_recipe("mdan_oasis4", QUICK), other, output, backbone_weights=backbone_file)


@pytest.mark.parametrize("content", [b"", b"epoch 3", b"PK\x03\x04"])
def test_a_damaged_state_is_told(content, folder, backbone_file, tmp_path):
    (tmp_path / STATE_FILE).write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        train(load_recipe("mdan_oasis4", QUICK), folder, tmp_path, backbone_weights=backbone_file)
