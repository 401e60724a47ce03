"""Measures and intervals, against scikit-learn, by hand and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from mdan_zoo.evaluation.metrics import (
    LEVEL_MEASURES,
    SMALLEST_PROBABILITY,
    Outcomes,
    accuracy,
    average_precision,
    balanced_accuracy,
    calibration_error,
    confusion,
    correlation,
    interval,
    macro_f1,
    negative_log_likelihood,
    paired_intervals,
    resample,
    roc_auc,
    weighted_mean,
)

ONCE = np.ones((1, 60))


@pytest.fixture
def images():
    """Probabilities (60, 7) and labels; class 5 is never right, class 6 not even predicted."""
    generator = np.random.default_rng(4)
    labels = generator.integers(0, 5, 60)
    logits = generator.normal(size=(60, 7))
    logits[np.arange(60), labels] += 1
    logits[:, 6] = -9
    exponentials = np.exp(logits)
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    assert set(probabilities.argmax(axis=1)) == {0, 1, 2, 3, 4, 5}
    return probabilities, labels


def by_sklearn(probabilities, labels) -> dict[str, float]:
    predicted = probabilities.argmax(axis=1)
    # Like ours, its macro F1 is over classes that are right or predicted somewhere.
    return {
        "accuracy": sklearn_metrics.accuracy_score(labels, predicted),
        "macro_f1": sklearn_metrics.f1_score(labels, predicted, average="macro"),
        "negative_log_likelihood": sklearn_metrics.log_loss(labels, probabilities, labels=range(7)),
        "balanced_accuracy": sklearn_metrics.recall_score(
            labels, predicted, labels=np.unique(labels), average="macro"
        ),
    }


def test_measures_are_those_of_sklearn(images):
    probabilities, labels = images
    outcomes = Outcomes.of(probabilities, labels)
    for name, expected in by_sklearn(probabilities, labels).items():
        assert LEVEL_MEASURES[name](outcomes, ONCE) == pytest.approx([expected]), name
    np.testing.assert_array_equal(
        confusion(outcomes, ONCE)[0],
        sklearn_metrics.confusion_matrix(labels, outcomes.predicted, labels=range(7)),
    )


def test_balanced_accuracy_is_sklearns_own():
    labels = np.array([0, 0, 0, 1, 2, 2])
    outcomes = Outcomes.of(np.eye(3)[[0, 1, 0, 1, 2, 0]], labels)
    expected = sklearn_metrics.balanced_accuracy_score(labels, outcomes.predicted)
    assert balanced_accuracy(outcomes, np.ones((1, 6))) == pytest.approx([expected])


def test_binary_measures_are_those_of_sklearn():
    """On resamples, too, and with ties between and within the classes."""
    generator = np.random.default_rng(5)
    positive = (generator.random(60) < 0.3).astype(float)
    scores = np.round(generator.random(60) + 0.4 * positive, 1)
    assert len(np.unique(scores)) < 20
    (weights,) = resample([str(n) for n in range(60)], 5, seed=2)
    weights = np.concatenate([ONCE, weights])
    for measure, expected in {
        roc_auc: sklearn_metrics.roc_auc_score,
        average_precision: sklearn_metrics.average_precision_score,
    }.items():
        values = [expected(positive, scores, sample_weight=row) for row in weights]
        assert measure(scores, positive, weights) == pytest.approx(values)
        assert len(set(values)) == 6


def test_an_interval_is_over_the_resamples_with_a_value():
    values = np.arange(101.0)
    assert interval(values) == pytest.approx((2.5, 97.5))
    with_missing = np.concatenate([[np.nan], values, [np.nan]])
    assert interval(with_missing) == interval(values)
    assert np.isnan(interval(np.full(3, np.nan))).all()


def test_binary_measures_by_hand():
    scores, positive = np.array([0.9, 0.8, 0.8, 0.3]), np.array([1.0, 1, 0, 0])
    # Of the four pairs, three are ordered correctly and one is a tie.
    assert roc_auc(scores, positive, np.ones((1, 4))) == pytest.approx([3.5 / 4])
    # Precision 1 at recall 1/2, and 2/3 at recall 1.
    found = average_precision(scores, positive, np.ones((1, 4)))
    assert found == pytest.approx([(1 + 2 / 3) / 2])
    one_class = np.array([[0.0, 0, 1, 1], [1, 1, 0, 0]])
    assert np.isnan(roc_auc(scores, positive, one_class)).all()
    assert average_precision(scores, positive, one_class)[1] == 1
    assert np.isnan(average_precision(scores, positive, one_class)[0])


def test_a_weight_is_how_often_an_image_counts(images):
    """Every row of weights gives what the same measure says of repeated images."""
    probabilities, labels = images
    outcomes = Outcomes.of(probabilities, labels)
    (weights,) = resample([str(n) for n in range(60)], 5, seed=1)
    missing_class = (labels != 2).astype(float)
    for row in [*weights, missing_class]:
        rows = np.repeat(np.arange(60), row.astype(int))
        repeated = Outcomes.of(probabilities[rows], labels[rows])
        expected = by_sklearn(probabilities[rows], labels[rows])
        for name, measure in LEVEL_MEASURES.items():
            (found,) = measure(outcomes, row[None])
            assert measure(repeated, np.ones((1, len(rows)))) == pytest.approx([found]), name
            assert found == pytest.approx(expected.get(name, found)), name


def test_calibration_error_by_hand():
    # Bins of 1/15: 0.9 and 0.92 are in the 14th (0.8667 to 0.9333), 0.61 is in the 10th.
    confidence = np.array([0.9, 0.92, 0.61, 0.61])
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    outcomes = Outcomes.of(probabilities, np.array([0, 1, 0, 0]))
    expected = (abs(0.9 + 0.92 - 1) + abs(2 * 0.61 - 2)) / 4
    assert calibration_error(outcomes, np.ones((1, 4))) == pytest.approx([expected])


def test_bins_are_closed_above():
    confidence = np.array([1e-9, 1 / 15, 0.0667, 0.2, 14 / 15, 1.0])
    outcomes = Outcomes(2, *(np.zeros((2, 6), int)), confidence, np.zeros(6))
    assert outcomes.bins.tolist() == [0, 0, 1, 2, 13, 14]


def test_a_probability_of_zero_costs_much_but_not_everything():
    outcomes = Outcomes.of(np.array([[0.0, 1.0]], np.float32), np.array([0]))
    expected = -np.log(SMALLEST_PROBABILITY)
    assert negative_log_likelihood(outcomes, np.ones((1, 1))) == pytest.approx([expected])
    assert 87 < expected < 88


def test_correlation_is_pearsons():
    generator = np.random.default_rng(0)
    x = generator.normal(size=50)
    y = x + generator.normal(size=50)
    (weights,) = resample([str(n) for n in range(50)], 3, seed=2)
    for row, found in zip(weights, correlation(x, y, weights), strict=True):
        rows = np.repeat(np.arange(50), row.astype(int))
        assert found == pytest.approx(np.corrcoef(x[rows], y[rows])[0, 1])
    assert np.isnan(correlation(x, np.ones(50), np.ones((1, 50)))).all()


def test_every_class_counts_the_same_in_balanced_measures():
    labels = np.array([0] * 98 + [1] * 2)
    outcomes = Outcomes.of(np.tile([0.9, 0.1], (100, 1)), labels)
    once = np.ones((1, 100))
    assert accuracy(outcomes, once) == pytest.approx([0.98])
    assert balanced_accuracy(outcomes, once) == pytest.approx([0.5])
    assert macro_f1(outcomes, once) == pytest.approx([(2 * 98 / 198) / 2])


# --- the bootstrap


def test_intervals_contain_the_truth_at_about_their_rate():
    generator = np.random.default_rng(7)
    groups = [str(n) for n in range(150)]
    inside = 0
    for trial in range(200):
        right = (generator.random(150) < 0.7).astype(float)
        draws = [weighted_mean(right, weights) for weights in resample(groups, 200, seed=trial)]
        low, high = interval(np.concatenate(draws))
        inside += low <= 0.7 <= high
    assert 0.90 <= inside / 200 <= 0.98


def test_groups_are_drawn_whole():
    """30 groups of 10 images that agree are 30 observations, not 300."""
    right = np.repeat(np.random.default_rng(3).random(30) < 0.7, 10).astype(float)

    def width(groups: list[str]) -> float:
        draws = [weighted_mean(right, weights) for weights in resample(groups, 2000, seed=0)]
        low, high = interval(np.concatenate(draws))
        return high - low

    single = width([str(n) for n in range(300)])
    grouped = width([str(n // 10) for n in range(300)])
    assert grouped / single == pytest.approx(np.sqrt(10), rel=0.15)


def test_draws_depend_on_the_seed_alone():
    groups = ["a", "b", "b", "c", "d"]
    first, again, other = (np.concatenate(list(resample(groups, 120, seed))) for seed in (0, 0, 1))
    assert first.shape == (120, 5)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    np.testing.assert_array_equal(first[:, 1], first[:, 2])  # one group
    assert (first[:, [0, 1, 3, 4]].sum(axis=1) == 4).all()  # as many groups as there are


def test_paired_intervals_are_those_of_means_over_groups():
    generator = np.random.default_rng(3)
    differences = generator.integers(-1, 2, (2, 300)).astype(float)
    differences[1, 100:] = np.nan  # images without a label
    plain, some = paired_intervals(differences, range(300), 2000)
    for found, (low, high) in zip(differences, (plain, some), strict=True):
        known = found[~np.isnan(found)]
        spread = 1.96 * known.std() / np.sqrt(len(known))
        assert (low, high) == pytest.approx(
            (known.mean() - spread, known.mean() + spread), abs=0.02
        )
    repeated = np.repeat(differences[:1, :50], 6, axis=1)
    (grouped,) = paired_intervals(repeated, np.repeat(np.arange(50), 6), 2000)
    (single,) = paired_intervals(repeated, range(300), 2000)
    assert grouped[1] - grouped[0] > 2 * (single[1] - single[0])
