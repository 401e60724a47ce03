"""Loss functions: Eq. 3 of the paper, also for single branches, and the training step."""

from __future__ import annotations

import dataclasses
import functools
import logging
import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mdan_zoo.backbones.pyramid import stages_after
from mdan_zoo.datasets.sample import Sample
from mdan_zoo.errors import InputError
from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.images.preprocessing import Preprocessing
from mdan_zoo.models.base import EmotionModel
from mdan_zoo.models.dimensions import Dimension
from mdan_zoo.models.layers import cross_entropy
from mdan_zoo.training.recipe import LOSS_WEIGHTS, Recipe

_LOGGER = logging.getLogger("mdan_zoo.training")


def level_targets(
    given: Tensor, hierarchy: Hierarchy, level: int | None = None
) -> tuple[Tensor, ...]:
    """Sum distributions over the classes of a level, (N, K), to those of every level, (N, K_l).

    The level is by default the finest one. At the levels below it the result is 0.
    """
    finest = hierarchy.depth - 1 if level is None else level
    targets = [given.new_zeros(len(given), size) for size in hierarchy.sizes]
    for coarser in range(finest + 1):
        parents = torch.tensor([path[coarser] for path in hierarchy.paths(finest)])
        membership = torch.nn.functional.one_hot(parents, hierarchy.sizes[coarser])
        targets[coarser] = given @ membership.to(given.dtype)
    return tuple(targets)


def sample_targets(
    samples: Sequence[Sample], hierarchy: Hierarchy, recipe: Recipe
) -> tuple[Tensor, ...]:
    """Return the target distributions of every level, (N, K_l).

    They are 0 at levels finer than the labels of an image.
    """
    if not recipe.label_std_scale:
        divided = sum(max(sample.distribution) < 1 for sample in samples)
        if divided:
            _LOGGER.warning(
                f"{divided:,} of the {len(samples):,} images have votes for several classes; only "
                "the class with the most votes is used. --set label_std_scale=1 trains on all votes"
            )
    targets = tuple(torch.zeros(len(samples), size) for size in hierarchy.sizes)
    for level, size in enumerate(hierarchy.sizes):
        rows = [n for n, sample in enumerate(samples) if len(sample.labels) == level + 1]
        if not rows:
            continue
        classes = torch.tensor([samples[row].labels[-1] for row in rows])
        given = torch.nn.functional.one_hot(classes, size).float()
        if recipe.label_std_scale:
            given = torch.tensor([samples[row].distribution for row in rows])
        if recipe.label_smoothing:
            smoothed = torch.lerp(given, torch.full_like(given, 1 / size), recipe.label_smoothing)
            given = torch.where(given.amax(dim=1, keepdim=True) == 1, smoothed, given)
        for target, found in zip(targets, level_targets(given, hierarchy, level), strict=True):
            target[rows] = found
    return targets


def image_weights(targets: Sequence[Tensor], balance: bool = False) -> Tensor | None:
    """Return the weights of images in `cross_entropy`, (N,); None if all are 1.

    The loss of an image is the mean over the levels of its label. `balance` multiplies the weights
    by `balancing_weights`.
    """
    labelled = torch.stack([level.sum(dim=1) > 0 for level in targets]).sum(dim=0)
    weights = len(targets) / labelled if (labelled < len(targets)).any() else None
    if balance:
        balanced = balancing_weights(targets[-1])
        weights = balanced if weights is None else weights * balanced
    return weights


def with_loss_weights(recipe: Recipe, network: EmotionModel | type[EmotionModel]) -> Recipe:
    """Return the recipe with the architecture's loss weights in place of None."""
    weights: dict[str, Any] = {
        field: network.loss_weights.get(field.removesuffix("_weight"), 0.0)
        for field in LOSS_WEIGHTS
        if getattr(recipe, field) is None
    }
    return dataclasses.replace(recipe, **weights)


def branch_weights(network: EmotionModel | type[EmotionModel], recipe: Recipe) -> dict[str, float]:
    """Return the weights of the losses on a network's branches, zeros included."""
    weights = {**dict.fromkeys(("overall", *network.branches), 0.0), **network.loss_weights}
    resolved = with_loss_weights(recipe, network)
    return {name: getattr(resolved, f"{name}_weight", value) for name, value in weights.items()}


