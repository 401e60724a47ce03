"""Datasets with other classes than the model: the common level, label maps and what is left out."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from dataset_trees import write_images
from oasis_folder import write_oasis
from random_weights import CONFIG, save_random_weights

from mdan_zoo.datasets.readers.oasis import read_oasis
from mdan_zoo.datasets.sample import Sample
from mdan_zoo.errors import DatasetError, UnknownNameError
from mdan_zoo.evaluation import evaluate, find_samples, write_report
from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.inference.predictor import Predictor
from mdan_zoo.models.dimensions import Dimension

CIRCUMPLEX, MIKELS = get_hierarchy("circumplex4"), get_hierarchy("mikels8")
WEBEMO, PANDA = get_hierarchy("webemo25"), get_hierarchy("panda6")
POLARITIES = ["positive/1.jpg", "positive/2.jpg", "negative/3.jpg"]


@pytest.fixture(scope="module")
def mikels(tmp_path_factory) -> Predictor:
    """A model of Mikels' eight emotions, whose polarity 0 is positive."""
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    config = dataclasses.replace(CONFIG, name="mdan_fi8", hierarchy="mikels8", dataset="FI")
    save_random_weights(path, config=config)
    return Predictor(checkpoint=path, device="cpu")


@pytest.fixture(scope="module")
def circumplex() -> Predictor:
    return Predictor("mdan_oasis4", device="cpu")


def classes_of(samples, hierarchy):
    """Return the names of the classes of every image, coarse to fine, by the name of the file."""
    return {
        sample.image.name: [hierarchy.levels[i][k] for i, k in enumerate(sample.labels)]
        for sample in samples
    }


def write_gaped(folder):
    for number, category in enumerate(("A", "H", "N", "P", "Sn", "Sp")):
        write_images(folder / category, [f"{category}001.bmp"])
        row = f"{category}001.bmp {10 * number} (9.1) {90 - number**2} (8.2)"
        (folder / f"{category}_with SD.txt").write_text(f"Item Valence Arousal\n{row}\n")


def write_table(folder, header, *rows):
    write_images(folder, [row.split(",")[0] for row in rows])
    (folder / "table.csv").write_text("\n".join([header, *rows]))
    return folder


@pytest.mark.parametrize("tree", [CIRCUMPLEX, MIKELS, WEBEMO])
def test_a_folder_of_polarities_is_compared_at_that_level(tmp_path, tree):
    samples, source = find_samples("folder", write_images(tmp_path, POLARITIES), tree)
    expected = {"1.jpg": ["positive"], "2.jpg": ["positive"], "3.jpg": ["negative"]}
    assert classes_of(samples, tree) == expected
    positive = tree.levels[0].index("positive")
    assert [s.distribution[positive] for s in sorted(samples, key=lambda s: s.image.name)] == [
        *(1, 1, 0)
    ]
    assert source.classes == (("negative", "negative"), ("positive", "positive"))
    assert source.left_out == ()


@pytest.mark.parametrize(
    ("header", "rows"),
    [
        ("image,label", ("1.jpg,positive", "2.jpg,Positive", "3.jpg,negative")),
        ("image,polarity", ("1.jpg,positive", "2.jpg,positive", "3.jpg,negative")),
        ("image,negative,positive", ("1.jpg,1,4", "2.jpg,2,3", "3.jpg,4,1")),
    ],
)
def test_a_table_of_polarities_is_compared_at_that_level(tmp_path, header, rows):
    samples, _ = find_samples("table", write_table(tmp_path, header, *rows), MIKELS)
    expected = {"1.jpg": ["positive"], "2.jpg": ["positive"], "3.jpg": ["negative"]}
    assert classes_of(samples, MIKELS) == expected
    shares = {sample.image.name: sample.distribution for sample in samples}
    if "positive" in header:  # the order of Mikels, not that of the columns
        assert shares["1.jpg"] == pytest.approx((0.8, 0.2))


