"""One training as a whole on a tiny network: what it refuses, and what it goes on from."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest
import torch
from oasis_folder import write_oasis
from tiny_model import CONFIG, OWN_TREE, write_own_data

from mdan_zoo.datasets.splits import SPLIT_FILE, Split
from mdan_zoo.errors import CheckpointError, HierarchyError, ImageError, InputError, TrainingError
from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.models.flat import FlatClassifier
from mdan_zoo.training import TrainingConfig, prepare, train
from mdan_zoo.training.model import _describe
from mdan_zoo.training.pipeline import check_output
from mdan_zoo.training.recipe import Recipe
from mdan_zoo.training.report import read_report
from mdan_zoo.training.state import LOG_FILE, STATE_FILE
from mdan_zoo.training.trainer import Trainer
from mdan_zoo.weights.checkpoint import save_checkpoint
from mdan_zoo.zoo.factory import build_network

ALONE = {"workers": 0}
VIEWS = {"cached_views": 2, "frozen_stages": 3, "min_crop_area": 0.6}


@pytest.fixture
def data(tmp_path):
    return write_own_data(tmp_path / "feelings")


def plan(model, data, output, *, machine=ALONE, file=None, tree=OWN_TREE, dataset="", **changes):
    values = {"init": str(model), "epochs": 1, "batch_size": 8, "split": "all", **changes}
    recipe = Recipe("mdan_fi8", **values)
    return TrainingConfig(recipe, data, output, dataset, hierarchy=tree, split=file, **machine)


def trainer(given, indices=range(24), folder=None):
    return Trainer(prepare(given), list(indices), folder=folder)


# --- what is learned


@pytest.mark.slow
def test_a_class_that_no_training_image_has_leaves_the_start_finite(model, data, tmp_path):
    given = plan(model, data, tmp_path / "run", init_bias_from_priors=True)
    samples = prepare(given).samples
    learner = trainer(given, [n for n, sample in enumerate(samples) if sample.labels[-1] != 1])
    biases = learner.network.global_classifier.bias.detach()
    torch.testing.assert_close(biases.exp(), torch.tensor([6 / 18, 0.5 / 18, 6 / 18, 6 / 18]))
    learner.run()
    assert all(value.isfinite().all() for value in learner.network.state_dict().values())


@pytest.mark.slow
def test_cached_maps_of_a_hierarchy_of_three_levels_have_the_map_that_the_third_reads(
    tmp_path, data
):
    tree = Hierarchy.from_nested(
        {"pleasant": {"high": ["awe"], "low": ["calm"]}, "unpleasant": {"dark": ["fear", "gloom"]}}
    )
    model = tmp_path / "three.safetensors"
    save_checkpoint(model, build_network(CONFIG, tree), CONFIG)
    assert train(plan(model, data, tmp_path / "run", tree=tree, **VIEWS)).exists()


@pytest.mark.slow
def test_a_flat_network_learns_by_the_weights_of_a_network_with_two_branches(model, data, tmp_path):
    weights = {"overall_weight": 0.0, "local_weight": 1.0, "global_weight": 1.0}
    learner = trainer(plan(model, data, tmp_path / "run", **weights))
    backbone = learner.network.backbone
    learner.network = FlatClassifier(backbone, (64, 128, 256, 512), OWN_TREE)
    before = learner.network.global_classifier.weight.detach().clone()
    learner.optimizer = torch.optim.SGD(
        [{"params": list(learner.network.parameters()), "rate": 0.01}], lr=0.01
    )
    learner.run()
    assert learner.history[0]["loss"] > 0
    assert not learner.network.global_classifier.weight.equal(before)


@pytest.mark.slow
def test_trainers_side_by_side_keep_their_own_number_of_parts(model, data, tmp_path):
    in_parts = trainer(plan(model, data, tmp_path / "run", machine={"workers": 0, "accumulate": 4}))
    whole = trainer(plan(model, data, tmp_path / "run"))
    for learner in (in_parts, whole):
        learner.run()
        assert learner.step == 3


@pytest.mark.parametrize(
    ("tree", "name"), [(get_hierarchy("polarity3"), "polarity3"), (OWN_TREE, "run")]
)
def test_the_config_names_a_built_in_hierarchy_and_not_the_output(tree, name, model, tmp_path):
    config, _ = _describe(plan(model, tmp_path, tmp_path / "run", tree=tree), model)
    assert (config.name, config.hierarchy) == ("run", name)


# --- what stops it


@pytest.mark.slow
@pytest.mark.parametrize(("factor", "ema_decay"), [(float("nan"), 0.0), (1e30, 0.9)])
def test_an_update_that_ruins_the_weights_leaves_the_state_before(
    factor, ema_decay, model, data, tmp_path
):
    """A step an epoch: the loss before the update is fine, and the epoch would be kept."""
    given = plan(model, data, tmp_path / "run", batch_size=24, epochs=4, ema_decay=ema_decay)
    learner = trainer(given, folder=tmp_path)
    state = tmp_path / STATE_FILE
    kept = []

    def poison(gradient):
        if learner.step < 2:
            return gradient
        kept.append(state.read_bytes())
        return gradient * factor

    learner.network.levels[0].classifier.weight.register_hook(poison)
    with pytest.raises(TrainingError, match=r"step 3 ruined.*after step 2 is kept"):
        learner.run()
    assert [state.read_bytes()] == kept
    again = trainer(given, folder=tmp_path)
    again.run()
    assert [row["epoch"] for row in again.history] == [1, 2, 3, 4]
    assert all(value.isfinite().all() for value in again.network.state_dict().values())


@pytest.mark.slow
def test_weights_that_the_last_step_ruined_are_not_released(model, data, tmp_path):
    ruined = {"batch_size": 24, "lr": 1e38, "backbone_lr": 1e38}
    with pytest.raises(TrainingError, match=r"step 1 ruined the weights\. A lower") as raised:
        train(plan(model, data, tmp_path / "run", **ruined))
    assert "kept" not in str(raised.value)
    assert list((tmp_path / "run").iterdir()) == []


# --- what it goes on from


@pytest.mark.slow
def test_a_copy_of_the_data_elsewhere_is_the_same_data(model, data, tmp_path):
    train(plan(model, data, tmp_path / "run"))
    log = (tmp_path / "run" / LOG_FILE).read_bytes()
    data.rename(tmp_path / "moved")
    train(plan(model, tmp_path / "moved", tmp_path / "run"))
    assert (tmp_path / "run" / LOG_FILE).read_bytes() == log
    (tmp_path / "moved" / "awe" / "1.jpg").write_bytes(
        (tmp_path / "moved" / "calm" / "1.jpg").read_bytes() + b"."
    )
    with pytest.raises(CheckpointError, match="another data"):
        train(plan(model, tmp_path / "moved", tmp_path / "run"))


@pytest.mark.slow
def test_an_exploded_training_goes_on_with_a_lower_rate(model, data, tmp_path, caplog):
    """The state before is of use: no other rate would mean the same explosion again."""
    given = plan(model, data, tmp_path / "run", batch_size=24, epochs=3)
    learner = trainer(given, folder=tmp_path / "run")
    weight = learner.network.levels[0].classifier.weight
    weight.register_hook(lambda gradient: gradient * (float("nan") if learner.step else 1))
    (tmp_path / "run").mkdir()
    with pytest.raises(TrainingError):
        learner.run()
    lower = {"lr": 0.001, "max_grad_norm": 1.0}
    train(plan(model, data, tmp_path / "run", batch_size=24, epochs=3, **lower))
    report = read_report(tmp_path / "run")
    assert [row["learning_rate"] for row in report["history"]] == [0.01, 0.001, 0.001]
    changed = {"from": {"lr": 0.01, "max_grad_norm": 0.0}, "to": lower}
    assert report["changes"] == [{"step": 1, **changed}]
    assert "resuming from step 1 with another recipe" in caplog.text


@pytest.mark.slow
def test_a_state_of_version_0_1_is_resumed(model, data, tmp_path):
    """Its recipe has other field names."""
    given = plan(model, data, tmp_path / "run", lr=0.02)
    weights = train(given)
    file, before = tmp_path / "run" / STATE_FILE, weights.read_bytes()
    state = torch.load(file, weights_only=True)
    recipe = state["identity"]["recipe"]
    for fields in (recipe, state["rates"]):
        for new, old in (("lr", "learning_rate"), ("backbone_lr", "backbone_rate")):
            fields[old] = fields.pop(new)
    recipe["batch_statistics"] = not recipe.pop("freeze_bn")
    torch.save(state, file)
    assert train(given).read_bytes() == before
    assert read_report(tmp_path / "run")["changes"] == []


@pytest.mark.slow
@pytest.mark.parametrize("change", [{"weight_decay": 0.0}, {"backbone_lr": 0.0}], ids=str)
def test_a_state_is_not_resumed_by_another_recipe(change, model, data, tmp_path):
    """A backbone of rate 0 is frozen: another set of weights is trained."""
    train(plan(model, data, tmp_path / "run"))
    with pytest.raises(CheckpointError, match="another recipe"):
        train(plan(model, data, tmp_path / "run", **change))


@pytest.mark.slow
def test_steps_of_another_size_are_not_resumed(model, data, tmp_path):
    """24 images in steps of 7 are 3 steps an epoch; those of 4, which 4 parts need, are 6."""
    steps = {"epochs": 2, "batch_size": 7}
    train(plan(model, data, tmp_path / "run", **steps))
    in_parts = plan(model, data, tmp_path / "run", machine={"workers": 0, "accumulate": 4}, **steps)
    with pytest.raises(CheckpointError, match="another step size"):
        train(in_parts)


@pytest.mark.slow
def test_a_state_is_not_resumed_from_other_weights(model, data, tmp_path):
    """What frozen stages make of the images is not in the state."""
    start = tmp_path / "start.safetensors"
    shutil.copy(model, start)
    train(plan(start, data, tmp_path / "run", **VIEWS))
    network = build_network(CONFIG)  # of other random weights
    save_checkpoint(start, network, CONFIG)
    with pytest.raises(CheckpointError, match="another backbone to start from"):
        train(plan(start, data, tmp_path / "run", **VIEWS))


def test_a_flat_network_has_no_local_branch_to_learn(data, tmp_path):
    config = dataclasses.replace(CONFIG, architecture="flat", options=None)
    start = tmp_path / "flat.safetensors"
    save_checkpoint(start, build_network(config), config)
    nothing = {"overall_weight": 0.0, "local_weight": 1.0, "global_weight": 0.0}
    with pytest.raises(InputError, match=r"no local branch.* must not both be 0"):
        train(plan(start, data, tmp_path / "run", **nothing))
    assert not (tmp_path / "run").exists()


def test_paths_can_be_text(model, data, tmp_path):
    given = plan(model, str(data), str(tmp_path / "run"))
    assert (given.data, given.output) == (data, tmp_path / "run")


@pytest.mark.slow
def test_a_split_of_another_recipe_is_not_taken_for_its_own(model, data, tmp_path):
    train(plan(model, data, tmp_path / "run", split="80/20"))
    (tmp_path / "run" / STATE_FILE).unlink()
    with pytest.raises(InputError, match=r"80/20, seed 0.*80/20, seed 1"):
        train(plan(model, data, tmp_path / "run", split="80/20", seed=1))


@pytest.mark.slow
def test_sigterm_to_all_processes_keeps_the_step_that_was_reached(model, data, tmp_path):
    """As a cluster sends it: to the process that trains and to those that read images."""
    tree, output = tmp_path / "tree.toml", tmp_path / "run"
    OWN_TREE.save(tree)
    changes = ("--set", "epochs=300", "--set", "batch_size=2", "--set", "split=all")
    options = ("--init", model, "--data", data, "--hierarchy", tree, "--output", output)
    process = subprocess.Popen(
        [sys.executable, "-m", "mdan_zoo", "train", *options, "--workers", "2", *changes],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not (output / STATE_FILE).exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGTERM)
    _, told = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM, told
    assert "run the same command to resume" in told


@pytest.mark.slow
def test_an_error_ends_the_reading_processes(model, data, tmp_path):
    """While it is still at hand, as in a notebook; a process that is left delays Python's exit."""
    machine = {"workers": 2}
    with pytest.raises(TrainingError) as exploded:
        train(plan(model, data, tmp_path / "run", machine=machine, lr=1e30, epochs=9))
    assert multiprocessing.active_children() == []
    (data / "calm" / "3.jpg").write_bytes(b"no image")
    with pytest.raises(ImageError) as unreadable:
        trainer(plan(model, data, tmp_path / "other", machine=machine)).run()
    assert multiprocessing.active_children() == []
    assert exploded.tb
    assert unreadable.tb


