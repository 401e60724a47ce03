"""Evaluation results: metrics of a model on a dataset, with bootstrap intervals."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mdan_zoo._version import __version__
from mdan_zoo.datasets.file_index import FileIndex
from mdan_zoo.datasets.registry import DATASETS
from mdan_zoo.datasets.sample import Sample
from mdan_zoo.errors import InputError, UnknownNameError
from mdan_zoo.evaluation.leakage import count_trained_on
from mdan_zoo.evaluation.metrics import (
    BINARY_MEASURES,
    CALIBRATION_BINS,
    FEWEST_RESAMPLES,
    LEVEL,
    LEVEL_MEASURES,
    Floats,
    Ints,
    confusion,
    correlation,
    interval,
    resample,
    weighted_mean,
)
from mdan_zoo.evaluation.probabilities import Probabilities, predict_probabilities
from mdan_zoo.evaluation.reference import other_results, paper_results
from mdan_zoo.evaluation.source import SampleSource
from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.inference.prediction import Branch, Views

if TYPE_CHECKING:
    from mdan_zoo.inference.predictor import Predictor

_Measure: TypeAlias = Callable[[Floats], Floats]  # from weights (B, N) to values (B,)
_NamedMeasure: TypeAlias = tuple[str, _Measure]
_Measures: TypeAlias = dict[tuple[Branch, str, str], _Measure]  # by branch, level and metric

_RATED_CLASSES = {"valence": ("positive",), "arousal": ("excited", "distressed")}
"""The classes whose summed probability is correlated with each rating."""


@dataclass(frozen=True)
class Score:
    """One metric value with its interval.

    Attributes:
        level: Name of the level; "" for metrics of the whole hierarchy.
        measure: Name of the metric; see `Evaluation`.
        value: The value; NaN for a correlation with a constant.
        low, high: Ends of the 95 % bootstrap interval.
        folds: The value for each fold.
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
        """Sample standard deviation over the folds."""
        return float(np.std(self.folds, ddof=1))

    def to_dict(self) -> dict[str, Any]:
        """Return the score as JSON types, NaN as None."""
        content = {name: value for name, value in vars(self).items() if name != "folds"}
        if self.folds:
            content |= {"mean": self.mean, "sd": self.sd}
        folds = [_json_number(number) for number in self.folds]
        return {name: _json_number(value) for name, value in content.items()} | {"folds": folds}


