"""A model's numbers on a data set, each with a bootstrap interval."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from mdan_zoo._version import __version__
from mdan_zoo.datasets.file_index import FileIndex
from mdan_zoo.datasets.sample import Sample
from mdan_zoo.errors import InputError, UnknownNameError
from mdan_zoo.evaluation.bootstrap import FEWEST_RESAMPLES, LEVEL, interval, resample
from mdan_zoo.evaluation.known_results import KnownResult, known_results
from mdan_zoo.evaluation.leakage import count_trained_on
from mdan_zoo.evaluation.metrics import (
    CALIBRATION_BINS,
    LEVEL_MEASURES,
    Floats,
    Ints,
    Outcomes,
    confusion,
    correlation,
    weighted_mean,
)
from mdan_zoo.evaluation.paper_results import PaperResult, paper_results
from mdan_zoo.evaluation.probabilities import Probabilities, predict_probabilities
from mdan_zoo.evaluation.ratings import rated_classes
from mdan_zoo.evaluation.source import SampleSource
from mdan_zoo.inference.prediction import Branch

if TYPE_CHECKING:
    from mdan_zoo.inference.predictor import Predictor

Key: TypeAlias = tuple[Branch, str, str]
"""Branch, level ("" for the tree as a whole) and measure."""

Measure: TypeAlias = Callable[[Floats], Floats]
"""From weights (B, N) to values (B,); see `metrics`."""


@dataclass(frozen=True)
class Score:
    """One number.

    Attributes:
        branch: Whose probabilities were measured.
        level: The level's name; "" where the measure is of the tree as a whole.
        measure: Such as "accuracy"; `Evaluation` lists them.
        value: The number. NaN for a correlation with something constant.
        low: Lower end of its 95 % bootstrap interval.
        high: Upper end.
        folds: The number for each fold alone.
    """

    branch: Branch
    level: str
    measure: str
    value: float
    low: float
    high: float
    folds: tuple[float, ...] = ()

    @property
    def mean(self) -> float:
        """Mean over the folds."""
        return float(np.mean(self.folds))

    @property
    def sd(self) -> float:
        """Standard deviation over the folds, with one less than their number below."""
        return float(np.std(self.folds, ddof=1))

    def to_dict(self) -> dict[str, Any]:
        """Return the score as JSON types, NaN as None."""
        numbers = {"value": self.value, "low": self.low, "high": self.high}
        if self.folds:
            numbers |= {"mean": self.mean, "sd": self.sd}
        return {
            "branch": self.branch,
            "level": self.level,
            "measure": self.measure,
            **{name: _json_number(number) for name, number in numbers.items()},
            "folds": [_json_number(number) for number in self.folds],
        }


@dataclass(frozen=True)
class Evaluation:
    """How well a model does on a data set.

    On every level and for every branch the measures are "accuracy", "balanced_accuracy" (mean
    recall), "macro_f1", "calibration_error" (expected calibration error, 15 bins of equal width)
    and "negative_log_likelihood" (nats). Each level's most probable class is taken by itself, as
    the paper does. Of the tree as a whole, level "", they are "violation_rate", the share of
    images whose classes are no path of the tree, and "valence_r" and "arousal_r", Pearson's
    correlation with mean ratings, where the data set has them and the tree has classes for them.

    Attributes:
        model: Name of the model.
        weights_sha256: Hash of its weight file.
        device: Kind of the device, such as "cuda".
        dtype: Data type that the network computed in.
        source: The images.
        trained_on: How many of them the weights were trained on; None where that is not known.
        groups: How many groups the images are in; these are what the bootstrap draws.
        resamples: Number of bootstrap draws.
        seed: Seed of the draws.
        scores: All numbers.
        probabilities: What they follow from.
    """

    model: str
    weights_sha256: str
    device: str
    dtype: str
    source: SampleSource
    trained_on: int | None
    groups: int
    resamples: int
    seed: int
    scores: tuple[Score, ...]
    probabilities: Probabilities = field(repr=False)

    def score(self, measure: str, level: str = "", branch: Branch = "overall") -> Score:
        """Return one number.

        Raises:
            UnknownNameError: There is no such measure on that level and branch.
        """
        for score in self.scores:
            if (score.measure, score.level, score.branch) == (measure, level, branch):
                return score
        raise UnknownNameError(
            f"there is no {measure!r} on level {level!r} for branch {branch!r}; the levels are "
            f"{', '.join(map(repr, self.probabilities.hierarchy.level_names))} and '' for the tree"
        )

    def confusion(self, level: int, branch: Branch = "overall") -> Ints:
        """Return how many images of each class (rows) were taken for each (columns), (K, K)."""
        data = self.probabilities
        outcomes = Outcomes.of(data.of(branch, level), data.labels[:, level])
        counts: Ints = confusion(outcomes, np.ones((1, len(data.labels))))[0].astype(np.int64)
        return counts

    def paper(self) -> list[PaperResult]:
        """Return what the paper reports for the data set; empty where it has none."""
        try:
            return paper_results(self.source.dataset)
        except UnknownNameError:
            return []

    def known(self) -> list[KnownResult]:
        """Return what is known of the data set from elsewhere."""
        return known_results(self.source.dataset)

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the probabilities as JSON types."""
        tree, division = self.probabilities.hierarchy, self.source.division
        return {
            "model": self.model,
            "weights_sha256": self.weights_sha256,
            "mdan_zoo": __version__,
            "device": self.device,
            "dtype": self.dtype,
            "dataset": self.source.dataset,
            "split": self.source.split,
            "split_sha256": self.source.split_sha256,
            "part": self.source.part,
            "images": len(self.probabilities.images),
            "images_trained_on": self.trained_on,
            "folds": {name: len(indices) for name, indices in self.source.folds},
            "folds_split": division.method if division else "",
            "folds_split_sha256": division.sha256 if division else "",
            "bootstrap": {
                "resamples": self.resamples,
                "seed": self.seed,
                "interval": LEVEL,
                "groups": self.groups,
            },
            "alpha": self.probabilities.alpha,
            "calibration_bins": CALIBRATION_BINS,
            "hierarchy": tree.to_dict(),
            "scores": [score.to_dict() for score in self.scores],
            "confusion": {
                branch: {
                    name: self.confusion(level, branch).tolist()
                    for level, name in enumerate(tree.level_names)
                }
                for branch in self.probabilities.branches
            },
            "reported_in_the_paper": [vars(result) for result in self.paper()],
            "known_from_elsewhere": [vars(result) for result in self.known()],
        }


