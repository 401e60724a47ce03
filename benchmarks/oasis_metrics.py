"""Metrics of the cross-validation on OASIS: accuracies and correlations with mean ratings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mdan_zoo.datasets.sample import Sample
from mdan_zoo.evaluation.results import rated_classes
from mdan_zoo.hierarchy.tree import Hierarchy


@dataclass(frozen=True)
class Metrics:
    """Agreement on a set of images.

    Attributes:
        accuracy: Share of images whose most probable class is right, for every level.
        correlation: Pearson's r with the mean ratings, by name, where there are ratings: of the
            probability of positive with valence, and of the summed probability of excited and
            distressed with arousal.
    """

    accuracy: tuple[tuple[str, float], ...]
    correlation: tuple[tuple[str, float], ...]

    def to_dict(self) -> dict[str, float]:
        """Return every number under a name such as "polarity_accuracy" or "valence_r"."""
        return {
            **{f"{level}_accuracy": value for level, value in self.accuracy},
            **{f"{rating}_r": value for rating, value in self.correlation},
        }


def evaluate(
    probabilities: Sequence[Tensor], samples: Sequence[Sample], hierarchy: Hierarchy
) -> Metrics:
    """Compare probabilities (N, K_l), one tensor a level, with N samples."""
    accuracy = []
    for level, predicted in enumerate(probabilities):
        labels = torch.tensor([sample.labels[level] for sample in samples])
        right = (predicted.argmax(dim=1) == labels).double().mean().item()
        accuracy.append((hierarchy.level_names[level], right))
    correlation = []
    for number, (rating, _) in enumerate(samples[0].ratings):
        rated = rated_classes(rating, hierarchy)
        if rated is not None:
            level, classes = rated
            given = torch.tensor([sample.ratings[number][1] for sample in samples])
            found = probabilities[level][:, classes].sum(dim=1)
            correlation.append((rating, pearson(found, given)))
    return Metrics(tuple(accuracy), tuple(correlation))


def pearson(a: Tensor, b: Tensor) -> float:
    """Return Pearson's correlation of two vectors; NaN if one of them is constant."""
    a, b = a.double() - a.double().mean(), b.double() - b.double().mean()
    return float((a * b).sum() / (a.norm() * b.norm()))