def test_names_of_a_middle_level_are_not_taken_for_leaves(tmp_path):
    """Sadness and surprise are names of primary and of secondary emotions."""
    names = [f"{name}/{name}.jpg" for name in PANDA.leaves]
    samples, source = find_samples("folder", write_images(tmp_path, names), WEBEMO)
    expected = {f"{name}.jpg": list(PANDA.path(name)) for name in PANDA.leaves}
    assert classes_of(samples, WEBEMO) == expected
    assert len(samples[0].distribution) == 6
    assert dict(source.classes) == {name: name for name in PANDA.leaves}


def test_folders_within_a_class_do_not_matter_at_a_given_level(tmp_path):
    write_images(tmp_path, ["positive/joy/1.jpg", "positive/fear/2.jpg", "negative/3.jpg"])
    with pytest.raises(DatasetError, match="in the folders of two classes, positive and fear"):
        find_samples("folder", tmp_path, MIKELS)
    samples, _ = find_samples("folder", tmp_path, MIKELS, level="polarity")
    expected = {"1.jpg": ["positive"], "2.jpg": ["positive"], "3.jpg": ["negative"]}
    assert classes_of(samples, MIKELS) == expected


def test_leaves_can_be_compared_at_a_coarser_level(tmp_path):
    names = [f"{name}/{name}.jpg" for name in MIKELS.leaves]
    folder = write_images(tmp_path, names)
    ordinary, source = find_samples("folder", folder, MIKELS)
    assert {len(sample.labels) for sample in ordinary} == {2}
    assert (source.classes, source.left_out) == ((), ())
    samples, _ = find_samples("folder", folder, MIKELS, level="polarity")
    assert [sample.labels for sample in samples] == [sample.labels[:1] for sample in ordinary]
    with pytest.raises(UnknownNameError, match="has no level 'mood': use 0 to 1, or 'polarity'"):
        find_samples("folder", folder, MIKELS, level="mood")


def test_a_dataset_with_its_own_hierarchy_is_compared_by_name(tmp_path):
    """Polarity 0 is negative in the dataset and positive in the model."""
    folder = write_oasis(tmp_path / "oasis")
    own = {sample.image: sample for sample in read_oasis(folder)}
    samples, source = find_samples("OASIS", folder, MIKELS, folds=3)
    assert len(samples) == len(own)
    for sample in samples:
        theirs = own[sample.image]
        assert MIKELS.levels[0][sample.labels[0]] == CIRCUMPLEX.levels[0][theirs.labels[0]]
        excited_or_serene = sum(theirs.distribution[2:])
        assert sample.distribution == pytest.approx((excited_or_serene, 1 - excited_or_serene))
        assert (sample.group, sample.ratings) == (theirs.group, theirs.ratings)
    assert sum(len(fold) for _, fold in source.folds) == len(samples)


def test_the_finest_common_level_is_found(tmp_path):
    names = [f"images/{name}/dog/{name}.jpg" for name in PANDA.leaves]
    folder = write_images(tmp_path, names)
    samples, _ = find_samples("UnBiasedEmo", folder, WEBEMO)
    expected = {f"{name}.jpg": list(PANDA.path(name)) for name in PANDA.leaves}
    assert classes_of(samples, WEBEMO) == expected
    # Anger, fear and sadness are also Mikels', but not the others: the polarity is common.
    samples, source = find_samples("UnBiasedEmo", folder, MIKELS)
    assert classes_of(samples, MIKELS) == {name: path[:1] for name, path in expected.items()}
    samples, source = find_samples("UnBiasedEmo", folder, MIKELS, level="emotion")
    assert classes_of(samples, MIKELS) == {
        "anger.jpg": ["negative", "anger"],
        "fear.jpg": ["negative", "fear"],
        "sadness.jpg": ["negative", "sadness"],
    }
    assert dict(source.left_out) == {"joy": 1, "love": 1, "surprise": 1}


