"""Curriculum training: what a stage starts from, resuming in every stage, and the result."""

from __future__ import annotations

import csv
import dataclasses

import pytest
import torch
from safetensors.torch import load_file
from tiny_model import CONFIG, OWN_TREE

from mdan_zoo import Predictor, get_hierarchy
from mdan_zoo.cli.main import main
from mdan_zoo.errors import CheckpointError, InputError
from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.training import TrainingConfig, prepare, train
from mdan_zoo.training import recipe as recipe_module
from mdan_zoo.training import trainer as trainer_module
from mdan_zoo.training.optimizer import rate_factor
from mdan_zoo.training.recipe import Recipe, fine_tuning_recipe, load_recipe
from mdan_zoo.training.report import read_report
from mdan_zoo.training.run import Run
from mdan_zoo.training.stages import next_network, split_stages
from mdan_zoo.training.state import LOG_FILE
from mdan_zoo.training.trainer import Trainer
from mdan_zoo.weights.checkpoint import read_identity, save_checkpoint
from mdan_zoo.zoo.factory import build_network

# "sadness" is a class of two levels.
TREE = Hierarchy.from_nested(
    {"positive": {"joy": ["zest"]}, "negative": {"sadness": ["shame", "sadness"]}}
)
STEPS = 3  # in an epoch
AVERAGED = {"ema_decay": 0.5, "init_bias_from_priors": True}


def plan(model, data, output, stages, **changes):
    values = {"init": str(model), "epochs": 4, "batch_size": 8, "split": "all", **changes}
    recipe = Recipe("mdan_fi8", stages=stages, **values)
    return TrainingConfig(recipe, data, output, hierarchy=OWN_TREE, workers=0)


def log(folder):
    with (folder / LOG_FILE).open(newline="") as file:
        return list(csv.DictReader(file))


# --- the recipe


def test_the_stages_share_the_epochs_and_the_rate_decays_between_them():
    recipe = Recipe("m", stages="polarity, 1,secondary")
    assert recipe.stage_levels() == ["polarity", 1, "secondary"]
    assert recipe.stage_ends == [10, 20, 30]
    assert dataclasses.replace(recipe, epochs=8).stage_ends == [2, 5, 8]
    assert Recipe("m", epochs=7).stage_ends == [7]
    rates = [rate_factor(recipe, step, steps_per_epoch=2) for step in range(60)]
    assert rates == pytest.approx([1.0] * 20 + [0.1] * 20 + [0.01] * 20)
    two = Recipe("m", stages="0,1")  # no decay after step_epochs=10
    assert [rate_factor(two, epoch, 1) for epoch in range(30)] == [1.0] * 15 + [0.1] * 15


@pytest.mark.parametrize("stages", ["polarity,,emotion", "0,1,0"])
def test_stages_without_a_level_or_an_epoch_are_refused(stages):
    with pytest.raises(InputError, match=f"at most as many as epochs=2, not '{stages}'"):
        Recipe("m", stages=stages, epochs=2)


@pytest.mark.parametrize("stages", ["coarse,finest", "0,2"])
def test_a_level_that_the_hierarchy_lacks_is_refused_before_the_work(
    stages, tiny_model, own_hierarchy, own_images, tmp_path, capsys
):
    given = ["--init", tiny_model, "--hierarchy", own_hierarchy, "--data", own_images]
    given += ["--output", tmp_path / "run", "--set", f"stages={stages}"]
    assert main(["train", *map(str, given)]) == 2
    assert "use 0 to 1, or 'coarse', 'fine'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_fine_tuning_has_stages_only_if_they_are_given(tiny_model, tmp_path, monkeypatch):
    """Those of a recipe are levels of the hierarchy of its model."""
    text = 'model = "mdan_fi8"\nstages = "polarity,emotion"\n'
    (tmp_path / "mdan_fi8.toml").write_text(text)
    monkeypatch.setattr(recipe_module, "_FOLDER", tmp_path)
    assert load_recipe("mdan_fi8").stages == "polarity,emotion"
    assert fine_tuning_recipe(str(tiny_model), recipe="mdan_fi8").stages == ""
    given = fine_tuning_recipe(str(tiny_model), ["stages=fine,coarse"], recipe="mdan_fi8")
    assert given.stages == "fine,coarse"