def evaluate(
    predictor: Predictor,
    samples: Sequence[Sample],
    *,
    source: SampleSource = SampleSource(),  # noqa: B008 - frozen
    resamples: int = 1000,
    seed: int = 0,
    batch_size: int | None = None,
    files: FileIndex | None = None,
) -> Evaluation:
    """Measure a model on labelled images, in one pass over them.

    Args:
        predictor: The model, with released weights or those of a checkpoint file.
        samples: The images, with labels of the model's tree.
        source: Where they come from; its folds are measured one by one, too.
        resamples: Number of bootstrap draws, at least 100.
        seed: Seed of the draws.
        batch_size: How many images the network gets at once.
        files: Index of the images' files, for the leakage check.

    Raises:
        DatasetError: There are no images, or a label is not of the model's tree.
        ImageError: Images cannot be read; lists them.
        InputError: `resamples` is too small.
    """
    if resamples < FEWEST_RESAMPLES:
        raise InputError(
            f"a 95 % interval takes at least {FEWEST_RESAMPLES} resamples, not {resamples}"
        )
    if seed < 0:
        raise InputError(f"seed must not be negative, not {seed}")
    names = [_name(sample.image, source.folder) for sample in samples]
    probabilities = predict_probabilities(predictor, samples, names, batch_size)
    groups = [sample.group for sample in samples]
    measures = dict(_measures(probabilities, samples))
    weights_sha256 = hashlib.sha256(predictor.weights.read_bytes()).hexdigest()
    return Evaluation(
        model=predictor.name,
        weights_sha256=weights_sha256,
        device=predictor.device.type,
        dtype=predictor.dtype,
        source=source,
        trained_on=count_trained_on(
            predictor.weights, source.dataset, [sample.image for sample in samples], names, files
        ),
        groups=len(set(groups)),
        resamples=resamples,
        seed=seed,
        scores=_score(measures, groups, source, resamples, seed),
        probabilities=probabilities,
    )


def _name(image: Path, folder: Path | None) -> str:
    if folder is not None and image.is_relative_to(folder):
        return image.relative_to(folder).as_posix()
    return image.as_posix()


def _score(
    measures: dict[Key, Measure],
    groups: Sequence[str],
    source: SampleSource,
    resamples: int,
    seed: int,
) -> tuple[Score, ...]:
    """Take every measure of all images, of the resamples and of the folds."""
    everything = np.ones((1, len(groups)))
    folds = np.zeros((len(source.folds), len(groups)))
    for row, (_, indices) in zip(folds, source.folds, strict=True):
        row[list(indices)] = 1
    draws: dict[Key, list[Floats]] = {key: [] for key in measures}
    for weights in resample(groups, resamples, seed):
        for key, measure in measures.items():
            draws[key].append(measure(weights))
    return tuple(
        Score(
            *key,
            float(measure(everything)[0]),
            *interval(np.concatenate(draws[key])),
            tuple(measure(folds).tolist()) if source.folds else (),
        )
        for key, measure in measures.items()
    )


def _measures(data: Probabilities, samples: Sequence[Sample]) -> Iterator[tuple[Key, Measure]]:
    for branch in data.branches:
        levels = [
            Outcomes.of(data.of(branch, level), data.labels[:, level])
            for level in range(data.hierarchy.depth)
        ]
        for name, outcomes in zip(data.hierarchy.level_names, levels, strict=True):
            for measure, function in LEVEL_MEASURES.items():
                yield (branch, name, measure), partial(function, outcomes)
        if data.hierarchy.depth > 1:
            violated = violations(data, [outcomes.predicted for outcomes in levels])
            yield (branch, "", "violation_rate"), partial(weighted_mean, violated)
        for number, (rating, _) in enumerate(samples[0].ratings):
            rated = rated_classes(rating, data.hierarchy)
            if rated is not None:
                level, classes = rated
                found = data.of(branch, level)[:, classes].sum(axis=1).astype(np.float64)
                given = np.array([sample.ratings[number][1] for sample in samples])
                yield (branch, "", f"{rating}_r"), partial(correlation, found, given)


def violations(data: Probabilities, predicted: Sequence[Ints]) -> Floats:
    """Return 1 for images whose predicted classes, (N,) a level, are no path, else 0; (N,)."""
    violated = np.zeros(len(data.labels))
    for parents, coarse, fine in zip(
        data.hierarchy.parent_indices, predicted[:-1], predicted[1:], strict=True
    ):
        violated[np.array(parents)[fine] != coarse] = 1
    return violated


def _json_number(number: float) -> float | None:
    return None if np.isnan(number) else number
