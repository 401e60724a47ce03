"""Distillation: labels mixed with the predictions of teachers.

Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network, 2015.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import math
import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mdan_zoo.datasets.files import read_cells, read_number
from mdan_zoo.datasets.sample import Sample
from mdan_zoo.errors import DatasetError
from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.models.dimensions import Dimension

Floats = npt.NDArray[np.float64]

_SUM_TOLERANCE = 0.01  # of rounded probabilities
_LOGGER = logging.getLogger("mdan_zoo.training")


@dataclass(frozen=True)
class Predictions:
    """The predictions of a model by the absolute path of the image.

    Attributes:
        path: The table.
        shares: Probabilities of every level; None for a model with other classes.
        ratings: Predicted ratings by dimension.
    """

    path: Path
    shares: Mapping[str, Sequence[Floats]] | None
    ratings: Mapping[str, Mapping[str, float]]


def mix_teacher_predictions(
    samples: Sequence[Sample],
    files: Sequence[Path],
    hierarchy: Hierarchy,
    weight: float,
    dimensions: Sequence[Dimension] = (),
) -> list[Sample]:
    """Return the samples with labels and ratings mixed with the mean prediction of the teachers.

    Args:
        samples: The labelled images.
        files: Tables written by `mdan-zoo predict --format csv`, one for each teacher. Relative
            names in them are relative to the current folder. A teacher with other classes than
            those of the hierarchy contributes its predictions of the dimensions only.
        hierarchy: The hierarchy of the labels and predictions.
        weight: Weight of the predictions; that of the labels and ratings is 1 - weight.
        dimensions: Dimensions of the student. Images without a rating get that of the teachers,
            limited to the scale of the dimension.

    Returns:
        Samples whose distribution is the mixture, at the finest level of their label. Those that
        are not in the tables are unchanged.

    Raises:
        DatasetError: A table is not as expected, lists other images than the first one, or none of
            the images; probabilities do not sum to 1 at a level, or differ for the same image.
    """
    teachers = [read_predictions(path, hierarchy, dimensions) for path in files]
    for teacher in teachers[1:]:
        if teacher.ratings.keys() != teachers[0].ratings.keys():
            raise DatasetError(
                f"{teacher.path} has predictions for {len(teacher.ratings):,} images that are not "
                f"the {len(teachers[0].ratings):,} images of {files[0]}"
            )
    mixed = []
    count = 0
    for sample in samples:
        name = os.path.abspath(sample.image)
        if teachers and name in teachers[0].ratings:
            sample = _mix(sample, name, teachers, weight, dimensions)
            count += 1
        mixed.append(sample)
    if files and not count:
        example = next(iter(teachers[0].ratings))
        raise DatasetError(
            f"none of the {len(samples):,} images is in {files[0]}, which lists {example}"
        )
    _LOGGER.info(f"teacher predictions for {count:,} of {len(samples):,} images")
    return mixed


def _mix(
    sample: Sample,
    name: str,
    teachers: Sequence[Predictions],
    weight: float,
    dimensions: Sequence[Dimension],
) -> Sample:
    level = len(sample.labels) - 1
    distribution = sample.distribution
    if predicted := [t.shares[name][level] for t in teachers if t.shares is not None]:
        shares = (1 - weight) * np.array(distribution) + weight * np.mean(predicted, axis=0)
        distribution = tuple(shares.tolist())
    ratings = dict(sample.ratings)
    for scale in dimensions:
        values = [t.ratings[name][scale.name] for t in teachers if scale.name in t.ratings[name]]
        if values:
            value = min(max(statistics.fmean(values), scale.low), scale.high)
            ratings[scale.name] = (1 - weight) * ratings.get(scale.name, value) + weight * value
    return dataclasses.replace(sample, distribution=distribution, ratings=tuple(ratings.items()))


def read_predictions(
    path: Path, hierarchy: Hierarchy, dimensions: Sequence[Dimension] = ()
) -> Predictions:
    """Read a table of predictions that `mdan-zoo predict --format csv` wrote.

    Its shares are not None unless dimensions are given. Rows of unreadable images are skipped.
    """
    header, rows = read_cells(path)
    wanted = [
        [f"{name}:{label}" for label in labels]
        for name, labels in zip(hierarchy.level_names, hierarchy.levels, strict=True)
    ]
    needed = ["image", *itertools.chain(*wanted)]
    missing = [name for name in needed if name not in header]
    scales = [(scale, header.index(scale.name)) for scale in dimensions if scale.name in header]
    if "image" in missing or (missing and not scales):
        names = " and ".join(scale.name for scale in dimensions)
        alternative = f", or of one that predicts {names}" if names else ""
        raise DatasetError(
            f"{path} has no column {missing[0]!r}; it must have the predictions of "
            f"a model with the hierarchy {hierarchy.name}{alternative}, as written by mdan-zoo "
            "predict --format csv"
        )
    columns = [] if missing else [[header.index(name) for name in level] for level in wanted]
    image, error = header.index("image"), header.index("error") if "error" in header else None
    found: dict[str, tuple[list[Floats], dict[str, float]]] = {}
    for row in rows:
        if error is not None and row[error]:
            continue
        about = f"{path}: {row[image]}: "
        shares = [
            np.array([read_number(row[c], about + header[c], 0, 1) for c in level])
            for level in columns
        ]
        for name, level in zip(hierarchy.level_names, shares, strict=False):
            if not math.isclose(level.sum(), 1, abs_tol=_SUM_TOLERANCE):
                raise DatasetError(
                    f"{about}the probabilities of level {name} must sum to 1, not {level.sum():.4g}"
                )
        ratings = {
            scale.name: read_number(row[column], f"{about}{scale.name}") for scale, column in scales
        }
        known = found.setdefault(os.path.abspath(row[image]), (shares, ratings))
        if not all(map(np.array_equal, known[0], shares)) or known[1] != ratings:
            raise DatasetError(
                f"{about}it has two rows with different predictions; pass the table of every "
                "teacher with its own --teacher-predictions"
            )
    if not found:
        raise DatasetError(f"{path} has no predictions")
    by_image = {name: ratings for name, (_, ratings) in found.items()}
    _check_scales(path, by_image, [scale for scale, _ in scales])
    shares_by_image = {name: shares for name, (shares, _) in found.items()}
    return Predictions(path, None if missing else shares_by_image, by_image)


def _check_scales(
    path: Path, ratings: Mapping[str, Mapping[str, float]], dimensions: Sequence[Dimension]
) -> None:
    """Raise `DatasetError` unless the mean ratings are on their scales."""
    for scale in dimensions:
        mean = statistics.fmean(row[scale.name] for row in ratings.values())
        if not scale.low <= mean <= scale.high:
            raise DatasetError(
                f"{path}: the mean of {scale.name} is {mean:.4g}, which is not on the scale {scale}"
            )