# --- a stage


def test_a_stage_has_the_labels_down_to_its_level(model, data, tmp_path):
    given = plan(model, data, tmp_path / "run", "coarse,1", label_std_scale=1.0)
    run = prepare(given)
    shares = (0.1, 0.2, 0.3, 0.4)
    samples = [dataclasses.replace(run.samples[0], distribution=shares), *run.samples[1:]]
    coarse, fine = split_stages(dataclasses.replace(run, samples=samples))
    assert (coarse.hierarchy.levels, fine.hierarchy) == (OWN_TREE.levels[:1], OWN_TREE)
    assert (fine.samples, fine.targets) == (samples, run.targets)
    assert coarse.samples[0].distribution == pytest.approx((0.3, 0.7))
    assert [s.labels for s in coarse.samples] == [s.labels[:1] for s in samples]
    assert (len(coarse.targets), coarse.targets[0]) == (1, run.targets[0])
    assert coarse.fingerprint == fine.fingerprint


def test_the_average_discards_the_initial_weights_of_every_stage(model, data, tmp_path):
    run = prepare(plan(model, data, tmp_path / "run", "0,1", ema_decay=0.99))
    for stage in split_stages(run):
        trainer = Trainer(stage, list(range(len(run.samples))))
        (name, *_) = trainer.network.classifiers()
        networks = (trainer.network, trainer.average)
        weight, average = (network.get_parameter(f"{name}.bias") for network in networks)
        with torch.no_grad():
            average.fill_(0)
            weight.fill_(1)
        trainer.step += 1
        trainer._update_average()
        torch.testing.assert_close(average.data, torch.full_like(average, 9 / 11))


@pytest.mark.parametrize("architecture", ["mdan", "flat"])
@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 0)])
def test_all_but_the_classifiers_comes_from_the_stage_before(architecture, before, after):
    config = CONFIG
    if architecture == "flat":
        config = dataclasses.replace(CONFIG, architecture="flat", options=None)
    previous = build_network(config, TREE.cut(before))
    for value in previous.state_dict().values():
        value.add_(1)
    run = object.__new__(Run)
    vars(run).update(model=config, hierarchy=TREE.cut(after))
    network = next_network(run, previous, seed=5)
    torch.manual_seed(5)
    new, given = build_network(config, TREE.cut(after)).state_dict(), previous.state_dict()
    kept = {name for name in new.keys() & given.keys() if "classifier" not in name}
    assert "backbone.conv1.weight" in kept
    for name, value in network.state_dict().items():
        assert value.equal(given[name] if name in kept else new[name]), name
    assert network.hierarchy == TREE.cut(after)


# --- trainings


@pytest.mark.slow
def test_a_stage_is_a_training_on_its_level_and_the_last_one_is_the_result(
    model, data, tmp_path, capsys
):
    output = tmp_path / "run"
    weights = train(plan(model, data, output, "coarse,fine"))
    told = capsys.readouterr().err
    for epoch, stage in ((2, "stage 1 of 2, coarse"), (3, "stage 2 of 2, fine")):
        assert f"epoch {epoch} of 4 ({stage}): loss " in told
    rows = log(output)
    assert [row["stage"] for row in rows] == ["1", "1", "2", "2"]
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert [float(row["learning_rate"]) for row in rows] == [0.01, 0.01, 0.001, 0.001]
    report = read_report(output)
    assert [row["stage"] for row in report["history"]] == [1, 1, 2, 2]
    assert "--set stages=coarse,fine" in report["command"]
    config, hierarchy = read_identity(weights)
    assert (config.name, hierarchy) == ("run", OWN_TREE)

    alone = train(plan(model, data, tmp_path / "alone", "coarse", epochs=2))
    assert [row["loss"] for row in log(tmp_path / "alone")] == [row["loss"] for row in rows[:2]]
    start, first, last = map(load_file, (model, alone, weights))
    name = "backbone.conv1.weight"
    trained = (first[name] - start[name]).norm()
    assert trained > 0
    assert 0 < (last[name] - first[name]).norm() < 0.5 * trained, "at a tenth of the rate"


@pytest.fixture(scope="module")
def whole(model, data, tmp_path_factory):
    """A training run that was not interrupted."""
    output = tmp_path_factory.mktemp("whole") / "run"  # the checkpoint contains the name
    return train(plan(model, data, output, "coarse,fine", **AVERAGED))