def write_mvsa(folder):
    labels = ["positive", "neutral", "negative", "neutral", "positive", "negative"]
    write_images(folder / "data", [f"{number}.jpg" for number in range(6)])
    rows = [f"{number}\tneutral,{label}" for number, label in enumerate(labels)]
    (folder / "labelResultAll.txt").write_text("\n".join(["ID\ttext,image", *rows]))
    return folder


def test_images_without_a_counterpart_are_left_out(tmp_path, mikels):
    samples, source = find_samples("MVSA-Single", write_mvsa(tmp_path), MIKELS, folds=2)
    assert sorted(classes_of(samples, MIKELS)) == ["0.jpg", "2.jpg", "4.jpg", "5.jpg"]
    assert source.left_out == (("neutral", 2),)
    assert dict(source.classes)["neutral"] == ""
    assert sorted(index for _, fold in source.folds for index in fold) == [0, 1, 2, 3]
    division = dict(source.division.parts)
    for name, fold in source.folds:
        assert {samples[index].image.name for index in fold} <= {*division[name]}
    evaluation = evaluate(mikels, samples, source=source, resamples=100)
    report = write_report(evaluation, tmp_path / "report").read_text()
    assert "| levels compared | polarity |" in report
    assert "| images left out | 2, of neutral: 2 |" in report
    written = json.loads((tmp_path / "report" / "evaluation.json").read_text())
    assert written["levels_compared"] == ["polarity"]
    assert written["images_left_out"] == {"neutral": 2}
    classes = {"negative": "negative", "neutral": None, "positive": "positive"}
    assert written["classes_of_the_dataset"] == classes
    assert list(written["confusion"]["overall"]) == ["polarity"]
    figures = {path.stem for path in (tmp_path / "report").glob("*.png")}
    assert figures == {"confusion_polarity", "confusion_polarity_local", "reliability", "alpha"}


def test_scores_of_a_coarse_level_are_those_of_the_probabilities(tmp_path, mikels):
    """With all metrics of the ordinary evaluation at that level."""
    folder = write_oasis(tmp_path / "oasis")
    samples, source = find_samples("OASIS", folder, MIKELS)
    evaluation = evaluate(mikels, samples, source=source, resamples=100)
    data = evaluation.probabilities
    theirs = np.array(
        [s.labels[0] == CIRCUMPLEX.levels[0].index("positive") for s in read_oasis(folder)]
    )
    positive = data.of("overall", 0)[:, MIKELS.levels[0].index("positive")]
    assert evaluation.score("accuracy", "polarity").value == np.mean((positive > 0.5) == theirs)
    pairs = positive[theirs][:, None] - positive[~theirs]
    auc = np.mean(pairs > 0) + np.mean(pairs == 0) / 2
    score = evaluation.score("roc_auc", "polarity")
    assert score.value == pytest.approx(auc)
    assert score.low < score.value < score.high
    assert evaluation.to_dict()["positive_classes"] == {"polarity": "positive"}
    assert evaluation.score("average_precision", "polarity", "local").high <= 1
    valence = [dict(s.ratings)["valence"] for s in samples]
    r = np.corrcoef(positive, valence)[0, 1]
    assert evaluation.score("valence_r").value == pytest.approx(r)
    assert "violation_rate" in {score.measure for score in evaluation.scores}
    assert {score.level for score in evaluation.scores} == {"polarity", ""}


def test_absolute_errors_need_the_scale_of_the_ratings(tmp_path):
    """Ratings from 0 to 100 are correlated with predictions from 1 to 7, but not subtracted."""
    config = dataclasses.replace(CONFIG, dimensions=(Dimension("valence", 1, 7),))
    save_random_weights(tmp_path / "model.safetensors", config=config)
    predictor = Predictor(checkpoint=tmp_path / "model.safetensors", device="cpu")
    measures = {}
    for name, write in {"OASIS": write_oasis, "GAPED": write_gaped}.items():
        (tmp_path / name).mkdir()
        write(tmp_path / name / "data")
        samples, source = find_samples(name, tmp_path / name / "data", predictor.hierarchy)
        evaluation = evaluate(predictor, samples, source=source, resamples=100)
        measures[name] = {score.measure for score in evaluation.scores if not score.level}
    assert measures["OASIS"] - measures["GAPED"] == {"predicted_valence_mae"}
    assert {"valence_r", "arousal_r", "predicted_valence_r"} <= measures["GAPED"]


