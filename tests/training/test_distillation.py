"""Distillation: labels mixed with the predictions of teachers."""

from __future__ import annotations

import csv
import dataclasses
import itertools

import numpy as np
import pytest
import torch
from command_line import call
from dataset_trees import write_image

from mdan_zoo.datasets.registry import read_dataset
from mdan_zoo.errors import DatasetError, InputError
from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.models.dimensions import Dimension
from mdan_zoo.training import TrainingConfig, prepare
from mdan_zoo.training.distillation import mix_teacher_predictions
from mdan_zoo.training.losses import rating_targets
from mdan_zoo.training.recipe import Recipe, fine_tuning_recipe, load_recipe
from mdan_zoo.training.report import read_report, repeating_command
from mdan_zoo.training.stages import split_stages

TREE = get_hierarchy("mikels8")
PER_CLASS = 4
VALENCE = Dimension("valence", 1, 7)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    fi = tmp_path_factory.mktemp("data") / "fi"
    for leaf in TREE.leaves:
        for number in range(PER_CLASS):
            write_image(fi / "emotion_dataset" / leaf / f"{number}.jpg")
    return fi


@pytest.fixture(scope="module")
def samples(folder):
    return read_dataset("FI", folder)


@pytest.fixture(scope="module")
def predictions(folder, tiny_model, tmp_path_factory):
    """The predictions of a real model, written by the command."""
    path = tmp_path_factory.mktemp("teacher") / "teacher.csv"
    model = ("--checkpoint", tiny_model, "--device", "cpu")
    call("predict", folder, *model, "--format", "csv", "--output", path)
    return path


def rewritten(source, target, change):
    """Write a table with its rows changed by a function."""
    with source.open(newline="", encoding="utf-8") as file:
        header, *rows = list(csv.reader(file))
    with target.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(change(header, rows))
    return target


def test_labels_are_mixed_with_the_mean_of_the_teachers(samples, predictions, tmp_path):
    def uniform(header, rows):
        first = header.index("emotion:amusement")
        for row in rows:
            row[first : first + 8] = ["0.125"] * 8
        return [header, *rows]

    other = rewritten(predictions, tmp_path / "other.csv", uniform)
    with predictions.open(newline="", encoding="utf-8") as file:
        rows = {row["image"]: row for row in csv.DictReader(file)}
    mixed = mix_teacher_predictions(samples, [predictions, other], TREE, 0.4)
    assert len(mixed) == len(samples) == PER_CLASS * 8
    for sample, result in zip(samples, mixed, strict=True):
        row = rows[str(sample.image)]
        teacher = np.array([float(row[f"emotion:{leaf}"]) for leaf in TREE.leaves])
        expected = 0.6 * np.array(sample.distribution) + 0.4 * (teacher + 0.125) / 2
        assert result.distribution == pytest.approx(expected)
        assert (result.image, result.labels) == (sample.image, sample.labels)
    unchanged = mix_teacher_predictions(samples, [predictions], TREE, 0.0)
    for sample, result in zip(samples, unchanged, strict=True):
        assert result.distribution == pytest.approx(sample.distribution)


def test_a_coarse_label_is_mixed_with_the_predictions_of_its_level(samples, predictions):
    coarse = [dataclasses.replace(s, labels=(1,), distribution=(0.25, 0.75)) for s in samples]
    mixed = mix_teacher_predictions([*coarse, *samples], [predictions], TREE, 0.4)
    with predictions.open(newline="", encoding="utf-8") as file:
        rows = {row["image"]: row for row in csv.DictReader(file)}
    for sample, result in zip(coarse, mixed, strict=False):
        teacher = [float(rows[str(sample.image)][f"polarity:{name}"]) for name in TREE.levels[0]]
        expected = 0.6 * np.array(sample.distribution) + 0.4 * np.array(teacher)
        assert result.distribution == pytest.approx(expected)
        assert result.labels == (1,)
    assert {len(result.distribution) for result in mixed[len(coarse) :]} == {8}


def test_images_without_predictions_keep_their_labels(samples, predictions, tmp_path):
    part = rewritten(predictions, tmp_path / "part.csv", lambda header, rows: [header, *rows[:5]])
    mixed = mix_teacher_predictions(samples, [part], TREE, 0.5)
    changed = [a.distribution != b.distribution for a, b in zip(samples, mixed, strict=True)]
    assert sum(changed) == 5


