"""The validation on FI: its parts, its calibration and comparison, and the whole script."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import hashlib
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from dataset_trees import write_image
from oasis_folder import write_oasis
from safetensors.torch import save_file

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import generalisation
import validate_fi
from validate_fi import (
    CONTROLS,
    MODELS,
    TREE,
    VALIDATION,
    calibrated_error,
    differences,
    find_splits,
    main,
    summarise,
    train_model,
)

from mdan_zoo.datasets.splits import Split, get_split, split_hashes
from mdan_zoo.training import TrainingConfig, train
from mdan_zoo.training.recipe import load_recipe
from mdan_zoo.training.report import write_report

PER_CLASS = 4


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Small folders of FI and OASIS, and the list of one validation image for each class of FI."""
    root = tmp_path_factory.mktemp("data")
    lines = []
    for leaf in TREE.leaves:
        for number in range(PER_CLASS):
            path = write_image(root / "fi" / "emotion_dataset" / leaf / f"{number}.jpg")
        if leaf == "awe":
            path = path.rename(path.with_name("renamed.jpg"))
        lines.append(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {leaf}/3.jpg\n")
    (root / "validation.sha256").write_text("".join(lines))
    write_oasis(root / "oasis")
    return root


# Parts


def test_the_listed_images_are_the_test_part_whatever_their_names(folders, tmp_path, capsys):
    files = find_splits(
        folders / "fi", folders / "oasis", tmp_path / "runs", folders / "validation.sha256"
    )
    fi, oasis = (Split.load(files[name]) for name in ("FI", "OASIS"))
    names = {leaf: "renamed" if leaf == "awe" else "3" for leaf in TREE.leaves}
    assert set(fi.images("test")) == {f"{leaf}/{name}.jpg" for leaf, name in names.items()}
    assert len(fi.images("train")) == len(TREE.leaves) * (PER_CLASS - 1)
    themes = [{name.split()[0] for name in oasis.images(part)} for part in ("train", "test")]
    assert themes[0] & themes[1] == set()
    assert sum(len(oasis.images(part)) for part in ("train", "test")) == 12
    assert f"FI: split {fi.sha256}" in capsys.readouterr().out


def test_a_folder_without_a_validation_image_is_refused(folders, tmp_path):
    listed = tmp_path / "more.sha256"
    listed.write_text((folders / "validation.sha256").read_text() + f"{'0' * 64}  gone.jpg\n")
    with pytest.raises(
        SystemExit, match=re.escape(f"1 of the 9 validation images are not in {folders}")
    ):
        find_splits(folders / "fi", folders / "oasis", tmp_path / "runs", listed)
    with pytest.raises(SystemExit, match="2619 of the 2619 validation images are not in"):
        find_splits(folders / "fi", folders / "oasis", tmp_path / "runs")
    inner = folders / "fi" / "emotion_dataset"
    with pytest.raises(SystemExit, match="must contain the folder emotion_dataset"):
        find_splits(inner, folders / "oasis", tmp_path / "runs", folders / "validation.sha256")
    assert not (tmp_path / "runs").exists()


def test_the_validation_images_are_those_that_the_models_were_not_trained_on():
    listed = VALIDATION.read_text().splitlines()
    split = get_split("fi17460")
    names = {line.partition("  ")[2] for line in listed}
    assert names == {f"{split.folder}/{name}" for name in split.images("test")}
    assert len({line.partition(" ")[0] for line in listed}) == len(listed) == 2619
    assert not set(listed) & set(split_hashes("fi17460"))


@pytest.mark.slow
def test_the_controls_are_not_trained_on_validation_images_in_deeper_folders(tmp_path, monkeypatch):
    """A class may have folders inside, whose names are part of the names in the split."""
    lines = []
    for number, leaf in enumerate(TREE.leaves * 2):
        folder = tmp_path / "fi" / "emotion_dataset" / leaf / "flickr"
        for place in range(3):
            path = write_image(folder / f"{number}_{place}.jpg")
        lines.append(f"{hashlib.sha256(path.read_bytes()).hexdigest()}\n")
    listed = tmp_path / "validation.sha256"
    listed.write_text("".join(lines))
    write_oasis(tmp_path / "oasis")
    split = find_splits(tmp_path / "fi", tmp_path / "oasis", tmp_path / "runs", listed)["FI"]
    tested = []
    monkeypatch.setattr(validate_fi, "control_row", lambda *given: tested.append(given))
    torch.manual_seed(0)
    weights = tmp_path / "lite0.pth"
    torch.save(timm.create_model("tf_efficientnet_lite0").state_dict(), weights)
    options = argparse.Namespace(fi=tmp_path / "fi", backbone_weights=weights)
    assert len(list(validate_fi.controls(options, split))) == len(CONTROLS)
    for name, (_, probabilities, labels) in zip(CONTROLS, tested, strict=True):
        assert probabilities.shape == (16, 8), name
        assert sorted(labels[:, 1].tolist()) == sorted([*range(8)] * 2)


def test_results_of_a_training_on_other_images_are_refused(folders, tmp_path):
    splits = find_splits(
        folders / "fi", folders / "oasis", tmp_path / "runs", folders / "validation.sha256"
    )
    options = argparse.Namespace(
        runs=tmp_path / "runs", changes=["epochs=1"], teacher_predictions=[]
    )
    run = tmp_path / "runs" / "mdan_fi8_lite0_seed0"
    (run / "test" / "OASIS").mkdir(parents=True)
    (run / "test" / "OASIS" / "evaluation.json").touch()
    recipe = dataclasses.asdict(load_recipe("mdan_fi8_lite0", ["epochs=1", "temperature=1"]))

    def record(recipe, **hashes):
        sha256s = {name: Split.load(path).sha256 for name, path in splits.items()} | hashes
        named = {name: {"split_sha256": sha256} for name, sha256 in sha256s.items()}
        write_report(run, {"splits": named, "recipe": recipe, "command": "mdan-zoo train"})

    record(recipe)
    assert train_model("mdan_fi8_lite0", 0, options, splits) == run / "test"
    options.teacher_predictions = [tmp_path / "teacher.csv"]
    with pytest.raises(SystemExit, match="was trained with the predictions of 0 teachers"):
        train_model("mdan_fi8_lite0", 0, options, splits)
    options.teacher_predictions = []
    record(recipe | {"epochs": 2})
    with pytest.raises(SystemExit, match="mdan_fi8_lite0_seed0 was trained with epochs=2, not 1"):
        train_model("mdan_fi8_lite0", 0, options, splits)
    record(recipe, FI="0" * 64)
    with pytest.raises(SystemExit, match=r"trained on another split of FI than .*FI\.tsv"):
        train_model("mdan_fi8_lite0", 0, options, splits)
    words = ("--fi", "fi", "--oasis", "oasis", "--validation", "validation.sha256")
    words = [word if word.startswith("--") else str(folders / word) for word in words]
    missing = [*words, "--runs", str(tmp_path / "runs"), "--output", str(tmp_path / "g.csv")]
    with pytest.raises(SystemExit, match="flat_fi8_lite0_seed0 has no test results; validate_fi"):
        generalisation.main(missing)
    assert not (tmp_path / "g.csv").exists()


# Generalisation


def test_rows_of_the_generalisation_have_the_overall_metrics_with_their_intervals():
    def score(branch, level, measure):
        interval = {"value": 0.5, "low": 0.4, "high": 0.6}
        return {"branch": branch, "level": level, "measure": measure, **interval}

    scores = [
        score("overall", "polarity", "roc_auc"),
        score("local", "polarity", "accuracy"),
        score("overall", "polarity", "macro_f1"),
        score("overall", "", "valence_r"),
    ]
    content = {"scores": scores, "dataset": "FI", "images": 7}
    rows = list(generalisation.evaluated("m", "OASIS", content))
    assert [row["measure"] for row in rows] == ["polarity_roc_auc", "valence_r"]
    expected = {"model": "m", "trained_on": "OASIS", "dataset": "FI", "images": 7}
    assert rows[0] == {**expected, "measure": "polarity_roc_auc", **interval_of(scores[0])}


def interval_of(score):
    return {name: score[name] for name in ("value", "low", "high")}


def test_intervals_of_the_cross_validation_are_two_standard_deviations_over_seeds(monkeypatch):
    row = {"model": "mdan_oasis4", "branch": "overall"}
    for name in ("polarity_accuracy", "valence_r", "arousal_r"):
        row |= {name: "0.6", f"{name}_sd_seeds": "0.02", f"{name}_sd_folds": "0.3"}
    others = [row | {"branch": "local"}, row | {"model": "majority class"}]
    monkeypatch.setattr(generalisation, "read", lambda name: [*others, row])
    found = [interval_of(found) for found in generalisation.cross_validated()]
    assert found == [{"value": 0.6, "low": 0.56, "high": 0.64}] * 3


# Calibration and comparison


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def test_the_calibrated_error_is_that_of_temperatures_fitted_on_the_other_half():
    generator = np.random.default_rng(3)
    labels = generator.integers(8, size=101)
    logits = {name: generator.normal(size=(101, 8)) for name in ("local", "global")}
    for values in logits.values():
        values[np.arange(101), labels] += 1
        values *= 3  # overconfident
    stored = {f"{name}_emotion": softmax(values) for name, values in logits.items()}
    stored |= {"labels_emotion": labels, "alpha": np.array(0.7)}

    def mixed(temperature, branch):
        parts = {name: softmax(values / temperature) for name, values in logits.items()}
        overall = 0.7 * parts["local"] + 0.3 * parts["global"]
        return {**parts, "overall": overall}[branch]

    half = np.random.default_rng(0).permutation(101) % 2 == 0
    for branch in ("local", "global", "overall"):
        probabilities = np.zeros((101, 8))
        for fitted in (half, ~half):
            right = np.arange(101)[fitted], labels[fitted]
            losses = {t: -np.log(mixed(t, branch)[right]).sum() for t in np.geomspace(0.4, 2.5, 47)}
            best = min(losses, key=losses.__getitem__)
            assert best > 1, "the temperatures were to be found"
            probabilities[~fitted] = mixed(best, branch)[~fitted]
        confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
        bins = np.ceil(confidence * 15)
        gaps = [abs((correct - confidence)[bins == b].sum()) for b in np.unique(bins)]
        assert calibrated_error(stored, branch) == pytest.approx(sum(gaps) / 101, abs=1e-9)
    flat = {name: value for name, value in stored.items() if name != "local_emotion"}
    assert calibrated_error(flat, "overall") == calibrated_error(stored, "global")


def write_results(folder, correct, branch):
    """Write the stored probabilities of images of the first class, of which some are correct."""
    rows = {
        level: np.full((len(correct), size), 0.1)
        for level, size in zip(TREE.level_names, TREE.sizes, strict=True)
    }
    values = {f"labels_{level}": np.zeros(len(correct), int) for level in rows}
    for level, probabilities in rows.items():
        probabilities[:, 0] = np.where(correct, 0.9, 0.05)
        values[f"{branch}_{level}"] = probabilities
    if branch == "local":
        values |= {f"global_{level}": probabilities for level, probabilities in rows.items()}
    (folder / "FI").mkdir(parents=True)
    np.savez(folder / "FI" / "probabilities.npz", alpha=0.7, **values)
    return folder


def test_the_difference_is_paired_by_image_and_has_the_sign_of_mdan(tmp_path):
    flat, mdan = MODELS
    generator = np.random.default_rng(1)
    base = generator.random(400) < 0.6
    better = base | (np.arange(400) < 40)  # never worse on any image
    tests = {}
    for seed, found in ((0, better), (1, base)):
        tests[flat, seed] = write_results(tmp_path / f"flat{seed}", base, "global")
        tests[mdan, seed] = write_results(tmp_path / f"mdan{seed}", found, "local")
    gain = (better & ~base).mean()
    assert gain > 0.02
    for row, level in zip(differences(tests, [0]), TREE.level_names, strict=True):
        assert (row["level"], row["seeds"]) == (level, 1)
        assert row["difference"] == pytest.approx(gain, abs=5e-5)
        spread = 1.96 * math.sqrt(gain * (1 - gain) / 400)  # unpaired, it would be 4 times as wide
        assert row["low"] == pytest.approx(gain - spread, abs=0.004)
        assert row["high"] == pytest.approx(gain + spread, abs=0.004)
    row = next(iter(differences(tests, [0, 1])))
    assert row["difference"] == pytest.approx(gain / 2, abs=5e-5)
    assert row["by_seed"] == f"{gain:+.4f} +0.0000"
    swapped = {(MODELS[1 - MODELS.index(name)], seed): path for (name, seed), path in tests.items()}
    row = next(iter(differences(swapped, [0])))
    assert row["high"] < 0
    assert row["difference"] == pytest.approx(-gain, abs=5e-5)


def test_means_and_standard_deviations_are_over_seeds():
    rows = [
        {"model": "m", "branch": "overall", "seed": seed, "emotion_accuracy": value}
        for seed, value in enumerate((0.5, 0.6, 0.7))
    ]
    rows.append({"model": "c", "branch": "overall", "seed": 0, "emotion_accuracy": 0.2})
    model, control = summarise(rows)
    assert (model["seeds"], control["seeds"]) == (3, 1)
    assert (model["emotion_accuracy"], model["emotion_accuracy_sd_seeds"]) == (0.6, 0.1)
    assert (control["emotion_accuracy"], control["emotion_accuracy_sd_seeds"]) == (0.2, "")
    assert model["polarity_accuracy"] == ""


# The whole script


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_every_model_branch_and_seed_has_a_row(folders, tmp_path):
    torch.manual_seed(0)
    weights = tmp_path / "lite0.pth"
    torch.save(timm.create_model("tf_efficientnet_lite0").state_dict(), weights)
    output = tmp_path / "results" / "new"
    options = ["--fi", folders / "fi", "--oasis", folders / "oasis", "--runs", tmp_path / "runs"]
    options += ["--validation", folders / "validation.sha256", "--backbone-weights", weights]
    options += ["--seeds", 0, "--output", output]
    for change in ("epochs=1", "batch_size=8", "train_size=64", "warmup_steps=0"):
        options += ["--set", change]
    main([str(option) for option in options])

    rows = rows_of(output.with_suffix(".csv"))
    branches = {"flat_fi8_lite0": ["overall"], "mdan_fi8_lite0": ["overall", "local", "global"]}
    expected = [(name, "overall") for name in CONTROLS]
    expected += [(name, branch) for name, found in branches.items() for branch in found]
    assert [(row["model"], row["branch"]) for row in rows] == expected
    assert rows[0]["emotion_accuracy"] == "0.125", "the classes have one validation image each"
    for row in rows[len(CONTROLS) :]:
        assert 0 <= float(row["calibrated_error"]) <= 1
        assert float(row["emotion_accuracy"]) * 8 == round(float(row["emotion_accuracy"]) * 8)
    assert len(rows_of(output.with_name("new_summary.csv"))) == len(rows)
    compared = rows_of(output.with_name("new_difference.csv"))
    assert [row["level"] for row in compared] == list(TREE.level_names)
    accuracy = {
        row["model"]: float(row["emotion_accuracy"]) for row in rows if row["branch"] == "overall"
    }
    assert float(compared[1]["difference"]) == pytest.approx(
        accuracy["mdan_fi8_lite0"] - accuracy["flat_fi8_lite0"], abs=1e-4
    )

    checkpoints = list((tmp_path / "runs").rglob("*.safetensors"))
    assert len(checkpoints) == len(MODELS)
    written = [path.stat().st_mtime_ns for path in checkpoints]
    before = [path.read_bytes() for path in sorted(output.parent.iterdir())]
    main([str(option) for option in options])
    assert [path.read_bytes() for path in sorted(output.parent.iterdir())] == before
    assert [path.stat().st_mtime_ns for path in checkpoints] == written, "training was repeated"


@pytest.mark.slow
def test_a_network_without_oasis_is_tested_on_all_of_oasis(folders, tmp_path):
    torch.manual_seed(0)
    weights = tmp_path / "lite0.safetensors"
    save_file(timm.create_model("tf_efficientnet_lite0").state_dict(), weights)
    splits = find_splits(folders / "fi", folders / "oasis", tmp_path, folders / "validation.sha256")
    changes = ["epochs=1", "batch_size=8", "train_size=64", "dataset_weights=", "temperature=1"]
    recipe = load_recipe("flat_fi8_lite0", changes)
    run, data = tmp_path / "run", {"FI": folders / "fi"}
    train(
        TrainingConfig(recipe, data, run, split=splits["FI"], backbone_weights=weights, workers=0)
    )
    rows = list(generalisation.without_oasis(run, splits, folders / "oasis"))
    assert {row["model"] for row in rows} == {"flat_fi8_lite0"}
    found = {(row["dataset"], row["measure"]): row["images"] for row in rows}
    assert found["FI", "emotion_accuracy"] == 8
    assert found["OASIS", "polarity_accuracy"] == len(
        list((folders / "oasis" / "images").iterdir())
    )
    assert ("OASIS", "predicted_valence_r") not in found
    with pytest.raises(SystemExit, match="run was trained on another split than"):
        next(generalisation.without_oasis(run, {"FI": splits["OASIS"]}, folders / "oasis"))
