"""From a folder of images to a report, as the command line does it."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from oasis_folder import write_oasis
from PIL import Image
from random_weights import CONFIG, save_random_weights
from sklearn.metrics import accuracy_score, f1_score

from mdan_zoo.cli.evaluate import add_parser
from mdan_zoo.datasets.readers.oasis import read_oasis
from mdan_zoo.datasets.sample import Sample
from mdan_zoo.datasets.split_methods import make_split
from mdan_zoo.datasets.splits import Split, grouped_folds
from mdan_zoo.errors import (
    CheckpointError,
    DatasetError,
    ImageError,
    InputError,
    UnknownNameError,
    WeightsUnavailableError,
)
from mdan_zoo.evaluation import Score, evaluate, find_samples, write_report
from mdan_zoo.evaluation.probabilities import predict_probabilities
from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.inference.predictor import Predictor
from mdan_zoo.weights.manifest import load_manifest

CIRCUMPLEX = get_hierarchy("circumplex4")
MIKELS = get_hierarchy("mikels8")
HERE = Path(__file__).parent
REAL_OASIS = Path(__file__).parents[3] / "shared" / "data" / "oasis"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_oasis(tmp_path_factory.mktemp("data") / "oasis")


@pytest.fixture(scope="module")
def mdan() -> Predictor:
    return Predictor("mdan_oasis4", device="cpu")


@pytest.fixture(scope="module")
def evaluation(mdan, folder):
    samples, source = find_samples("OASIS", folder, mdan.hierarchy, folds=3)
    return evaluate(mdan, samples, source=source, resamples=100)


@pytest.fixture(scope="module")
def fi(tmp_path_factory) -> tuple[Path, Path]:
    """A folder of FI with its own split, and random weights for its tree."""
    folder = tmp_path_factory.mktemp("fi")
    for part, count in (("train", 1), ("test", 2)):
        for number, emotion in enumerate(MIKELS.leaves):
            place = folder / "FI" / part / emotion
            place.mkdir(parents=True)
            for copy in range(count):
                colour = (30 * number, 250 - 30 * number, 60 + 90 * copy)
                Image.new("RGB", (40, 30), colour).save(place / f"{copy}.jpg")
    weights = tmp_path_factory.mktemp("weights") / "model.safetensors"
    config = dataclasses.replace(CONFIG, name="mdan_fi8", hierarchy="mikels8", dataset="FI")
    save_random_weights(weights, config=config)
    return folder, weights


def run(*arguments: object) -> int:
    parser = argparse.ArgumentParser("mdan-zoo")
    add_parser(parser.add_subparsers(required=True))
    options = parser.parse_args(["evaluate", *map(str, arguments)])
    status: int = options.run(options)
    return status


# --- one pass over the images


def test_probabilities_are_those_of_the_predictor(mdan, folder):
    samples = read_oasis(folder)
    names = [sample.image.name for sample in samples]
    found = predict_probabilities(mdan, samples, names, batch_size=5)
    assert found.images == tuple(names)
    assert found.labels.tolist() == [list(sample.labels) for sample in samples]
    for row, prediction in enumerate(mdan.predict([sample.image for sample in samples])):
        for branch in ("local", "global", "overall"):
            for level, expected in enumerate(prediction.probabilities[branch]):
                # Another batch size gives other rounding.
                np.testing.assert_allclose(found.of(branch, level)[row], expected, atol=2e-6)


def test_scores_are_those_of_the_stored_probabilities(evaluation):
    data = evaluation.probabilities
    for level, name in enumerate(CIRCUMPLEX.level_names):
        for branch in ("overall", "local", "global"):
            predicted = data.of(branch, level).argmax(axis=1)
            labels = data.labels[:, level]
            score = evaluation.score("accuracy", name, branch)
            assert score.value == pytest.approx(accuracy_score(labels, predicted))
            assert score.low <= score.value <= score.high
            f1 = evaluation.score("macro_f1", name, branch).value
            assert f1 == pytest.approx(f1_score(labels, predicted, average="macro"))
            counts = evaluation.confusion(level, branch)
            assert counts.sum() == 12
            assert counts.trace() == round(12 * score.value)


def test_ratings_are_correlated_with_the_classes_that_stand_for_them(evaluation, folder):
    samples = read_oasis(folder)
    quadrants = evaluation.probabilities.of("local", 1)
    aroused = [CIRCUMPLEX.index(1, name) for name in ("excited", "distressed")]
    arousal = [dict(sample.ratings)["arousal"] for sample in samples]
    expected = np.corrcoef(quadrants[:, aroused].sum(axis=1), arousal)[0, 1]
    assert evaluation.score("arousal_r", branch="local").value == pytest.approx(expected)
    positive = evaluation.probabilities.of("overall", 0)[:, CIRCUMPLEX.index(0, "positive")]
    valence = [dict(sample.ratings)["valence"] for sample in samples]
    expected = np.corrcoef(positive, valence)[0, 1]
    assert evaluation.score("valence_r").value == pytest.approx(expected)


def test_folds_are_measured_one_by_one(evaluation, folder):
    folds = grouped_folds(read_oasis(folder), 3, seed=0)
    assert [list(indices) for _, indices in evaluation.source.folds] == folds
    score = evaluation.score("accuracy", "quadrant")
    data = evaluation.probabilities
    right = data.of("overall", 1).argmax(axis=1) == data.labels[:, 1]
    expected = [right[fold].mean() for fold in folds]
    assert score.folds == pytest.approx(expected)
    assert score.mean == pytest.approx(np.mean(expected))
    assert score.sd == pytest.approx(np.std(expected, ddof=1))


def test_new_folds_are_a_file_that_gives_them_again(evaluation, folder, mdan, tmp_path):
    report = write_report(evaluation, tmp_path / "report")
    written = json.loads((tmp_path / "report" / "evaluation.json").read_text())
    division = Split.load(tmp_path / "report" / "folds.tsv")
    about = ("grouped-3-fold, seed 0", division.sha256)
    assert (written["folds_split"], written["folds_split_sha256"]) == about
    assert f"The folds: {about[0]}, sha256 `{about[1]}`." in report.read_text()
    _, again = find_samples("OASIS", str(folder), mdan.hierarchy, split=division)
    assert (again.folds, again.split, again.split_sha256) == (evaluation.source.folds, *about)


def test_without_a_split_the_hash_is_that_of_all_images(evaluation, folder):
    images = [f"0\t{image.name}\n" for image in (folder / "images").glob("*.jpg")]
    sha256 = hashlib.sha256("".join(sorted(images)).encode()).hexdigest()
    assert (evaluation.source.split, evaluation.source.split_sha256) == ("all", sha256)


def test_equal_files_are_in_one_new_fold(mdan, folder, tmp_path):
    copy = Path(shutil.copytree(folder, tmp_path / "oasis"))
    first, *_, last = (sample.image for sample in read_oasis(copy))
    shutil.copy(first, last)
    samples, source = find_samples("OASIS", copy, mdan.hierarchy, folds=3)
    (with_both,) = (fold for _, fold in source.folds if {0, len(samples) - 1} & {*fold})
    assert {0, len(samples) - 1} <= {*with_both}


def test_a_correlation_that_is_not_defined_is_null():
    score = Score("overall", "", "valence_r", 0.5, 0.4, 0.6, folds=(0.5, float("nan")))
    written = score.to_dict()
    assert (written["value"], written["mean"], written["sd"]) == (0.5, None, None)
    assert written["folds"] == [0.5, None]


def test_a_flat_network_has_one_branch_and_no_alpha(folder, tmp_path):
    predictor = Predictor("flat_oasis4", device="cpu")
    evaluation = evaluate(predictor, read_oasis(folder), resamples=100)
    assert {score.branch for score in evaluation.scores} == {"overall"}
    expected = predictor.predict(read_oasis(folder)[3].image).probabilities["overall"][1]
    np.testing.assert_allclose(evaluation.probabilities.of("overall", 1)[3], expected, atol=2e-6)
    write_report(evaluation, tmp_path / "new" / "report")
    written = {path.name for path in (tmp_path / "new" / "report").iterdir()}
    assert "alpha.png" not in written
    assert not any("local" in name for name in written)
    assert "reliability.png" in written


def test_a_checkpoint_of_a_training_is_evaluated(random_checkpoint, folder):
    predictor = Predictor(checkpoint=random_checkpoint, device="cpu")
    evaluation = evaluate(predictor, read_oasis(folder), resamples=100)
    content = random_checkpoint.read_bytes()
    assert evaluation.weights_sha256 == hashlib.sha256(content).hexdigest()
    assert evaluation.trained_on is None


# --- the command


def test_the_command_writes_numbers_report_and_figures(folder, tmp_path, capsys):
    output = tmp_path / "report"
    given = ("--data", folder, "--output", output, "--device", "cpu", "--bootstrap", 200)
    assert run("mdan_oasis4", *given, "--seed", 3) == 0
    names = {"confusion_polarity.png", "confusion_quadrant.png", "reliability.png", "alpha.png"}
    names |= {"confusion_polarity_local.png", "confusion_quadrant_local.png"}
    names |= {"evaluation.json", "evaluation.md", "probabilities.npz"}
    assert {path.name for path in output.iterdir()} == names
    numbers = json.loads((output / "evaluation.json").read_text())
    assert numbers["weights_sha256"] == load_manifest()["mdan_oasis4"].sha256
    assert (numbers["dataset"], numbers["images"]) == ("OASIS", 12)
    about = {"resamples": 200, "seed": 3, "interval": 0.95, "groups": 6}
    assert numbers["bootstrap"] == about
    assert numbers["calibration_bins"] == 15
    scores = {(s["branch"], s["level"], s["measure"]): s["value"] for s in numbers["scores"]}
    assert len(scores) == 3 * (2 * 5 + 3)
    with np.load(output / "probabilities.npz", allow_pickle=False) as arrays:
        assert arrays["images"][0] == "images/Beach 1.jpg"
        predicted = arrays["local_quadrant"].argmax(axis=1)
        right = np.mean(predicted == arrays["labels_quadrant"])
    assert scores["local", "quadrant", "accuracy"] == pytest.approx(right)
    report = (output / "evaluation.md").read_text()
    assert f"sha256 `{numbers['weights_sha256']}`" in report
    assert f"{100 * right:.2f} (" in report
    assert all(f"]({name})" in report for name in names if name.endswith(".png"))
    # What is printed is the report without its figures.
    printed = capsys.readouterr().out
    assert printed.startswith("# mdan_oasis4 on OASIS\n")
    assert "![" not in printed


def test_the_paper_stands_apart(fi, capsys):
    folder, weights = fi
    assert run(weights, "--data", folder, "--bootstrap", 100, "--device", "cpu") == 0
    ours, _, others = capsys.readouterr().out.partition(
        "## What the paper reports (not reproduced here)"
    )
    theirs, _, elsewhere = others.partition("## What is known from elsewhere (not measured here")
    assert "mdan_fi8 on FI" in ours
    assert "76.41" not in ours
    assert "| MDAN | emotion | overall | 76.41 | Table 1, Ours |" in theirs
    assert "95 %" not in theirs
    assert "70 to 74" not in ours + theirs
    assert "| the models of later papers | emotion | 70 to 74 | later papers |" in elsewhere
    assert "| always the most frequent class | polarity | 70.5 | by counting |" in elsewhere


def test_the_official_test_part_is_the_default(fi, capsys):
    folder, weights = fi
    samples, source = find_samples("FI", folder, MIKELS)
    assert {sample.split for sample in samples} == {"test"}
    assert (source.split, source.part, len(samples)) == ("official", "test", 16)
    assert find_samples("FI", folder, MIKELS, part="train")[1].part == "train"
    run(weights, "--data", folder, "--bootstrap", 100, "--device", "cpu")
    assert f"| split | official, sha256 `{source.split_sha256}` |" in capsys.readouterr().out


def test_a_split_file_says_what_is_evaluated(folder, tmp_path, capsys):
    samples = read_oasis(folder)
    split = make_split("OASIS", samples, folder, "80/20")
    path = tmp_path / "split.tsv"
    split.save(path)
    output = tmp_path / "report"
    given = ("--data", folder, "--bootstrap", 100, "--device", "cpu", "--split", path)
    assert run("mdan_oasis4", *given, "--output", output) == 0
    with np.load(output / "probabilities.npz") as arrays:
        assert tuple(arrays["images"]) == tuple(f"images/{name}" for name in split.images("test"))
    assert f"| split | 80/20, seed 0, sha256 `{split.sha256}` |" in capsys.readouterr().out


def test_a_part_is_enough_for_a_data_set_that_comes_divided(fi, tmp_path, capsys, monkeypatch):
    folder, weights = fi
    given = (weights, "--data", folder, "--bootstrap", 100, "--device", "cpu")
    for part, images in (("train", 8), ("test", 16)):
        assert run(*given, "--split", part) == 0
        printed = capsys.readouterr().out
        assert f"| part | {part} |" in printed
        assert f"| images | {images} in" in printed
    with pytest.raises(InputError, match="--split train and --part test are two parts"):
        run(*given, "--split", "train", "--part", "test")
    monkeypatch.chdir(tmp_path)
    Path("test").write_text("no split")
    with pytest.raises(DatasetError, match="a split begins with"):
        run(*given, "--split", "test")


def test_a_part_is_that_of_the_split_beside_the_weights(fi, tmp_path, capsys):
    folder, weights = fi
    beside = tmp_path / "model.safetensors"
    shutil.copy(weights, beside)
    samples = find_samples("FI", folder, MIKELS, part="train")[0]
    samples += find_samples("FI", folder, MIKELS, part="test")[0]
    split = make_split("FI", samples, folder, "50/50")
    split.save(tmp_path / "split.tsv")
    given = (beside, "--data", folder, "--bootstrap", 100, "--device", "cpu")
    assert run(*given, "--split", "test") == 0
    assert f"| split | 50/50, seed 0, sha256 `{split.sha256}` |" in capsys.readouterr().out
    Split.from_parts("other", "mine", ".", dict(split.parts)).save(tmp_path / "split.tsv")
    assert run(*given, "--split", "test") == 0
    assert "| split | official, sha256" in capsys.readouterr().out


def test_a_split_into_folds_gives_all_of_them_or_one(folder):
    samples = read_oasis(folder)
    split = make_split("OASIS", samples, folder, "grouped-3-fold", seed=2)
    everything, source = find_samples("OASIS", folder, CIRCUMPLEX, split=split)
    assert everything == samples
    assert [list(fold) for _, fold in source.folds] == grouped_folds(samples, 3, seed=2)
    one, source = find_samples("OASIS", folder, CIRCUMPLEX, split=split, part="1")
    assert one == [samples[index] for index in grouped_folds(samples, 3, seed=2)[1]]
    assert (source.part, source.folds) == ("1", ())
    with pytest.raises(InputError, match="'grouped-3-fold, seed 2' has folds already"):
        find_samples("OASIS", folder, CIRCUMPLEX, split=split, folds=3)


# --- what cannot be evaluated


def test_a_class_that_the_tree_lacks_is_named(fi, tmp_path):
    folder, _ = fi
    own = shutil.copytree(folder / "FI" / "test", tmp_path / "own")
    (own / "awe").rename(own / "boredom")
    with pytest.raises(DatasetError, match=r"'boredom' is no leaf of hierarchy 'mikels8'"):
        find_samples("folder", own, MIKELS)


def test_labels_of_another_tree_are_refused(mdan, folder):
    samples = [Sample(folder / "images" / "Fog 1.jpg", (1, 7), (), "fog")]
    with pytest.raises(DatasetError, match=r"Fog 1\.jpg has the class ids \(1, 7\), which are no"):
        evaluate(mdan, samples, resamples=100)
    with pytest.raises(DatasetError, match="there are no images to evaluate on"):
        evaluate(mdan, [], resamples=100)


def test_an_empty_part_is_an_error(fi, folder):
    with pytest.raises(DatasetError, match="no images in the part 'val': known are: test, train"):
        find_samples("FI", fi[0], MIKELS, part="val")
    with pytest.raises(DatasetError, match="no images in the part 'test': it comes without a"):
        find_samples("OASIS", folder, CIRCUMPLEX, part="test")
    split = make_split("OASIS", read_oasis(folder), folder, "80/20")
    with pytest.raises(UnknownNameError, match="has no part 'val'; known are: test, train"):
        find_samples("OASIS", folder, CIRCUMPLEX, split=split, part="val")


def test_a_split_of_other_data_is_refused(fi, folder):
    split = make_split("OASIS", read_oasis(folder), folder, "80/20")
    with pytest.raises(DatasetError, match="the split is of OASIS, not of FI"):
        find_samples("FI", fi[0], MIKELS, split=split)
    other = Split.from_parts("OASIS", "mine", "images", {"test": ["Desert 1.jpg"]})
    with pytest.raises(DatasetError, match=r"'images/Desert 1\.jpg'"):
        find_samples("OASIS", folder, CIRCUMPLEX, split=other)


def test_images_that_cannot_be_read_are_listed(folder, tmp_path):
    broken = shutil.copytree(folder, tmp_path / "oasis")
    (broken / "images" / "Fog 2.jpg").write_bytes(b"no image")
    (broken / "images" / "Fire 1.jpg").write_bytes(b"")
    with pytest.raises(ImageError) as caught:
        run("mdan_oasis4", "--data", broken, "--device", "cpu")
    message = str(caught.value)
    assert message.startswith("2 of the 12 images cannot be evaluated:\n")
    assert "Fog 2.jpg: " in message
    assert "Fire 1.jpg: " in message


def test_arguments_that_are_wrong(folder, tmp_path):
    with pytest.raises(InputError, match="at least 100 resamples, not 5"):
        run("mdan_oasis4", "--data", folder, "--bootstrap", 5)
    with pytest.raises(InputError, match="seed must not be negative, not -1"):
        run("mdan_oasis4", "--data", folder, "--seed", -1)
    with pytest.raises(UnknownNameError, match="no model 'mdan_oasis'; did you mean 'mdan_oasis4'"):
        run("mdan_oasis", "--data", folder)
    with pytest.raises(CheckpointError, match=r"cannot read the checkpoint .*gone\.safetensors"):
        run(tmp_path / "gone.safetensors", "--data", folder)
    with pytest.raises(WeightsUnavailableError, match="mdan_fi8 has no released weights"):
        run("mdan_fi8", "--data", folder)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be made"):
        run("mdan_oasis4", "--data", folder, "--output", tmp_path / "file")


def test_a_missing_matplotlib_is_told_before_the_work(tmp_path):
    """In a process that cannot import it, as where the package was installed without the extra."""
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "sys.path[:0] = [sys.argv.pop(1), sys.argv.pop(1)]\n"
        "from test_evaluate import run\n"
        "run(*sys.argv[1:])"
    )
    command = [sys.executable, "-c", code, HERE, HERE.parent / "helpers", "mdan_oasis4"]
    given = ["--data", tmp_path / "nowhere", "--output", tmp_path / "report"]
    done = subprocess.run([*command, *given], capture_output=True, text=True, check=False)
    assert "InputError: the report's figures need matplotlib" in done.stderr
    assert "pip install 'mdan-zoo[evaluate]'" in done.stderr
    assert not (tmp_path / "report").exists()


# --- the real data


@pytest.mark.skipif(not REAL_OASIS.is_dir(), reason="needs ../shared/data/oasis")
def test_images_that_the_weights_know_are_told(mdan, tmp_path):
    samples, source = find_samples("OASIS", REAL_OASIS, CIRCUMPLEX)
    evaluation = evaluate(mdan, samples[::22], source=source, resamples=100)
    assert evaluation.trained_on == len(samples[::22]) == 31
    # It learned them by heart, nearly: far above the accuracy of cross-validation, 0.75 and 0.51.
    assert evaluation.score("accuracy", "polarity").value > 0.85
    assert evaluation.score("accuracy", "quadrant").value > 0.7
    assert evaluation.score("valence_r").value > 0.8
    report = write_report(evaluation, tmp_path).read_text()
    assert "**The weights were trained on 31 of these 31 images.**" in report
    assert json.loads((tmp_path / "evaluation.json").read_text())["images_trained_on"] == 31