@dataclass(frozen=True)
class Evaluation:
    """Results of a model on a dataset.

    The metrics at every labelled level and for every branch are "accuracy", "balanced_accuracy"
    (mean recall), "macro_f1", "calibration_error" (expected calibration error, 15 bins of equal
    width) and "negative_log_likelihood" (nats), and at levels of two classes "roc_auc" and
    "average_precision" of the `positive_class`. Levels are evaluated independently, as in the
    paper, each on the images that have a label at it. The
    metrics of the whole hierarchy, with level "", are "violation_rate", the fraction of images
    whose predicted classes are not a path of the hierarchy, and "valence_r" and "arousal_r",
    Pearson's correlation with mean ratings, if the dataset has ratings and the hierarchy has
    matching classes. For a model with dimensions, "predicted_valence_r" and
    "predicted_valence_mae" are the correlation and mean absolute error of the predicted ratings.

    Attributes:
        device: Device type, such as "cuda".
        views: Views of each image that predictions are averaged over.
        source: Origin of the images.
        trained_on: Number of images that were in the training data; None if unknown.
        groups: Number of groups, the units of the bootstrap.
        resamples: Number of bootstrap resamples.
        seed: Seed of the bootstrap.
        scores: All metric values.
        probabilities: The predicted probabilities.
    """

    model: str
    weights_sha256: str
    device: str
    dtype: str
    views: Views
    source: SampleSource
    trained_on: int | None
    groups: int
    resamples: int
    seed: int
    scores: tuple[Score, ...]
    probabilities: Probabilities = field(repr=False)

    def score(self, measure: str, level: str = "", branch: Branch = "overall") -> Score:
        """Return one metric value; raise `UnknownNameError` if there is none."""
        for score in self.scores:
            if (score.measure, score.level, score.branch) == (measure, level, branch):
                return score
        raise UnknownNameError(
            f"there is no {measure!r} on level {level!r} for branch {branch!r}; the levels are "
            f"{', '.join(map(repr, self.probabilities.hierarchy.level_names))} and '' for the "
            "whole hierarchy"
        )

    def confusion(self, level: int, branch: Branch = "overall") -> Ints:
        """Return the confusion matrix, (K, K): true classes in rows, predicted in columns."""
        outcomes = self.probabilities.outcomes(branch, level)
        counts: Ints = confusion(outcomes, np.ones((1, len(outcomes.labels))))[0].astype(np.int64)
        return counts

    def to_dict(self) -> dict[str, Any]:
        """Return everything except the probabilities as JSON types."""
        tree, source = self.probabilities.hierarchy, self.source
        division = source.division
        return {
            "model": self.model,
            "weights_sha256": self.weights_sha256,
            "mdan_zoo": __version__,
            "device": self.device,
            "dtype": self.dtype,
            "views": self.views,
            "dataset": source.dataset,
            "split": source.split,
            "split_sha256": source.split_sha256,
            "part": source.part,
            "images": len(self.probabilities.images),
            "images_trained_on": self.trained_on,
            "levels_compared": list(self.probabilities.labelled_levels),
            "positive_classes": {
                name: names[positive_class(names)]
                for name, names in zip(
                    self.probabilities.labelled_levels, tree.levels, strict=False
                )
                if len(names) == 2
            },
            "classes_of_the_dataset": {name: ours or None for name, ours in source.classes},
            "images_left_out": dict(source.left_out),
            "folds": {name: len(indices) for name, indices in source.folds},
            "folds_split": division.method if division else "",
            "folds_split_sha256": division.sha256 if division else "",
            "bootstrap": {
                "resamples": self.resamples,
                "seed": self.seed,
                "interval": LEVEL,
                "groups": self.groups,
            },
            "alpha": self.probabilities.alpha or 0.0,
            "calibration_bins": CALIBRATION_BINS,
            "hierarchy": tree.to_dict(),
            "scores": [score.to_dict() for score in self.scores],
            "confusion": {
                branch: {
                    name: self.confusion(level, branch).tolist()
                    for level, name in enumerate(self.probabilities.labelled_levels)
                }
                for branch in self.probabilities.branches
            },
            "reported_in_the_paper": [r.to_dict() for r in paper_results(source.dataset)],
            "reported_elsewhere": [r.to_dict() for r in other_results(source.dataset)],
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
    """Evaluate a model on labelled images.

    Args:
        predictor: The model.
        samples: The images, with labels from the hierarchy of the model, of all levels or of the
            coarser ones only.
        source: Origin of the images; results are also reported for each of its folds.
        resamples: Number of bootstrap resamples, at least 100.
        seed: Seed of the bootstrap.
        batch_size: Batch size of the network.
        files: Index of the image files, for the leakage check.

    Raises:
        DatasetError: No images, or a label is not in the hierarchy of the model.
        ImageError: Lists the images that cannot be read.
        InputError: `resamples` is too small.
    """
    if resamples < FEWEST_RESAMPLES:
        raise InputError(
            f"resamples must be at least {FEWEST_RESAMPLES} for a 95 % interval, got {resamples}"
        )
    if seed < 0:
        raise InputError(f"seed must be at least 0, got {seed}")
    images = [sample.image for sample in samples]
    base = source.folder
    names = [
        (path.relative_to(base) if base and path.is_relative_to(base) else path).as_posix()
        for path in images
    ]
    probabilities = predict_probabilities(predictor, samples, names, batch_size)
    groups = [sample.group for sample in samples]
    scale = DATASETS[source.dataset].rating_scale if source.dataset in DATASETS else None
    same = scale is None or source.dataset == predictor.config.dataset
    scaled = {d.name for d in predictor.network.dimensions if same or (d.low, d.high) == scale}
    return Evaluation(
        model=predictor.name,
        weights_sha256=hashlib.sha256(predictor.weights.read_bytes()).hexdigest(),
        device=predictor.device.type,
        dtype=predictor.dtype,
        views=predictor.views,
        source=source,
        trained_on=count_trained_on(predictor.weights, source.dataset, images, names, files),
        groups=len(set(groups)),
        resamples=resamples,
        seed=seed,
        scores=tuple(_scores(probabilities, samples, source, resamples, seed, scaled)),
        probabilities=probabilities,
    )


def _scores(
    data: Probabilities,
    samples: Sequence[Sample],
    source: SampleSource,
    resamples: int,
    seed: int,
    scaled: Set[str],
) -> Iterator[Score]:
    """Yield every metric on all images, on the resamples and on the folds."""
    measures = _measures(data, samples, scaled)
    folds = np.zeros((len(source.folds), len(samples)))
    for row, (_, indices) in zip(folds, source.folds, strict=True):
        row[list(indices)] = 1
    draws: dict[tuple[Branch, str, str], list[Floats]] = {key: [] for key in measures}
    for weights in resample([sample.group for sample in samples], resamples, seed):
        for key, measure in measures.items():
            draws[key].append(measure(weights))
    for key, measure in measures.items():
        value = float(measure(np.ones((1, len(samples))))[0])
        by_fold = measure(folds).tolist() if source.folds else ()
        yield Score(*key, value, *interval(np.concatenate(draws[key])), tuple(by_fold))


def _measures(data: Probabilities, samples: Sequence[Sample], scaled: Set[str]) -> _Measures:
    """Return all metrics; absolute errors only of the dimensions on the scale of the ratings."""
    tree = data.hierarchy
    measures: _Measures = {}
    for branch in data.branches:
        for level, name in enumerate(data.labelled_levels):
            for measure, function in _level_measures(data, branch, level):
                measures[branch, name, measure] = _on(data.labelled(level), function)
        if tree.depth > 1:
            predicted = [data.of(branch, level).argmax(axis=1) for level in range(tree.depth)]
            violated = violations(data, predicted)
            measures[branch, "", "violation_rate"] = partial(weighted_mean, violated)
        for number, (rating, _) in enumerate(samples[0].ratings):
            rated = rated_classes(rating, tree)
            if rated is not None:
                level, classes = rated
                found = data.of(branch, level)[:, classes].sum(axis=1).astype(np.float64)
                given = np.array([sample.ratings[number][1] for sample in samples])
                measures[branch, "", f"{rating}_r"] = partial(correlation, found, given)
    for number, (rating, _) in enumerate(samples[0].ratings):
        if rating in data.dimensions:
            found = data.dimensions[rating].astype(np.float64)
            given = np.array([sample.ratings[number][1] for sample in samples])
            errors = partial(weighted_mean, np.abs(found - given))
            measures["overall", "", f"predicted_{rating}_r"] = partial(correlation, found, given)
            if rating in scaled:
                measures["overall", "", f"predicted_{rating}_mae"] = errors
    return measures


def _level_measures(data: Probabilities, branch: Branch, level: int) -> Iterator[_NamedMeasure]:
    """Yield the metrics of a branch on the images with a label at a level."""
    outcomes = data.outcomes(branch, level)
    for name, function in LEVEL_MEASURES.items():
        yield name, partial(function, outcomes)
    if outcomes.classes == 2:
        k = positive_class(data.hierarchy.levels[level])
        found = data.of(branch, level)[data.labelled(level), k].astype(np.float64)
        given = (outcomes.labels == k).astype(np.float64)
        for name, binary in BINARY_MEASURES.items():
            yield name, partial(binary, found, given)


def _on(rows: slice | npt.NDArray[np.bool_], measure: _Measure) -> _Measure:
    """Return a metric of some of the images as a function of the weights of all, (B, N)."""

    def measure_rows(weights: Floats) -> Floats:
        with np.errstate(invalid="ignore"):  # NaN where none of the images count
            return measure(weights[:, rows])

    return measure_rows


def positive_class(names: Sequence[str]) -> int:
    """Return the id of the class "positive", or of the first class if there is none."""
    return names.index("positive") if "positive" in names else 0


def rated_classes(rating: str, hierarchy: Hierarchy) -> tuple[int, list[int]] | None:
    """Return the level and class ids to compare with a rating; None if there are none."""
    classes = _RATED_CLASSES.get(rating)
    for level, names in enumerate(hierarchy.levels):
        if classes and set(classes) <= set(names):
            return level, [names.index(name) for name in classes]
    return None


def violations(data: Probabilities, predicted: Sequence[Ints]) -> Floats:
    """Return 1 for images whose predicted classes, (N,) per level, are not a path, else 0; (N,)."""
    violated = np.zeros(len(data.labels))
    for parents, coarse, fine in zip(
        data.hierarchy.parent_indices, predicted[:-1], predicted[1:], strict=True
    ):
        violated[np.array(parents)[fine] != coarse] = 1
    return violated


def _json_number(value: Any) -> Any:
    return None if isinstance(value, float) and np.isnan(value) else value
