"""Evaluation of a folder of images: `find_samples`, `evaluate` and `write_report`."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from dataset_trees import write_fi
from sklearn.metrics import accuracy_score, f1_score

from mdan_zoo.datasets.readers.oasis import read_oasis
from mdan_zoo.datasets.sample import Sample
from mdan_zoo.datasets.split_methods import make_split
from mdan_zoo.datasets.splits import Split, grouped_folds
from mdan_zoo.errors import DatasetError, InputError, UnknownNameError
from mdan_zoo.evaluation import Score, evaluate, find_samples, write_report
from mdan_zoo.evaluation.probabilities import predict_probabilities
from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.inference.predictor import Predictor

CIRCUMPLEX = get_hierarchy("circumplex4")
MIKELS = get_hierarchy("mikels8")
REAL_OASIS = Path(__file__).parents[3] / "shared" / "data" / "oasis"


@pytest.fixture(scope="module")
def folder(oasis_folder) -> Path:
    return oasis_folder


@pytest.fixture(scope="module")
def fi(tmp_path_factory) -> Path:
    return write_fi(tmp_path_factory.mktemp("fi"))


@pytest.fixture(scope="module")
def mdan() -> Predictor:
    return Predictor("mdan_oasis4", device="cpu")


@pytest.fixture(scope="module")
def evaluation(mdan, folder):
    samples, source = find_samples("OASIS", folder, mdan.hierarchy, folds=3)
    return evaluate(mdan, samples, source=source, resamples=100)


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
    assert f"Folds: {about[0]}, sha256 `{about[1]}`." in report.read_text()
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


def test_a_split_into_folds_gives_all_of_them_or_one(folder):
    samples = read_oasis(folder)
    split = make_split("OASIS", samples, folder, "grouped-3-fold", seed=2)
    everything, source = find_samples("OASIS", folder, CIRCUMPLEX, split=split)
    assert everything == samples
    assert [list(fold) for _, fold in source.folds] == grouped_folds(samples, 3, seed=2)
    one, source = find_samples("OASIS", folder, CIRCUMPLEX, split=split, part="1")
    assert one == [samples[index] for index in grouped_folds(samples, 3, seed=2)[1]]
    assert (source.part, source.folds) == ("1", ())
    with pytest.raises(InputError, match="'grouped-3-fold, seed 2' has folds; remove folds=3"):
        find_samples("OASIS", folder, CIRCUMPLEX, split=split, folds=3)


def test_a_class_that_the_hierarchy_lacks_is_named(fi, tmp_path):
    own = shutil.copytree(fi / "FI" / "test", tmp_path / "own")
    (own / "awe").rename(own / "boredom")
    with pytest.raises(DatasetError, match=r"'boredom' is not a leaf of the hierarchy 'mikels8'"):
        find_samples("folder", own, MIKELS)


def test_labels_of_another_hierarchy_are_refused(mdan, folder):
    samples = [Sample(folder / "images" / "Fog 1.jpg", (1, 7), (), "fog")]
    with pytest.raises(DatasetError, match=r"Fog 1\.jpg has the class ids \(1, 7\), which are no"):
        evaluate(mdan, samples, resamples=100)
    with pytest.raises(DatasetError, match="no images to evaluate"):
        evaluate(mdan, [], resamples=100)


def test_an_empty_part_is_an_error(fi, folder):
    with pytest.raises(DatasetError, match="no images in the part 'val': available: test, train"):
        find_samples("FI", fi, MIKELS, part="val")
    with pytest.raises(DatasetError, match="in the part 'test': it has no official split"):
        find_samples("OASIS", folder, CIRCUMPLEX, part="test")
    split = make_split("OASIS", read_oasis(folder), folder, "80/20")
    with pytest.raises(UnknownNameError, match="has no part 'val'; available: test, train"):
        find_samples("OASIS", folder, CIRCUMPLEX, split=split, part="val")


def test_a_split_of_other_data_is_refused(fi, folder):
    split = make_split("OASIS", read_oasis(folder), folder, "80/20")
    with pytest.raises(DatasetError, match="the split is of OASIS, not of FI"):
        find_samples("FI", fi, MIKELS, split=split)
    other = Split.from_parts("OASIS", "mine", "images", {"test": ["Desert 1.jpg"]})
    with pytest.raises(DatasetError, match=r"'images/Desert 1\.jpg'"):
        find_samples("OASIS", folder, CIRCUMPLEX, split=other)


@pytest.mark.slow
@pytest.mark.skipif(not REAL_OASIS.is_dir(), reason="needs ../shared/data/oasis")
def test_images_that_the_weights_know_are_reported(mdan, tmp_path):
    samples, source = find_samples("OASIS", REAL_OASIS, CIRCUMPLEX)
    evaluation = evaluate(mdan, samples[::22], source=source, resamples=100)
    assert evaluation.trained_on == len(samples[::22]) == 31
    # It learned them by heart, nearly: far above the accuracy of cross-validation, 0.75 and 0.51.
    assert evaluation.score("accuracy", "polarity").value > 0.85
    assert evaluation.score("accuracy", "quadrant").value > 0.7
    assert evaluation.score("valence_r").value > 0.8
    report = write_report(evaluation, tmp_path).read_text()
    assert "**The model was trained on 31 of these 31 images.**" in report
    assert json.loads((tmp_path / "evaluation.json").read_text())["images_trained_on"] == 31
