"""Metrics of the predictions at one level, and their bootstrap intervals.

Every metric takes weights (B, N), the number of times each of N images counts in each of B
evaluations, and returns B values. A row of ones is a plain evaluation, the counts of a bootstrap
resample are a row, and a row of zeros and ones is a fold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]

CALIBRATION_BINS = 15
"""Bins of equal width (Guo et al., On Calibration of Modern Neural Networks, ICML 2017)."""

SMALLEST_PROBABILITY = float(np.finfo(np.float32).tiny)
"""Lower bound that avoids infinite logarithms of probabilities that underflow in float32."""

LEVEL = 0.95
"""Nominal coverage of the bootstrap intervals."""

FEWEST_RESAMPLES = 100
"""With fewer, the interval would be determined by the few most extreme resamples."""

_ROWS_AT_ONCE = 50


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Labels and predictions of N images at one level.

    Attributes:
        classes: K, the number of classes of the level.
        labels: The true classes, (N,).
        predicted: The most probable classes, (N,).
        confidence: Their probabilities, (N,).
        log_loss: Negative log probabilities of the true classes, (N,), in nats.
    """

    classes: int
    labels: Ints
    predicted: Ints
    confidence: Floats
    log_loss: Floats

    @classmethod
    def of(cls, probabilities: npt.NDArray[np.floating], labels: Ints) -> Outcomes:
        """Create from probabilities (N, K) and labels (N,)."""
        right = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]
        return cls(
            probabilities.shape[1],
            labels,
            probabilities.argmax(axis=1),
            probabilities.max(axis=1).astype(np.float64),
            -np.log(np.maximum(right.astype(np.float64), SMALLEST_PROBABILITY)),
        )

    @property
    def correct(self) -> Floats:
        """1 where the prediction is correct, else 0; (N,)."""
        right: Floats = (self.predicted == self.labels).astype(np.float64)
        return right

    @property
    def bins(self) -> Ints:
        """The calibration bin of every image, (N,); bin b is ]b / 15, (b + 1) / 15]."""
        above: Ints = np.ceil(self.confidence * CALIBRATION_BINS).astype(np.int64)
        return (above - 1).clip(0, CALIBRATION_BINS - 1)


def weighted_mean(values: Floats, weights: Floats) -> Floats:
    """Return the means of values (N,) under weights (B, N); (B,)."""
    means: Floats = weights @ values / weights.sum(axis=1)
    return means


def sums_by_bin(bins: Ints, count: int, weights: Floats) -> Floats:
    """Return the summed weights (B, N) of the images in each of `count` bins, (B, count)."""
    return np.stack([np.bincount(bins, row, minlength=count) for row in weights])


def confusion(outcomes: Outcomes, weights: Floats) -> Floats:
    """Return the confusion matrices, (B, K, K): true classes in rows, predicted in columns."""
    k = outcomes.classes
    cells = outcomes.labels * k + outcomes.predicted
    return sums_by_bin(cells, k * k, weights).reshape(-1, k, k)


def accuracy(outcomes: Outcomes, weights: Floats) -> Floats:
    """Return the fraction of images with a correct prediction."""
    return weighted_mean(outcomes.correct, weights)


def balanced_accuracy(outcomes: Outcomes, weights: Floats) -> Floats:
    """Return the mean recall over the classes that have images."""
    counts = confusion(outcomes, weights)
    return _mean_of_ratios(counts.diagonal(axis1=1, axis2=2), counts.sum(axis=2))


def macro_f1(outcomes: Outcomes, weights: Floats) -> Floats:
    """Return the mean F1 over the classes that have images or were predicted."""
    counts = confusion(outcomes, weights)
    right = counts.diagonal(axis1=1, axis2=2)
    return _mean_of_ratios(2 * right, counts.sum(axis=1) + counts.sum(axis=2))


def calibration_error(outcomes: Outcomes, weights: Floats) -> Floats:
    """Return the expected calibration errors: the mean gap between confidence and accuracy."""
    gap = weights * (outcomes.correct - outcomes.confidence)
    by_bin = sums_by_bin(outcomes.bins, CALIBRATION_BINS, gap)
    errors: Floats = np.abs(by_bin).sum(axis=1) / weights.sum(axis=1)
    return errors


def negative_log_likelihood(outcomes: Outcomes, weights: Floats) -> Floats:
    """Return the mean negative log likelihoods of the true classes, in nats."""
    return weighted_mean(outcomes.log_loss, weights)


LEVEL_MEASURES: dict[str, Callable[[Outcomes, Floats], Floats]] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": macro_f1,
    "calibration_error": calibration_error,
    "negative_log_likelihood": negative_log_likelihood,
}
"""Metrics computed at every level."""


