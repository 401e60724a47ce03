"""What a network says of one image, and how a path is read from it. No torch.

MDAN gives every level of the tree its own probabilities, and levels can contradict each other:
"negative" may be the most likely polarity while "serene", which is positive, is the most likely
emotion. There are two ways to read them:

consistent: the path from root to leaf whose probabilities have the highest product. It always is a
    path of the tree. Of equal paths the first leaf's is taken.
independent: the most likely class of every level by itself, as the paper evaluates its levels. The
    result need not be a path of the tree.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from mdan_zoo.errors import InputError
from mdan_zoo.hierarchy.tree import Hierarchy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Branch: TypeAlias = str
"""Whose probabilities are read. "overall" is what a network predicts. MDAN combines it of "local",
P_L, and "global", P_G: P_O = alpha P_L + (1 - alpha) P_G."""

Decode = Literal["consistent", "independent"]
"""How a class is picked on every level; see the head of this module."""

Levels: TypeAlias = tuple[tuple[float, ...], ...]
"""Probabilities of every class, in the order of class ids, for every level, coarse to fine."""

BRANCHES: tuple[Branch, ...] = ("overall", "local", "global")
DECODES: tuple[Decode, ...] = get_args(Decode)


@dataclass(frozen=True)
class LevelPrediction:
    """One level of a prediction.

    Attributes:
        name: The level's name, such as "polarity".
        label: The class that was picked.
        score: The probability of that class at this level.
        scores: The probability of every class of the level, in the order of class ids.
    """

    name: str
    label: str
    score: float
    scores: Mapping[str, float]


@dataclass(frozen=True, repr=False)
class Prediction:
    """Which emotion an image evokes, on every level of an emotion tree.

    It holds the probabilities of every branch; `path` and `levels` are read from those of `branch`.

    Args:
        image: The image's name.
        model: Name of the model.
        hierarchy: The emotion tree.
        probabilities: Those of every branch that the network has; empty for a failed image.
        branch: The branch that is read.
        decode: How the path is read.
        error: Why the image could not be predicted, or None.

    Raises:
        InputError: The branch or the way to decode does not exist, or the probabilities do not
            fit the tree.
    """

    image: str
    model: str
    hierarchy: Hierarchy
    probabilities: Mapping[Branch, Levels]
    branch: Branch = "overall"
    decode: Decode = "consistent"
    error: str | None = None

    def __post_init__(self) -> None:
        branches = self.probabilities if self.error is None else {*BRANCHES, self.branch}
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
        """Return "positive 0.91 > serene 0.74", or "error: " and the reason."""
        if self.error is not None:
            return f"error: {self.error}"
        return " > ".join(f"{level.label} {level.score:.2f}" for level in self.levels)

    @property
    def path(self) -> tuple[str, ...]:
        """The classes that were picked, root to leaf; empty for a failed image.

        Decoded independently, they need not be a path of the tree.
        """
        return tuple(level.label for level in self.levels)

    @cached_property
    def levels(self) -> tuple[LevelPrediction, ...]:
        """The levels, coarse to fine; empty for a failed image."""
        if self.error is not None:
            return ()
        probabilities = self.probabilities[self.branch]
        picked = pick_classes(self.hierarchy, probabilities, self.decode)
        tree = self.hierarchy
        return tuple(
            LevelPrediction(name, names[k], scores[k], dict(zip(names, scores, strict=True)))
            for name, names, scores, k in zip(
                tree.level_names, tree.levels, probabilities, picked, strict=True
            )
        )

    def of(self, branch: Branch) -> Prediction:
        """Return the same prediction read from another branch.

        Raises:
            InputError: The network has no such branch; a flat one has no local branch.
        """
        return dataclasses.replace(self, branch=branch)

    def plot(self, path: str | os.PathLike[str] | None = None) -> Figure:
        """Draw the emotion tree with the probability of every class.

        Args:
            path: Also write the figure to this file, whole or not at all; its suffix says how.

        Raises:
            InputError: The image could not be predicted, or no file can be written at `path`.
            MdanZooError: matplotlib is not installed.
        """
        from mdan_zoo.plots.figures import draw_prediction, finish

        return finish(draw_prediction(self), path)

    def to_dict(self) -> dict[str, Any]:
        """Return image, model, path, levels and error as JSON types, in this order.

        The levels are those of `branch`; `prediction.of("local").to_dict()` gives another's.
        """
        return {
            "image": self.image,
            "model": self.model,
            "path": list(self.path),
            "levels": [
                {
                    "name": level.name,
                    "label": level.label,
                    "score": level.score,
                    "scores": dict(level.scores),
                }
                for level in self.levels
            ],
            "error": self.error,
        }


def check_reading(
    model: str, branch: str, decode: str, branches: Collection[str] = BRANCHES
) -> None:
    """Raise `InputError` unless `branch` is one of the model's and `decode` is known."""
    if branch not in {*BRANCHES, *branches}:
        raise InputError(f"branch must be one of {_listed(BRANCHES)}, not {branch!r}")
    if branch not in branches:
        raise InputError(f"{model} has no {branch} branch; it has {_listed(branches)}")
    if decode not in DECODES:
        raise InputError(f"decode must be one of {_listed(DECODES)}, not {decode!r}")


def pick_classes(
    hierarchy: Hierarchy, levels: Sequence[Sequence[float]], decode: Decode
) -> tuple[int, ...]:
    """Return the class ids, coarse to fine, that probabilities stand for.

    Args:
        hierarchy: The emotion tree.
        levels: Probabilities of every class, for every level, coarse to fine.
        decode: "consistent" or "independent"; see the head of this module.
    """
    if decode == "independent":
        return tuple(max(range(len(level)), key=level.__getitem__) for level in levels)
    logs = [[math.log(p) if p > 0 else -math.inf for p in level] for level in levels]

    def log_product(path: tuple[int, ...]) -> float:
        # fsum rounds once, so that paths with equal factors tie whatever their order.
        return math.fsum(level[k] for level, k in zip(logs, path, strict=True))

    return max(hierarchy.leaf_paths, key=log_product)


def _listed(names: Collection[str]) -> str:
    return ", ".join(repr(name) for name in names)