@pytest.mark.slow
@pytest.mark.parametrize("step", [4, 6, 8, 10])
def test_a_training_is_resumed_exactly_in_every_stage(
    step, whole, model, data, tmp_path, monkeypatch
):
    """Between stages as well, where the state is that of the stage before: step 6 of 12."""
    given = plan(model, data, tmp_path / "run", "coarse,fine", **AVERAGED)
    set_rates, trained = trainer_module.set_rates, []

    def interrupt(optimizer, recipe, current, steps_per_epoch):
        trained.append(current)
        if len(trained) == step + 1:
            raise KeyboardInterrupt
        set_rates(optimizer, recipe, current, steps_per_epoch)

    monkeypatch.setattr(trainer_module, "set_rates", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(given)
    assert train(given).read_bytes() == whole.read_bytes()
    assert trained[step + 1 :] == list(range(step // STEPS * STEPS, 4 * STEPS))
    found, expected = log(tmp_path / "run"), log(whole.parent)
    for row in (*found, *expected):
        del row["images_per_second"]
    assert found == expected
    assert train(given).read_bytes() == whole.read_bytes(), "a complete training is not repeated"
    with pytest.raises(CheckpointError, match="another recipe"):
        train(plan(model, data, tmp_path / "run", "fine,coarse", **AVERAGED))


@pytest.mark.slow
def test_the_rate_can_be_lowered_between_stages(model, data, tmp_path, monkeypatch):
    set_rates = trainer_module.set_rates

    def interrupt(optimizer, recipe, current, steps_per_epoch):
        if current == 2 * STEPS:
            raise KeyboardInterrupt
        set_rates(optimizer, recipe, current, steps_per_epoch)

    monkeypatch.setattr(trainer_module, "set_rates", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(plan(model, data, tmp_path / "run", "coarse,fine"))
    monkeypatch.undo()
    train(plan(model, data, tmp_path / "run", "coarse,fine", lr=0.005))
    report = read_report(tmp_path / "run")
    change = {"step": 2 * STEPS, "from": {"lr": 0.01}, "to": {"lr": 0.005}}
    assert report["changes"] == [change]
    rates = [row["learning_rate"] for row in report["history"]]
    assert rates == pytest.approx([0.01, 0.01, 0.0005, 0.0005])


@pytest.mark.slow
@pytest.mark.parametrize("stages", ["fine,coarse", "0"])
def test_a_coarse_last_stage_gives_a_model_of_the_coarser_levels(stages, model, data, tmp_path):
    output = tmp_path / "run"
    weights = train(plan(model, data, output, stages, split="50/25/25", epochs=2))
    config, hierarchy = read_identity(weights)
    assert (config.name, config.hierarchy, hierarchy) == ("run", "run", OWN_TREE.cut("coarse"))
    image = next(data.glob("*/*.jpg"))
    assert Predictor(checkpoint=weights).predict(image).path[0] in OWN_TREE.levels[0]
    report = read_report(output)
    assert list(report["test"]["accuracy"]) == ["coarse"]
    assert report["calibration"]["images"] > 0


@pytest.mark.slow
def test_every_fold_has_the_stages(data, tmp_path):
    start = tmp_path / "flat.safetensors"
    config = dataclasses.replace(CONFIG, architecture="flat", options=None)
    save_checkpoint(start, build_network(config), config)
    output = tmp_path / "run"
    train(plan(start, data, output, "coarse,fine", split="2-fold", epochs=2, batch_size=4))
    for folder in (output, output / "fold_0", output / "fold_1"):
        assert [row["stage"] for row in log(folder)] == ["1", "2"]
    assert set(read_report(output)["cross_validation"]["accuracy"]) == {"coarse", "fine"}


def test_a_registered_model_with_a_coarse_last_stage_needs_a_name(tmp_path):
    recipe = Recipe("mdan_fi8", stages="emotion,polarity")
    with pytest.raises(InputError, match=r"coarse last stage.* but mdan_fi8 is a registered model"):
        prepare(TrainingConfig(recipe, tmp_path, tmp_path / "mdan_fi8"))
    assert get_hierarchy("mikels8").cut("polarity").name == "mikels8_polarity"
