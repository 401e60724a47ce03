"""Objective, evaluation, schedules, and a training on cached maps that is killed and resumed."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from oasis_folder import write_oasis
from safetensors.torch import load_file, save_file

from mdan_zoo.backbones.pyramid import build_backbone, stages_after
from mdan_zoo.errors import CheckpointError, DatasetError, WeightsUnavailableError
from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.training import TrainingConfig, prepare, train
from mdan_zoo.training.backbone_weights import load_backbone_weights
from mdan_zoo.training.losses import balancing_weights, cross_entropy, level_targets
from mdan_zoo.training.optimizer import rate_factor
from mdan_zoo.training.recipe import Recipe, load_recipe
from mdan_zoo.training.state import LOG_FILE, STATE_FILE
from mdan_zoo.training.trainer import Trainer
from mdan_zoo.weights.checkpoint import read_identity
from mdan_zoo.zoo.configs import MODELS

QUICK = ("cached_views=2", "batch_size=5", "epochs=3")


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


# --- what is minimised, and how it is judged


def test_cross_entropy_is_eq_3_with_the_logarithm():
    predicted = [torch.tensor([[0.25, 0.75]]), torch.tensor([[0.1, 0.2, 0.3, 0.4]])]
    targets = [torch.tensor([[0.0, 1.0]]), torch.tensor([[0.0, 0.0, 0.5, 0.5]])]
    expected = -(math.log(0.75) + 0.5 * math.log(0.3) + 0.5 * math.log(0.4)) / 2
    assert cross_entropy([p.log() for p in predicted], targets).item() == pytest.approx(expected)


def test_targets_are_summed_up_the_hierarchy():
    leaves = torch.tensor([[0.1, 0.2, 0.3, 0.4]])
    coarse, fine = level_targets(leaves, get_hierarchy("circumplex4"))
    torch.testing.assert_close(coarse, torch.tensor([[0.3, 0.7]]))
    assert fine.equal(leaves)


# --- start


@pytest.mark.parametrize("name", ["mobilenetv2_100", "resnet18", "convnext_atto"])
def test_the_last_stage_makes_c5_of_c4(name):
    backbone, _ = build_backbone(name)
    backbone.eval()
    with torch.inference_mode():
        pyramid = list(backbone(torch.randn(1, 3, 64, 64)))
        assert stages_after(backbone, 3)(pyramid[2]).equal(pyramid[3])


def test_a_file_of_another_backbone_is_refused(backbone_file):
    backbone, _ = build_backbone("resnet18")
    with pytest.raises(CheckpointError, match=r"does not fit the network: bn1"):
        load_backbone_weights(backbone, "resnet18", backbone_file)


# --- trainings


def plan(folder, backbone_file, output, *changes):
    recipe = load_recipe("mdan_oasis4", [*QUICK, *changes])
    return TrainingConfig(recipe, folder, output, backbone_weights=backbone_file)


@pytest.mark.slow
def test_training_changes_the_last_stage_and_nothing_before_it(folder, backbone_file, tmp_path):
    data = prepare(plan(folder, backbone_file, tmp_path, "backbone_lr=0.01"))
    recipe = load_recipe("mdan_oasis4", [*QUICK, "backbone_lr=0.01"])
    network = Trainer(data, list(range(12)), recipe).run()
    names = {name for name, _ in stages_after(network.backbone, 3).named_parameters()}
    assert names
    changed = [
        name
        for name, value in network.backbone.state_dict().items()
        if not value.equal(data.backbone_state[name])
    ]
    assert changed
    assert all(name.startswith(("blocks.5", "blocks.6")) for name in changed)


def test_hard_and_soft_labels(folder, backbone_file, tmp_path):
    soft = prepare(plan(folder, backbone_file, tmp_path)).targets[-1]
    hard = prepare(
        plan(folder, backbone_file, tmp_path, "label_std_scale=0", "cached_views=0")
    ).targets[-1]
    assert hard.sum(dim=1).equal(torch.ones(12))
    assert set(hard.flatten().tolist()) == {0.0, 1.0}
    assert soft.argmax(dim=1).equal(hard.argmax(dim=1))
    assert 0.3 < soft.max(dim=1).values.min() < 0.9


@pytest.mark.slow
def test_a_state_of_another_recipe_is_refused(folder, backbone_file, tmp_path):
    train(plan(folder, backbone_file, tmp_path))
    with pytest.raises(CheckpointError, match="another recipe"):
        train(plan(folder, backbone_file, tmp_path, "lr=0.5"))


@pytest.mark.slow
def test_a_finished_training_is_not_repeated(folder, backbone_file, tmp_path):
    weights = train(plan(folder, backbone_file, tmp_path))
    before = weights.read_bytes()
    history = (tmp_path / LOG_FILE).read_text()
    assert train(plan(folder, backbone_file, tmp_path)).read_bytes() == before
    assert (tmp_path / LOG_FILE).read_text() == history


@pytest.mark.slow
def test_a_killed_training_on_cached_maps_resumes_exactly(folder, backbone_file, tmp_path):
    """kill -9 between epochs or within one; the weights equal an undisturbed training's.

    Both run on one thread: how many share a sum decides how it is rounded.
    """

    def command(output):
        options = ["--data", folder, "--output", output, "--backbone-weights", backbone_file]
        changes = ("cached_views=2", "batch_size=2", "epochs=8")
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
    (output / ".mdan_zoo.0123456789abcdef.part").write_bytes(b"killed while it wrote the state")

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


@pytest.mark.slow
def test_a_state_of_other_data_is_refused(folder, backbone_file, tmp_path):
    output = tmp_path / "run"
    train(plan(folder, backbone_file, output))
    other = write_oasis(tmp_path / "other")
    table = other / "OASIS.csv"
    table.write_text(table.read_text(encoding="utf-8").replace("5.9", "5.8"), encoding="utf-8")
    with pytest.raises(CheckpointError, match="created with another data"):
        train(plan(other, backbone_file, output))


@pytest.mark.parametrize("content", [b"", b"epoch 3", b"PK\x03\x04"])
def test_a_damaged_state_is_reported(content, folder, backbone_file, tmp_path):
    (tmp_path / STATE_FILE).write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        train(plan(folder, backbone_file, tmp_path))


def test_nothing_is_made_where_the_data_are_wrong(backbone_file, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError):
        train(plan(tmp_path / "empty", backbone_file, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_small_set_says_what_it_starts_from(folder, tmp_path):
    with pytest.raises(WeightsUnavailableError, match=r"mdan_fi8 first.*--set init="):
        train(TrainingConfig(load_recipe("mdan_artphoto8"), folder, tmp_path / "run"))


@pytest.mark.parametrize(
    ("step", "expected"), [(0, 1), (9 * 5 + 4, 1), (10 * 5, 0.1), (29 * 5 + 4, 0.01)]
)
def test_the_papers_schedule_falls_by_ten_every_ten_epochs(step, expected):
    assert rate_factor(Recipe("mdan_fi8"), step, steps_per_epoch=5) == pytest.approx(expected)


def test_the_cosine_rises_over_the_warm_up_and_falls_to_nothing():
    recipe = Recipe("m", schedule="cosine", warmup_steps=9, epochs=20)
    rates = [rate_factor(recipe, step, steps_per_epoch=5) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9]
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert 0 < rates[-1] < 0.001


def test_the_warm_up_takes_a_tenth_of_a_short_training():
    """Of 16 steps, 20 of warm-up would never let the rate come near its value."""
    recipe = Recipe("m", schedule="cosine", warmup_steps=20, epochs=8)
    rates = [rate_factor(recipe, step, steps_per_epoch=2) for step in range(16)]
    assert rates[:2] == pytest.approx([0.5, 0.5 * (1 + math.cos(math.pi / 16))])


def test_rare_leaves_weigh_more():
    leaves = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    weights = balancing_weights(leaves)
    assert weights.tolist() == pytest.approx([2 / 3, 2 / 3, 2 / 3, 2])