def test_a_table_that_does_not_fit_is_refused(samples, predictions, tmp_path):
    def refused(message, *files):
        with pytest.raises(DatasetError, match=message):
            mix_teacher_predictions(samples, files, TREE, 0.5)

    part = rewritten(predictions, tmp_path / "part.csv", lambda header, rows: [header, *rows[:5]])
    refused(
        "part.csv has predictions for 5 images that are not the 32 images of", predictions, part
    )

    def elsewhere(header, rows):
        return [header, *([f"/elsewhere/{row[0]}", *row[1:]] for row in rows)]

    moved = rewritten(predictions, tmp_path / "moved.csv", elsewhere)
    refused(r"none of the 32 images is in .*moved\.csv, which lists .*elsewhere", moved)
    renamed = rewritten(
        predictions,
        tmp_path / "renamed.csv",
        lambda header, rows: [[name.replace("fear", "dread") for name in header], *rows],
    )
    refused("renamed.csv has no column 'emotion:fear'; .* hierarchy mikels8", renamed)

    def wrong(header, rows):
        rows[2][header.index("emotion:awe")] = "1.5"
        return [header, *rows]

    refused(
        r"2.jpg: emotion:awe must be a number in 0..1, not '1.5'",
        rewritten(predictions, tmp_path / "w.csv", wrong),
    )


def test_probabilities_that_do_not_sum_to_one_are_refused(samples, predictions, tmp_path):
    """The mixture would not be a distribution; logits and sigmoids are no probabilities."""

    def cleared(header, rows):
        first = header.index("emotion:amusement")
        rows[3][first : first + 8] = ["0"] * 8
        return [header, *rows]

    table = rewritten(predictions, tmp_path / "cleared.csv", cleared)
    message = r"cleared.csv: .*3.jpg: the probabilities of level emotion must sum to 1, not 0$"
    with pytest.raises(DatasetError, match=message):
        mix_teacher_predictions(samples, [table], TREE, 0.5)


def test_two_teachers_in_one_table_are_refused(samples, predictions, tmp_path):
    def twice(header, rows):
        return [header, *rows, rows[0]]

    def differently(header, rows):
        first = header.index("emotion:amusement")
        uniform = [*rows[0][:first], *["0.125"] * 8, *rows[0][first + 8 :]]
        return [header, *rows, uniform]

    expected = mix_teacher_predictions(samples, [predictions], TREE, 0.5)
    same = rewritten(predictions, tmp_path / "same.csv", twice)
    assert mix_teacher_predictions(samples, [same], TREE, 0.5) == expected
    table = rewritten(predictions, tmp_path / "joined.csv", differently)
    with pytest.raises(DatasetError, match=r"0.jpg: it has two rows .* own --teacher-predictions"):
        mix_teacher_predictions(samples, [table], TREE, 0.5)


def rated(source, target, *values, classes=True):
    """Write a table with a column of predicted valence, and without the classes on request."""

    def change(header, rows):
        kept = [n for n, name in enumerate(header) if classes or ":" not in name]
        table = [[*header, "valence"]]
        table += [[*row, value] for row, value in zip(rows, itertools.cycle(values), strict=False)]
        return [[*(row[n] for n in kept), row[-1]] for row in table]

    return rewritten(source, target, change)


def test_ratings_are_mixed_with_those_of_the_teachers(samples, predictions, tmp_path):
    tables = [rated(predictions, tmp_path / f"{value}.csv", str(value)) for value in (2, 3)]
    given = [dataclasses.replace(s, ratings=(("valence", 5.0), ("age", 4.0))) for s in samples[1:]]
    given.insert(0, samples[0])
    found = mix_teacher_predictions(given, tables, TREE, 0.4, [VALENCE, Dimension("arousal", 1, 7)])
    assert dict(found[0].ratings) == {"valence": pytest.approx(2.5)}, "it has no rating"
    for sample in found[1:]:
        assert dict(sample.ratings) == {"valence": pytest.approx(0.6 * 5 + 0.4 * 2.5), "age": 4}
    without = mix_teacher_predictions(given, [predictions, *tables], TREE, 0.4)
    assert [s.ratings for s in without] == [s.ratings for s in given], "the student has none"
    # A teacher without the dimension contributes its classes.
    both = mix_teacher_predictions(given, [predictions, tables[0]], TREE, 1.0, [VALENCE])
    assert dict(both[0].ratings) == {"valence": pytest.approx(2)}


def test_a_teacher_with_other_classes_contributes_its_ratings(samples, predictions, tmp_path):
    other = rated(predictions, tmp_path / "other.csv", "9.5", "4", classes=False)
    found = mix_teacher_predictions(samples, [predictions, other], TREE, 0.5, [VALENCE])
    expected = mix_teacher_predictions(samples, [predictions], TREE, 0.5)
    assert [s.distribution for s in found] == [s.distribution for s in expected]
    expected = {(("valence", 7.0),), (("valence", 4.0),)}
    assert {s.ratings for s in found} == expected, "limited to the scale"
    alone = mix_teacher_predictions(samples, [other], TREE, 0.5, [VALENCE])
    assert [s.distribution for s in alone] == [s.distribution for s in samples]
    message = r"other.csv has no column 'polarity:positive'; .* hierarchy mikels8"
    with pytest.raises(DatasetError, match=f"{message}, as"):
        mix_teacher_predictions(samples, [other], TREE, 0.5)
    with pytest.raises(DatasetError, match=f"{message}, or of one that predicts arousal, as"):
        mix_teacher_predictions(samples, [other], TREE, 0.5, [Dimension("arousal", 1, 7)])
    elsewhere = rated(predictions, tmp_path / "scale.csv", "0.2", "1.2", classes=False)
    with pytest.raises(
        DatasetError, match=r"valence is 0\.7, which is not on the scale valence=1:7"
    ):
        mix_teacher_predictions(samples, [elsewhere], TREE, 0.5, [VALENCE])
    words = rated(predictions, tmp_path / "words.csv", "high", classes=False)
    with pytest.raises(DatasetError, match=r"0.jpg: valence must be a number, not 'high'"):
        mix_teacher_predictions(samples, [words], TREE, 0.5, [VALENCE])