def roc_auc(scores: Floats, positive: Floats, weights: Floats) -> Floats:
    """Return the areas under the ROC curves; NaN without images of both classes.

    `scores` are the probabilities of the positive class, (N,), and `positive` is 1 for its images,
    else 0, (N,). A tie counts half.
    """
    hits, misses = _counts_by_score(scores, positive, weights)
    above = hits.cumsum(axis=1) - hits / 2
    with np.errstate(invalid="ignore"):
        areas: Floats = (above * misses).sum(axis=1) / (hits.sum(axis=1) * misses.sum(axis=1))
    return areas


def average_precision(scores: Floats, positive: Floats, weights: Floats) -> Floats:
    """Return the mean precisions over the recall of the positive class, as in scikit-learn.

    The arguments are those of `roc_auc`. NaN without images of the positive class.
    """
    hits, misses = _counts_by_score(scores, positive, weights)
    found, predicted = hits.cumsum(axis=1), (hits + misses).cumsum(axis=1)
    precision = np.divide(found, predicted, out=np.zeros_like(found), where=predicted > 0)
    with np.errstate(invalid="ignore"):
        means: Floats = (hits * precision).sum(axis=1) / hits.sum(axis=1)
    return means


def _counts_by_score(scores: Floats, positive: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Return the summed weights of both classes at each score, from high to low, (B, scores)."""
    values, ranks = np.unique(-scores, return_inverse=True)
    return (
        sums_by_bin(ranks, len(values), weights * positive),
        sums_by_bin(ranks, len(values), weights * (1 - positive)),
    )


BINARY_MEASURES: dict[str, Callable[[Floats, Floats, Floats], Floats]] = {
    "roc_auc": roc_auc,
    "average_precision": average_precision,
}
"""Metrics computed in addition at levels of two classes."""


def correlation(x: Floats, y: Floats, weights: Floats) -> Floats:
    """Return Pearson's correlations of x and y, both (N,); NaN if either is constant."""
    shares = weights / weights.sum(axis=1, keepdims=True)
    x_gap, y_gap = (v - (shares @ v)[:, None] for v in (x, y))
    covariance, x_variance, y_variance = (
        (shares * a * b).sum(axis=1) for a, b in ((x_gap, y_gap), (x_gap, x_gap), (y_gap, y_gap))
    )
    with np.errstate(invalid="ignore"):
        r: Floats = covariance / np.sqrt(x_variance * y_variance)
    return r


def _mean_of_ratios(numerators: Floats, denominators: Floats) -> Floats:
    """Return the mean over classes of (B, K) / (B, K), ignoring classes with denominator 0."""
    counted = denominators > 0
    ratios = np.divide(numerators, denominators, out=np.zeros_like(denominators), where=counted)
    means: Floats = ratios.sum(axis=1) / counted.sum(axis=1)
    return means


def resample(groups: Sequence[Any], resamples: int, seed: int) -> Iterator[Floats]:
    """Draw bootstrap resamples of whole groups, with replacement.

    Images of the same group are similar, so resampling single images would make the intervals too
    narrow.

    Yields:
        The number of times each image was drawn, (b, N), for a few resamples at a time.
    """
    _, members = np.unique(np.asarray(groups), return_inverse=True)
    count = int(members.max()) + 1
    generator = np.random.default_rng(seed)
    for start in range(0, resamples, _ROWS_AT_ONCE):
        rows = [
            np.bincount(generator.integers(count, size=count), minlength=count)
            for _ in range(min(_ROWS_AT_ONCE, resamples - start))
        ]
        yield np.stack(rows)[:, members].astype(np.float64)


def paired_intervals(
    differences: Floats, groups: Sequence[Any], resamples: int = 10_000, seed: int = 0
) -> list[tuple[float, float]]:
    """Return the percentile intervals of the means of differences by image, (M, N); NaN: missing.

    The same resamples of groups are drawn for all of the M means.
    """
    known, values = ~np.isnan(differences).T, np.nan_to_num(differences).T
    means = [w @ values / (w @ known) for w in resample(groups, resamples, seed)]
    return [interval(column) for column in np.concatenate(means).T]


def interval(values: Floats) -> tuple[float, float]:
    """Return the percentile interval of the values of a metric on the resamples, (B,).

    Resamples on which the metric is not defined, such as those without one of two classes, are
    ignored; NaN if it is defined on none.
    """
    tail = 100 * (1 - LEVEL) / 2
    defined = values[~np.isnan(values)]
    if not len(defined):
        return np.nan, np.nan
    low, high = np.percentile(defined, [tail, 100 - tail])
    return float(low), float(high)