def check_losses(recipe: Recipe, network: EmotionModel | type[EmotionModel], name: str) -> None:
    """Raise `InputError` if a recipe gives no weight to any branch of the network of a model."""
    weights = branch_weights(network, recipe)
    if not any(weights.values()):
        missing = [f for f in LOSS_WEIGHTS if f.removesuffix("_weight") not in weights]
        without = " or ".join(field.removesuffix("_weight") for field in missing)
        raise InputError(
            (f"{name} has no {without} branch, so " if missing else "")
            + " and ".join(f"{branch}_weight" for branch in weights)
            + f" must not {'both' if len(weights) == 2 else 'all'} be 0"
        )


class TrainingStep(nn.Module):
    """Normalisation, network and loss in one module, to be distributed and compiled."""

    def __init__(
        self,
        network: EmotionModel,
        preprocessing: Preprocessing,
        recipe: Recipe,
        rating_std: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.dimension_weight = recipe.dimension_weight
        self.rating_std: Tensor | None
        self.register_buffer("rating_std", rating_std, persistent=False)
        self.network = network
        self.preprocessing = preprocessing
        self.branch_weights = branch_weights(network, recipe)
        self.trained_stages = [
            (stage, stages_after(network.backbone, stage, stage + 1))
            for stage in range(recipe.frozen_stages, 4 if recipe.cached_views else 0)
        ]

    def forward(
        self,
        inputs: Tensor | list[Tensor],
        targets: list[Tensor],
        weights: Tensor | None,
        ratings: Tensor | None = None,
    ) -> Tensor:
        """Return the weighted sum of the losses on branches and dimensions, plus the auxiliary one.

        The inputs are images, uint8 (B, 3, S, S), or cached maps C2..C5. `weights` of the images,
        (B,), do not apply to the loss on the dimensions, whose targets are `ratings`, (B, D).
        """
        if isinstance(inputs, Tensor):
            output = self.network(self.preprocessing.normalise(inputs))
        else:
            maps = [stage.float() for stage in inputs]
            for stage, layers in self.trained_stages:
                maps[stage] = layers(maps[stage - 1])
            output = self.network.predict_pyramid(maps)
        # Branches of weight 0 are included: on several GPUs all parameters need gradients.
        terms = [
            weight * cross_entropy(output.log_probs[branch], targets, weights)
            for branch, weight in self.branch_weights.items()
        ]
        weighted = targets if weights is None else [weights[:, None] * level for level in targets]
        auxiliary = self.network.auxiliary_loss(output, weighted)
        if auxiliary is not None:
            terms.append(auxiliary)
        if ratings is not None and self.rating_std is not None and self.network.dimensions:
            predicted = torch.stack(list(output.dimensions.values()), dim=1)
            errors = squared_errors(predicted, ratings, self.rating_std)
            terms.append(self.dimension_weight * errors)
        return functools.reduce(operator.add, terms)


def squared_errors(predicted: Tensor, ratings: Tensor, std: Tensor) -> Tensor:
    """Return the mean squared error of dimensions (B, D) in units of their standard deviation (D,).

    Ratings that are NaN are missing; the result is 0 if all are.
    """
    known = ~ratings.isnan()
    errors = (predicted - torch.where(known, ratings, 0)) / std
    return (errors.square() * known).sum() / known.sum().clamp(min=1)


def rating_targets(samples: Sequence[Sample], dimensions: Sequence[Dimension]) -> Tensor:
    """Return the ratings of the samples for every dimension, (N, D); NaN if it is missing.

    Raises:
        InputError: No sample has a rating for a dimension, or a rating is not on its scale.
    """
    ratings = [dict(sample.ratings) for sample in samples]
    for scale in dimensions:
        values = [row[scale.name] for row in ratings if scale.name in row]
        if not values:
            raise InputError(f"no image of the dataset has a rating of {scale.name}")
        if min(values) < scale.low or max(values) > scale.high:
            raise InputError(
                f"the ratings of {scale.name} lie in {min(values):g}..{max(values):g}, not on the "
                f"scale {scale}; give the whole scale with --dimension {scale.name}=LOW:HIGH"
            )
    rows = [[row.get(scale.name, torch.nan) for scale in dimensions] for row in ratings]
    return torch.tensor(rows).reshape(len(samples), len(dimensions))


def balancing_weights(leaves: Tensor) -> Tensor:
    """Return weights of images with distributions (N, K_n) over the leaves, (N,), with mean 1.

    They are inversely proportional to the class frequencies, and 1 for images without a leaf.
    """
    frequencies = leaves.sum(dim=0)
    weights = leaves @ torch.where(frequencies > 0, 1 / frequencies, 0)
    labelled = weights > 0
    return torch.where(labelled, weights / weights[labelled].mean(), 1)
