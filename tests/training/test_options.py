"""Effects of single recipe and machine options on the weights, computed by hand."""

from __future__ import annotations

import copy
import dataclasses
import os
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_model import CONFIG, OWN_TREE

from mdan_zoo.training import TrainingConfig, prepare, train
from mdan_zoo.training.recipe import Recipe
from mdan_zoo.training.trainer import Trainer
from mdan_zoo.weights.checkpoint import save_checkpoint
from mdan_zoo.zoo.factory import build_network

ALONE = {"workers": 0}


def plan(model, data, output, machine=ALONE, **changes):
    """Return a plan of one step an epoch, without a weight decay."""
    values = {"epochs": 1, "batch_size": 24, "split": "all", "weight_decay": 0.0, **changes}
    recipe = Recipe("mdan_fi8", init=str(model), **values)
    return TrainingConfig(recipe, data, output, hierarchy=OWN_TREE, **machine)


@pytest.fixture(scope="module")
def trainer(model, data, tmp_path_factory):
    given = plan(model, data, tmp_path_factory.mktemp("output") / "run")
    prepared = prepare(given)

    def trainer(indices=range(24), **changes):
        return Trainer(prepared, list(indices), dataclasses.replace(given.recipe, **changes))

    return trainer


def weights_of(network):
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


@pytest.mark.slow
def test_released_weights_are_the_average_of_the_trained_ones(trainer):
    """The first step keeps a tenth of the start; the second would keep 2/11, and keeps 0.15."""
    learner = trainer(epochs=2, ema_decay=0.15)
    average, trained = weights_of(learner.network), []
    learner.optimizer.register_step_post_hook(
        lambda *_: trained.append(weights_of(learner.network))
    )
    released = learner.run().state_dict()
    for weights, kept in zip(trained, (0.1, 0.15), strict=True):
        for name, value in weights.items():
            if value.is_floating_point():
                average[name] = kept * average[name] + (1 - kept) * value
            else:
                average[name] = value
    torch.testing.assert_close(dict(released), average, rtol=1e-5, atol=1e-7)
    apart = [(released[name] - value).abs().max() for name, value in trained[-1].items()]
    assert max(apart) > 1e-4


def test_clipped_gradients_hardly_move_the_weights(trainer):
    learner = trainer(max_grad_norm=1e-9)
    before = weights_of(learner.network)
    learner.run()
    for name, value in learner.network.named_parameters():
        torch.testing.assert_close(value.detach(), before[name], rtol=0, atol=1e-8)


def test_a_frozen_backbone_stays_as_it_is(trainer):
    learner = trainer(frozen_stages=4)
    before = weights_of(learner.network)
    after = learner.run().state_dict()
    changed = {name for name, value in after.items() if not value.equal(before[name])}
    assert changed
    assert not any(name.startswith("backbone.") for name in changed)


def test_backbone_and_new_layers_have_rates_of_their_own(trainer):
    """The first step of SGD is the gradient times the rate."""
    learner = trainer(lr=0.05, backbone_lr=0.002)
    before, gradients = weights_of(learner.network), {}

    def keep(*_):
        for name, parameter in learner.network.named_parameters():
            gradients[name] = parameter.grad.clone()

    learner.optimizer.register_step_pre_hook(keep)
    for name, value in learner.run().named_parameters():
        rate = 0.002 if name.startswith("backbone.") else 0.05
        expected = before[name] - rate * gradients[name]
        torch.testing.assert_close(value.detach(), expected, rtol=1e-6, atol=1e-8)


def test_the_loss_of_rare_classes_weighs_more(trainer):
    """Of the first class 2 images are there, of the three others 6."""
    indices = [0, 1, *range(6, 24)]
    learner = trainer(indices, balance="loss", batch_size=20, frozen_stages=4)
    network = copy.deepcopy(learner.network).train()
    network.backbone.eval()
    images = torch.stack([learner.dataset[0, index][0] for index in indices])
    with torch.no_grad():
        output = network(learner.preprocessing.normalise(images))
    targets = [level[indices] for level in learner.training.targets]
    losses = sum(
        -(target * found).sum(dim=1)
        for target, found in zip(targets, output.log_probs["overall"], strict=True)
    ) / len(targets)
    weights = torch.tensor([1 / 2] * 2 + [1 / 6] * 18)
    expected = (weights * losses).sum() / weights.sum()
    learner.run()
    assert learner.history[0]["loss"] == pytest.approx(expected.item(), rel=1e-5)
    assert expected.item() != pytest.approx(losses.mean().item(), rel=1e-4)


@pytest.mark.slow
def test_tensorboard_gets_the_log(model, data, tmp_path):
    train(plan(model, data, tmp_path / "run", {"workers": 0, "tensorboard": True}, epochs=2))
    (events,) = (tmp_path / "run").rglob("events.out.tfevents.*")
    log = EventAccumulator(str(events))
    log.Reload()
    assert [event.step for event in log.Scalars("loss")] == [1, 2]


@pytest.mark.slow
@pytest.mark.skipif(
    not any(map(shutil.which, ("c++", "g++", "clang++"))),
    reason="torch.compile needs a C++ compiler on a CPU",
)
def test_a_compiled_network_learns_the_same(data, tmp_path):
    """In a process of its own, which has to end by itself with what torch started beside it.

    A flat network on a frozen backbone: the compiler takes seconds for each kernel.
    """
    config = dataclasses.replace(CONFIG, architecture="flat", options=None)
    model = tmp_path / "flat.safetensors"
    save_checkpoint(model, build_network(config), config)
    OWN_TREE.save(tmp_path / "tree.toml")
    changes = {"cached_views": 2, "frozen_stages": 4, "min_crop_area": 0.6}
    expected = load_file(train(plan(model, data, tmp_path / "plain", **changes)))
    options = ["--init", model, "--data", data, "--hierarchy", tmp_path / "tree.toml"]
    changes = {**changes, "split": "all", "epochs": 1, "batch_size": 24, "weight_decay": 0}
    fields = [part for name, value in changes.items() for part in ("--set", f"{name}={value}")]
    output = tmp_path / "compiled"
    command = ["train", *options, "--output", output, "--workers", "0", "--compile", *fields]
    done = subprocess.run(
        [sys.executable, "-m", "mdan_zoo", *map(str, command)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    found = load_file(output / "model.safetensors")
    assert found.keys() == expected.keys()
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
