"""`training.json`: enough to know the weights by, and to train them again."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shlex
from pathlib import Path

import pytest
from tiny_model import OWN_TREE, write_own_data, write_tiny_model

from mdan_zoo.cli.main import main, make_parser
from mdan_zoo.cli.train import _recipe
from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.training import TrainingConfig
from mdan_zoo.training.recipe import fine_tuning_recipe, load_recipe
from mdan_zoo.training.report import repeating_command, summarise, write_report

FOLDER, DIR = Path("images"), Path("run")


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ({}, "report: {}/training.json"),
        (
            {"test": {"images": 5, "accuracy": {"polarity": 0.8, "emotion": 0.51239}}},
            "test accuracy: polarity 0.800, emotion 0.512; report: {}/test/evaluation.md",
        ),
        (
            {"cross_validation": {"accuracy": {"emotion": {"mean": 0.5, "sd": 0.0625}}}},
            "cross-validation accuracy: emotion 0.500 ± 0.062; report: {}/training.json",
        ),
    ],
    ids=["all", "split", "folds"],
)
def test_the_summary_has_the_accuracies(results, expected, tmp_path):
    write_report(tmp_path, results)
    assert summarise(tmp_path) == expected.format(tmp_path)


@pytest.mark.slow
def test_the_report_has_hash_and_command_of_the_weights(tmp_path):
    model = write_tiny_model(tmp_path / "tiny.safetensors")
    data = write_own_data(tmp_path / "images")
    OWN_TREE.save(tmp_path / "tree.toml")
    values = {"FOLDER": data, "DIR": tmp_path / "first"}

    def train(*arguments):
        assert main([str(argument) for argument in arguments]) == 0
        output = values["DIR"]
        weights = (output / "model.safetensors").read_bytes()
        report = json.loads((output / "training.json").read_text())
        assert report["weights_sha256"] == hashlib.sha256(weights).hexdigest()
        assert report["initial_weights_sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
        assert (report["model"], report["dataset"]) == (output.name, "folder")
        return report

    given = ("--init", model, "--hierarchy", tmp_path / "tree.toml")
    changes = ("--set", "epochs=1", "--set", "batch_size=8", "--set", "freeze_bn=true")
    report = train("train", *given, "--data", data, "--output", values["DIR"], *changes)

    # The command with files, folders and another output in the place of its marks.
    program, *command = shlex.split(report["command"])
    assert program == "mdan-zoo"
    values["DIR"] = tmp_path / "second"
    files = iter((model, tmp_path / "tree.toml"))
    again = train(*(next(files) if word == "FILE" else values.get(word, word) for word in command))
    assert again["recipe"] == report["recipe"]
    assert again["command"] == report["command"]
    assert again["history"][0]["loss"] == pytest.approx(report["history"][0]["loss"], rel=1e-5)


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        (
            TrainingConfig(load_recipe("mdan_fi8"), FOLDER, DIR),
            "train mdan_fi8 --data FOLDER --output DIR",
        ),
        (
            TrainingConfig(
                load_recipe("mdan_oasis4"), FOLDER, DIR, backbone_weights="b.safetensors"
            ),
            "train mdan_oasis4 --data FOLDER --output DIR --backbone-weights FILE",
        ),
        (
            TrainingConfig(load_recipe("mdan_artphoto8", ["init=", "seed=3"]), FOLDER, DIR),
            "train mdan_artphoto8 --set init= --data FOLDER --output DIR --set seed=3",
        ),
        (
            TrainingConfig(load_recipe("mdan_artphoto8", ["init=fi8.safetensors"]), FOLDER, DIR),
            "train mdan_artphoto8 --init FILE --data FOLDER --output DIR",
        ),
        (
            TrainingConfig(
                fine_tuning_recipe("mdan_oasis4", ["label_std_scale=1", "freeze_bn=false"]),
                FOLDER,
                DIR,
                dataset="table",
                hierarchy=OWN_TREE,
                exclude=Path("exclude.tsv"),
                split=Path("split.tsv"),
                accumulate=2,
                precision="bf16",
                compile=True,
                workers=3,
            ),
            "train --init mdan_oasis4 --recipe mdan_oasis4 --hierarchy FILE --data FOLDER "
            "--output DIR --dataset table --exclude FILE --split FILE --set freeze_bn=false "
            "--set label_std_scale=1.0 --precision bf16 --accumulate 2 --compile",
        ),
        (
            TrainingConfig(
                fine_tuning_recipe("mdan_oasis4"), FOLDER, DIR, hierarchy=get_hierarchy("polarity3")
            ),
            "train --init mdan_oasis4 --recipe mdan_oasis4 --hierarchy polarity3 --data FOLDER "
            "--output DIR",
        ),
    ],
    ids=["registered", "backbone", "without init", "from a file", "own tree", "built-in tree"],
)
def test_the_command_gives_the_plan_again(plan, expected):
    program, *command = repeating_command(plan)
    assert (program, shlex.join(command)) == ("mdan-zoo", expected)
    files = [plan.recipe.init if word == "FILE" else word for word in command]
    recipe = _recipe(make_parser().parse_args(files))
    assert dataclasses.asdict(recipe) == dataclasses.asdict(plan.recipe)


def test_a_recipe_of_no_model_has_no_command():
    recipe = dataclasses.replace(load_recipe("mdan_fi8"), model="mine", init="mdan_oasis4")
    assert repeating_command(TrainingConfig(recipe, FOLDER, DIR, hierarchy=OWN_TREE)) == []
