"""`mdan-zoo train`: wrong input is told before any work, and a table trains like a folder."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest
from dataset_trees import write_flawed_fi, write_images
from safetensors.torch import load_file
from tiny_model import OWN_TREE

from mdan_zoo import get_hierarchy
from mdan_zoo.cli.main import main
from mdan_zoo.datasets.splits import Split
from mdan_zoo.training import TrainingConfig, fine_tuning_recipe, train
from mdan_zoo.weights.checkpoint import read_identity


@pytest.fixture
def refused(tmp_path, own_images, capsys):
    """Run a training that must be refused; return the message."""

    def refused(*arguments: object) -> str:
        output = tmp_path / "run"
        given = ["train", *arguments, "--data", own_images, "--output", output]
        assert main([str(argument) for argument in given]) == 2
        assert not output.exists()
        return capsys.readouterr().err

    return refused


def test_a_checkpoint_that_does_not_exist_is_reported(refused, own_hierarchy, tmp_path):
    missing = tmp_path / "missing.safetensors"
    told = f"cannot read the checkpoint {missing}"
    assert told in refused("--init", missing, "--hierarchy", own_hierarchy)
    assert told in refused("--init", missing, "--hierarchy", own_hierarchy, "--recipe", "mdan_fi8")


@pytest.mark.slow
def test_offline_nobody_is_asked_for_the_backbone(tmp_path):
    """Neither does timm's client of the Hub try again and again."""
    leaves = get_hierarchy("mikels8").leaves
    names = [f"emotion_dataset/{name}/{n}.jpg" for name in leaves for n in range(2)]
    folder = write_images(tmp_path / "fi", names)
    command = [sys.executable, "-m", "mdan_zoo", "train", "mdan_fi8"]
    done = subprocess.run(
        [*command, "--data", folder, "--output", tmp_path / "run"],
        env={**os.environ, "MDAN_ZOO_OFFLINE": "1", "HF_HOME": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "resnet101 cannot be fetched" in done.stderr
    assert "--backbone-weights" in done.stderr
    assert "Retrying" not in done.stderr


def test_a_split_file_that_does_not_exist_is_reported(refused, tiny_model, own_hierarchy, tmp_path):
    missing = tmp_path / "missing.tsv"
    told = refused("--init", tiny_model, "--hierarchy", own_hierarchy, "--split", missing)
    assert f"cannot read {missing}: No such file or directory" in told


def test_weights_of_a_model_and_of_a_backbone_contradict_each_other(
    refused, tiny_model, own_hierarchy
):
    told = refused(
        "--init",
        tiny_model,
        "--hierarchy",
        own_hierarchy,
        "--backbone-weights",
        "b.safetensors",
    )
    assert "remove --backbone-weights b.safetensors" in told


def test_a_name_and_anothers_recipe_contradict_each_other(refused):
    told = refused("mdan_fi8", "--recipe", "mdan_oasis4")
    assert "mdan_fi8 has a recipe of its own" in told


def test_an_unknown_start_is_reported(refused, own_hierarchy):
    told = refused("--init", "mdan_oasis5", "--hierarchy", own_hierarchy)
    assert (
        "--init mdan_oasis5 is neither a model nor a checkpoint; did you mean 'mdan_oasis4'" in told
    )
    assert "--init nope is neither a model nor a checkpoint" in refused(
        "mdan_fi8", "--init", "nope"
    )


def test_an_incomplete_fine_tuning_is_reported(refused, own_hierarchy):
    needed = "give the NAME of a model to train, or --init and --hierarchy to fine-tune on a custom"
    assert f"error: {needed}" in refused()
    told = refused("--init", "mdan_oasis4")
    assert f"--init mdan_oasis4 alone is not enough: {needed}" in told
    told = refused("--hierarchy", own_hierarchy)
    assert (
        f"--hierarchy {own_hierarchy} needs --init, the model or checkpoint to start from" in told
    )


def test_a_change_without_a_value_is_reported(refused):
    told = refused("mdan_fi8", "--set", "epochs")
    assert "changes to the recipe have the form FIELD=VALUE, not 'epochs'" in told


def test_a_start_without_weights_is_reported(refused, own_hierarchy):
    told = refused("--init", "mdan_fi8", "--hierarchy", own_hierarchy)
    assert "Train mdan_fi8 first and pass its checkpoint with --init" in told
    assert "--set init=" not in told, "an own tree cannot start from ImageNet's weights"


def test_a_hierarchy_that_does_not_exist_is_reported(refused, tiny_model):
    assert "did you mean 'mikels8'" in refused("--init", tiny_model, "--hierarchy", "mikels9")
    assert "tree.yaml" in refused("--init", tiny_model, "--hierarchy", "tree.yaml")


@pytest.mark.slow
def test_a_built_in_hierarchy_is_given_by_its_name(tiny_model, own_images, tmp_path):
    images = sorted(own_images.glob("*/*.jpg"))
    for label, image in zip(get_hierarchy("mikels8").leaves * 2, images, strict=False):
        (tmp_path / "mikels" / label).mkdir(parents=True, exist_ok=True)
        shutil.copy(image, tmp_path / "mikels" / label / f"{image.parent.name}{image.name}")
    output = tmp_path / "run"
    given = ("--data", tmp_path / "mikels", "--output", output, "--workers", 0)
    changes = ("--set", "epochs=1", "--set", "split=all")
    given = ("train", "--init", tiny_model, "--hierarchy", "mikels8", *given, *changes)
    assert main([str(argument) for argument in given]) == 0
    assert read_identity(output / "model.safetensors")[1] == get_hierarchy("mikels8")


@pytest.mark.slow
def test_a_table_of_votes_trains_and_is_reported_on(tiny_model, own_images, tmp_path):
    """The table itself can be given; shares are learned if label_std_scale is above 0."""
    table = tmp_path / "images" / "votes.csv"
    shutil.copytree(own_images, table.parent)
    lines = ["image," + ",".join(OWN_TREE.leaves)]
    for image in sorted(table.parent.glob("*/*.jpg")):
        votes = [5 if label == image.parent.name else 1 for label in OWN_TREE.leaves]
        lines.append(",".join([f"{image.parent.name}/{image.name}", *map(str, votes)]))
    table.write_text("\n".join(lines))
    weights = []
    for label_std_scale in (0, 1):
        output = tmp_path / f"label_std_scale{label_std_scale}"
        recipe = fine_tuning_recipe(
            str(tiny_model), ["epochs=1", "batch_size=8", f"label_std_scale={label_std_scale}"]
        )
        weights.append(
            train(TrainingConfig(recipe, table, output, dataset="table", hierarchy=OWN_TREE))
        )
        split = Split.load(output / "split.tsv")
        report = json.loads((output / "test" / "evaluation.json").read_text())
        assert report["split_sha256"] == split.sha256
        assert report["images"] == len(split.images("test"))
    hard, soft = map(load_file, weights)
    assert any(not value.equal(soft[name]) for name, value in hard.items())


def test_a_log_without_its_package_is_reported(own_images, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tensorboard", None)  # Python's mark of a missing package
    options = ["--data", str(own_images), "--output", str(tmp_path / "run"), "--tensorboard"]
    assert main(["train", "mdan_oasis4", *options]) == 2
    assert "mdan-zoo[train]" in capsys.readouterr().err


@pytest.mark.slow
def test_placeholders_are_told_and_left_out(tiny_model, tmp_path, capsys, caplog):
    """The command that the warning shows writes the list with which there is no warning."""
    data, output = write_flawed_fi(tmp_path / "fi"), tmp_path / "run"
    given = ["train", "--init", str(tiny_model), "--hierarchy", "mikels8", "--dataset", "FI"]
    given += ["--data", str(data), "--set", "epochs=1", "--set", "batch_size=8", "--workers", "0"]
    assert main([*given, "--output", str(tmp_path / "all")]) == 0
    assert f"18 images in {data} should not be trained on" in caplog.text
    (command,) = re.findall(r"^  mdan-zoo (.*)$", caplog.text, re.MULTILINE)
    path = tmp_path / "exclude.tsv"
    words = [{"FILE": "mikels8", "exclude.tsv": str(path)}.get(w, w) for w in shlex.split(command)]
    assert main(words) == 0
    caplog.clear()
    given += ["--output", str(output), "--exclude", str(path)]
    assert main(given) == 0
    assert "should not be trained on" not in caplog.text
    assert f"18 of the 55 images are excluded, as {path} says" in caplog.text
    split = Split.load(output / "split.tsv")
    names = [name for part, _ in split.parts for name in split.images(part)]
    assert len(names) == 37
    assert "awe/8.jpg" not in names
    assert "--exclude FILE" in json.loads((output / "training.json").read_text())["command"]
    path.write_text("awe/8.jpg\n")  # other images are another run
    assert main(given) == 2
    assert "made with the same --exclude" in capsys.readouterr().err
