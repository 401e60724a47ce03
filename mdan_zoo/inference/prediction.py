"""Predictions: probabilities of every level, and the path of emotions read from them.

MDAN predicts every level of the hierarchy separately, so levels can contradict each other:
"negative" may be the most likely polarity while "serene", which is positive, is the most likely
emotion. There are two ways to decode a path:

consistent: the path from root to leaf with the highest product of probabilities; of several, the
    path of the first leaf.
independent: the most likely class of each level, as levels are evaluated in the paper. The result
    need not be a path of the hierarchy.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias, get_args

from mdan_zoo.errors import InputError
from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.models.dimensions import Dimension

Branch: TypeAlias = str
"""Classifier branch. "overall" is the prediction of the network, which MDAN combines from "local"
and "global": P_O = alpha P_L + (1 - alpha) P_G. Other networks may have other branches."""

Decode = Literal["consistent", "independent"]
"""How the class of each level is picked; see the module docstring."""

Levels: TypeAlias = tuple[tuple[float, ...], ...]
"""Probabilities of all classes, in the order of class ids, of every level, coarse to fine."""

DECODES: tuple[Decode, ...] = get_args(Decode)

Views = Literal["single", "flip", "crops", "flip+crops"]
"""Views of an image that a prediction is averaged over; see `mdan_zoo.inference.views`."""

VIEWS: dict[Views, int] = {"single": 1, "flip": 2, "crops": 10, "flip+crops": 20}
"""Number of views by their name; the network runs once for each."""


@dataclass(frozen=True)
class LevelPrediction:
    """One level of a prediction.

    Attributes:
        name: Name of the level, such as "polarity".
        label: The predicted class.
        score: The probability of that class at this level.
        scores: The probability of every class of the level, in the order of class ids.
    """

    name: str
    label: str
    score: float
    scores: Mapping[str, float]


@dataclass(frozen=True)
class DimensionPrediction:
    """A continuous rating of a prediction.

    Attributes:
        name: Name of the dimension, such as "valence".
        value: The predicted mean rating. It can leave the scale slightly.
        low: Lower end of the rating scale.
        high: Upper end of the rating scale.
    """

    name: str
    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """Return a text such as "valence 5.24 (1 to 7)"."""
        return f"{self.name} {self.value:.2f} ({self.low:g} to {self.high:g})"


def dimension_predictions(
    scales: Sequence[Dimension], values: Sequence[float] | None = None
) -> tuple[DimensionPrediction, ...]:
    """Return predicted ratings on their scales; by default the NaN of a failed image."""
    found = [math.nan] * len(scales) if values is None else values
    return tuple(
        DimensionPrediction(scale.name, value, scale.low, scale.high)
        for scale, value in zip(scales, found, strict=True)
    )


@dataclass(frozen=True, repr=False)
class Prediction:
    """Emotions that an image evokes, at every level of a hierarchy.

    Args:
        image: Its path, unchanged, with undecodable bytes as of `os.fsdecode`; a URL without its
            secrets; or a short name, such as "PIL image (RGB, 640x480)".
        model: Name of the model.
        probabilities: Probabilities of every branch of the network; empty for a failed image.
        branch: The branch that `path` and `levels` are read from.
        decode: How the path is decoded.
        error: Why the image could not be predicted, or None.
        dimensions: Continuous ratings, if the model predicts any; NaN for a failed image.

    Raises:
        InputError: The branch or decoding does not exist, or the probabilities do not fit the
            hierarchy.
    """

    image: str
    model: str
    hierarchy: Hierarchy
    probabilities: Mapping[Branch, Levels]
    branch: Branch = "overall"
    decode: Decode = "consistent"
    error: str | None = None
    dimensions: tuple[DimensionPrediction, ...] = ()

    def __post_init__(self) -> None:
        branches = self.probabilities if self.error is None else (self.branch,)
        check_reading(self.model, self.branch, self.decode, branches)
        for branch, levels in self.probabilities.items():
            sizes = tuple(len(level) for level in levels)
            if sizes != self.hierarchy.sizes:
                raise InputError(
                    f"{branch} probabilities have {sizes} classes a level, {self.hierarchy!r} has "
                    f"{self.hierarchy.sizes}"
                )

    def __repr__(self) -> str:
        return f"Prediction({self})"

    def __str__(self) -> str:
        """Return a text such as "positive 0.91 > serene 0.74", or "error: " and the reason.

        Dimensions follow: "positive 0.91 > serene 0.74, valence 5.24 (1 to 7)".
        """
        if self.error is not None:
            return f"error: {self.error}"
        path = " > ".join(f"{level.label} {level.score:.2f}" for level in self.levels)
        return ", ".join([path, *map(str, self.dimensions)])

    @property
    def path(self) -> tuple[str, ...]:
        """The predicted classes, coarse to fine; empty for a failed image.

        With independent decoding they need not be a path of the hierarchy.
        """
        return tuple(level.label for level in self.levels)

    @cached_property
    def levels(self) -> tuple[LevelPrediction, ...]:
        """The levels, coarse to fine; empty for a failed image."""
        if self.error is not None:
            return ()
        hierarchy, probabilities = self.hierarchy, self.probabilities[self.branch]
        picked = pick_classes(hierarchy, probabilities, self.decode)
        rows = zip(hierarchy.level_names, hierarchy.levels, probabilities, picked, strict=True)
        return tuple(
            LevelPrediction(name, names[k], scores[k], dict(zip(names, scores, strict=True)))
            for name, names, scores, k in rows
        )

    def of(self, branch: Branch) -> Prediction:
        """Return this prediction as read from another branch, such as "local" of MDAN.

        `InputError` if the network does not have the branch.
        """
        return dataclasses.replace(self, branch=branch)

    def to_dict(self) -> dict[str, Any]:
        """Return image, model, path, levels and error as JSON types, in this order.

        A prediction with dimensions also has "dimensions", before "error". Use
        `prediction.of("local").to_dict()` for another branch.
        """
        values: dict[str, Any] = {
            "image": self.image,
            "model": self.model,
            "path": list(self.path),
            "levels": [dataclasses.asdict(level) for level in self.levels],
        }
        if self.dimensions:
            known = () if self.error is not None else self.dimensions
            values["dimensions"] = [dataclasses.asdict(rating) for rating in known]
        return {**values, "error": self.error}


def check_reading(model: str, branch: str, decode: str, branches: Collection[str]) -> None:
    """Raise `InputError` unless the branch is one of the model's and the decoding exists."""
    if branch not in branches:
        known = ", ".join(map(repr, branches))
        raise InputError(f"{model} has no {branch} branch; it has {known}")
    if decode not in DECODES:
        known = ", ".join(map(repr, DECODES))
        raise InputError(f"decode must be one of {known}, not {decode!r}")


def check_views(views: str) -> None:
    """Raise `InputError` unless the views exist."""
    if not isinstance(views, str) or views not in VIEWS:
        raise InputError(f"views must be one of {', '.join(map(repr, VIEWS))}, not {views!r}")


def pick_classes(
    hierarchy: Hierarchy, levels: Sequence[Sequence[float]], decode: Decode
) -> tuple[int, ...]:
    """Decode the probabilities of all classes of every level to class ids, coarse to fine."""
    if decode == "independent":
        return tuple(max(range(len(level)), key=level.__getitem__) for level in levels)
    logs = [[math.log(p) if p > 0 else -math.inf for p in level] for level in levels]

    def log_product(path: tuple[int, ...]) -> float:
        # fsum rounds once, so paths with equal factors tie in any order.
        return math.fsum(level[k] for level, k in zip(logs, path, strict=True))

    return max(hierarchy.leaf_paths, key=log_product)