def test_images_without_ratings_are_trained_on_those_of_a_teacher(
    folder, predictions, tiny_model, tmp_path
):
    """Another table of ratings is other data, so an interrupted training is not resumed with it."""
    runs = []
    for value in ("3", "6"):
        table = rated(predictions, tmp_path / f"{value}.csv", value, "4", classes=False)
        recipe = fine_tuning_recipe(
            str(tiny_model), ["label_std_scale=1", "split=all"], recipe="mdan_fi8"
        )
        options = {"dataset": "FI", "hierarchy": TREE, "dimensions": (VALENCE,)}
        output = tmp_path / "run"
        config = TrainingConfig(recipe, folder, output, teacher_predictions=(table,), **options)
        runs.append(prepare(config))
    low, high = (rating_targets(run.learned, run.model.dimensions) for run in runs)
    assert sorted(set(low.flatten().tolist())) == [3, 4]
    assert sorted(set(high.flatten().tolist())) == [4, 6]
    assert runs[0].fingerprint != runs[1].fingerprint


@pytest.mark.parametrize("stages", ["", "stages=polarity,emotion"])
def test_tests_use_the_labels_and_ratings_of_the_dataset(
    folder, samples, predictions, tiny_model, tmp_path, stages
):
    """Predictions that are close to those of the teachers would seem to be right."""
    table = rated(predictions, tmp_path / "t.csv", "3", "4")
    changes = ["label_std_scale=1", "split=all", *filter(None, [stages])]
    recipe = fine_tuning_recipe(str(tiny_model), changes, recipe="mdan_fi8")
    options = {"dataset": "FI", "hierarchy": TREE, "dimensions": (VALENCE,)}
    output = tmp_path / "run"
    config = TrainingConfig(recipe, folder, output, teacher_predictions=(table,), **options)
    *_, run = split_stages(prepare(config))
    assert run.samples == samples
    mixed = mix_teacher_predictions(samples, [table], TREE, recipe.teacher_weight, [VALENCE])
    assert run.learned == mixed != samples
    torch.testing.assert_close(run.targets[1], torch.tensor([s.distribution for s in mixed]))


@pytest.mark.slow
def test_training_with_a_teacher(folder, predictions, tiny_model, tmp_path):
    model = ("--init", tiny_model, "--hierarchy", "mikels8", "--recipe", "mdan_fi8")
    words = ("train", *model, "--dataset", "FI", "--data", folder, "--output")
    changes = ("--set", "epochs=1", "--set", "batch_size=8", "--set", "split=all", "--workers", 0)
    teacher = ("--teacher-predictions", predictions)
    with pytest.raises(InputError, match="use --set label_std_scale=1"):
        call(*words, tmp_path / "hard", *changes, *teacher)
    soft = (*changes, "--set", "label_std_scale=1")
    runs = [tmp_path / name / "run" for name in ("plain", "ignored", "taught")]
    call(*words, runs[0], *soft)
    for weight, run in enumerate(runs[1:]):
        call(*words, run, *soft, *teacher, "--set", f"teacher_weight={weight}")
    plain, ignored, taught = map(read_report, runs)
    assert "--teacher-predictions FILE" in taught["command"]
    assert "--set teacher_weight=1.0" in taught["command"]
    # The runs have the same name, which is in the checkpoint.
    assert plain["weights_sha256"] == ignored["weights_sha256"] != taught["weights_sha256"]


def test_the_command_names_every_teacher(tmp_path):
    recipe = load_recipe("mdan_fi8", ["label_std_scale=1"])
    config = TrainingConfig(recipe, tmp_path, tmp_path, teacher_predictions=["a.csv", "b.csv"])
    assert repeating_command(config).count("--teacher-predictions") == 2
    for single in ("a.csv", tmp_path / "a.csv"):
        with pytest.raises(InputError, match="teacher_predictions must be a list of files, such"):
            TrainingConfig(recipe, tmp_path, tmp_path, teacher_predictions=single)
    weighted = dataclasses.replace(recipe, teacher_weight=0.7)
    TrainingConfig(weighted, tmp_path, tmp_path, teacher_predictions=["a.csv"])
    with pytest.raises(InputError, match=r"teacher_weight=0.7 has no effect without --teacher-pre"):
        TrainingConfig(weighted, tmp_path, tmp_path)
    with pytest.raises(InputError, match=r"teacher_weight must be in 0..1, not 1.5"):
        Recipe("m", teacher_weight=1.5)