@pytest.mark.slow
def test_the_class_of_average_precision_is_named(circumplex, tmp_path):
    samples = read_oasis(write_oasis(tmp_path / "oasis"))
    evaluation = evaluate(circumplex, samples, resamples=100)
    report = write_report(evaluation, tmp_path / "report").read_text()
    assert report.count("The average precision is that of positive.") == 1
    assert "compared" not in report
    assert report.count("| ROC AUC |") == 1


@pytest.mark.slow
def test_images_may_have_labels_of_different_depth(circumplex, tmp_path):
    """Each level is evaluated on the images that have a label at it."""
    samples = read_oasis(write_oasis(tmp_path / "oasis"))
    coarse = [
        dataclasses.replace(s, labels=s.labels[:1], distribution=(0.5, 0.5)) for s in samples[:4]
    ]
    mixed = evaluate(circumplex, [*coarse, *samples[4:]], resamples=100)
    whole = evaluate(circumplex, samples, resamples=100)
    fine = evaluate(circumplex, samples[4:], resamples=100)
    for measure in ("accuracy", "macro_f1", "negative_log_likelihood"):
        for level, reference in {"polarity": whole, "quadrant": fine}.items():
            expected = reference.score(measure, level).value
            assert mixed.score(measure, level).value == pytest.approx(expected, abs=1e-5)
    assert mixed.confusion(1).tolist() == fine.confusion(1).tolist()
    report = write_report(mixed, tmp_path / "report").read_text()
    assert f"Only {len(samples) - 4} of the images have a label at this level." in report
    expected = whole.score("violation_rate").value
    assert mixed.score("violation_rate").value == pytest.approx(expected)


def test_labels_must_be_the_beginning_of_a_path(circumplex, tmp_path):
    (image,) = write_images(tmp_path, ["1.jpg"]).iterdir()
    for labels in ((), (2,), (0, 2), (0, 0, 0)):
        with pytest.raises(DatasetError, match=r"has the class ids .*which are not a path"):
            evaluate(circumplex, [Sample(image, labels, (), "1")], resamples=100)


# Label maps


def test_a_dataset_without_a_common_level_is_refused(tmp_path):
    own = Hierarchy.from_nested({"warm": ["red", "yellow"], "cold": ["blue", "green"]})
    with pytest.raises(
        DatasetError, match="no level in common with the model; its classes are neg"
    ):
        find_samples("OASIS", write_oasis(tmp_path / "oasis"), own)
    with pytest.raises(
        DatasetError,
        match="dataset, negative, positive, is a class of the model, warm, cold, or red, yellow, "
        r"blue, green; give a label map \(--label-map\)",
    ):
        find_samples("folder", write_images(tmp_path / "folder", POLARITIES), own)


def test_own_images_with_labels_of_several_levels_are_compared_at_a_given_one(tmp_path):
    names = ["positive/1.jpg", "negative/2.jpg", "serene/3.jpg", "gloomy/4.jpg"]
    write_images(tmp_path, names)
    samples, source = find_samples("folder", tmp_path, CIRCUMPLEX, level="polarity")
    expected = {"1.jpg": "positive", "2.jpg": "negative", "3.jpg": "positive", "4.jpg": "negative"}
    assert classes_of(samples, CIRCUMPLEX) == {name: [c] for name, c in expected.items()}
    assert not source.left_out


def test_neutral_images_of_a_published_dataset_are_counted_as_left_out(tmp_path):
    write_gaped(tmp_path)
    samples, source = find_samples("GAPED", tmp_path, get_hierarchy("polarity2"))
    assert len(samples) == 5
    assert dict(source.left_out) == {"neutral": 1}