@pytest.mark.skipif(torch.cuda.is_available(), reason="for a training on the CPU")
def test_reading_leaves_the_cores_to_the_step(model, data, tmp_path):
    learner = trainer(plan(model, data, tmp_path / "run", machine={"workers": 1}))
    loader = learner.loader(learner.steps())
    next(loader)
    (reader,) = multiprocessing.active_children()
    assert psutil.Process(reader.pid).nice() == 19
    loader.close()


@pytest.mark.slow
def test_a_reading_process_that_is_left_does_not_keep_python_from_exiting():
    code = """
import gc
from torch.utils.data import DataLoader
from mdan_zoo.training import distributed
distributed._GRACE_SECONDS = 1
start = lambda worker: distributed.init_worker(worker, low_priority=True)
loaded = iter(DataLoader(range(9), num_workers=1, worker_init_fn=start))
next(loaded)
gc.disable()
cycle = [loaded]
cycle.append(cycle)
del loaded, cycle  # nothing but the exit ends the reading process now
print("exits")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.returncode) == ("exits\n", 0), done.stderr


# --- what is refused


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, VIEWS], ids=["crops", "views"])
def test_images_that_cannot_be_read_are_reported_before_the_work(changes, model, data, tmp_path):
    """All at once, and also those that are held out and would be read at the very end."""
    train(plan(model, data, tmp_path / "whole", split="80/20", epochs=1))
    held_out = Split.load(tmp_path / "whole" / SPLIT_FILE).images("test")
    for name in held_out:
        (data / name).write_bytes(b"no image")
    with pytest.raises(ImageError) as raised:
        train(plan(model, data, tmp_path / "run", split="80/20", **changes))
    assert f"{len(held_out)} of 24 images cannot be read" in str(raised.value)
    assert all(str(data / name) in str(raised.value) for name in held_out)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_images_that_break_later_are_not_looked_for_when_a_training_goes_on(model, data, tmp_path):
    train(plan(model, data, tmp_path / "run"))
    (data / "calm" / "3.jpg").write_bytes(bytes((data / "calm" / "3.jpg").stat().st_size))
    assert train(plan(model, data, tmp_path / "run")).exists()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_cannot_be_read_is_reported_in_a_line(workers, model, data, tmp_path):
    (data / "calm" / "3.jpg").write_bytes(b"no image")
    with pytest.raises(ImageError) as raised:
        trainer(plan(model, data, tmp_path / "run", machine={"workers": workers})).run()
    assert str(raised.value).startswith(f"{data / 'calm' / '3.jpg'}: ")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("inside", [".", "run"])
def test_an_output_that_is_a_file_is_reported_before_the_work(inside, model, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"output must be a folder.*is a file"):
        train(plan(model, tmp_path / "no data", tmp_path / "file" / inside))


def test_an_output_within_the_data_is_reported(model, data, tmp_path):
    """The next training would read it as a class. A table names its images itself."""
    for output in (data, data / "run", data / "runs" / "first"):
        with pytest.raises(InputError, match="must be outside the data"):
            train(plan(model, data, output))
    assert not (data / "run").exists()
    check_output(data / "run", data / "votes.csv")


def test_the_name_of_a_registered_model_is_not_taken(model, data, tmp_path):
    with pytest.raises(InputError, match=r"mdan_fi8 is a registered model"):
        train(plan(model, data, tmp_path / "mdan_fi8"))
    assert not (tmp_path / "mdan_fi8").exists()


@pytest.mark.parametrize("label_std_scale", [0.0, 0.75])
def test_ratings_are_no_labels_of_a_custom_hierarchy(label_std_scale, model, tmp_path):
    """OWN_TREE has four leaves as well, but they are others."""
    data = write_oasis(tmp_path / "oasis")
    with pytest.raises(HierarchyError, match="for the hierarchy 'circumplex4'"):
        prepare(
            plan(model, data, tmp_path / "run", dataset="OASIS", label_std_scale=label_std_scale)
        )


@pytest.mark.slow
def test_another_precision_in_the_same_process_is_reported(model, data, tmp_path):
    """Accelerate keeps one precision a process."""
    trainer(plan(model, data, tmp_path / "run"))
    with pytest.raises(InputError, match="precision='bf16'"):
        trainer(plan(model, data, tmp_path / "run", machine={"precision": "bf16", "workers": 0}))
