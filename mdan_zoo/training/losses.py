"""Loss functions: Eq. 3 of the paper, and the same loss on single branches."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence

import torch
from torch import Tensor

from mdan_zoo.errors import InputError
from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.models.base import EmotionModel, EmotionOutput
from mdan_zoo.models.config import ModelConfig
from mdan_zoo.models.registry import get_architecture
from mdan_zoo.training.recipe import Recipe


def level_targets(leaves: Tensor, hierarchy: Hierarchy) -> tuple[Tensor, ...]:
    """Sum distributions over the leaves (N, K_n) up the hierarchy, to (N, K_l) coarse to fine."""
    return tuple(
        leaves @ torch.tensor(hierarchy.membership(level), dtype=leaves.dtype).T
        for level in range(hierarchy.depth)
    )


def cross_entropy(
    log_probabilities: Sequence[Tensor],
    targets: Sequence[Tensor],
    weights: Tensor | None = None,
) -> Tensor:
    """Return the mean over levels and images of -sum_k Y_k log P_k (Eq. 3).

    The paper writes P where its text says cross-entropy; the logarithm is meant.

    Args:
        log_probabilities: (N, K_l) for every level.
        targets: Distributions (N, K_l) for every level.
        weights: (N,), factors of the images' losses; None for equal ones.
    """
    losses = []
    for predicted, target in zip(log_probabilities, targets, strict=True):
        by_image = -(target * predicted).sum(dim=1)
        losses.append((by_image if weights is None else weights * by_image).mean())
    return torch.stack(losses).mean()


def branch_weights(network: type[EmotionModel], recipe: Recipe) -> dict[str, float]:
    """Return the weights of the losses on a network's branches.

    The paper's recipe has the loss on P_O alone. There the branch that learns faster takes over
    and the other learns only what is left; with few images each needs a loss of its own.
    """
    weights = {
        **network.loss_weights,
        "overall": recipe.overall_weight,
        "local": recipe.local_weight,
        "global": recipe.global_weight,
    }
    branches = ("overall", *network.branches)
    return {branch: weights[branch] for branch in branches if branch in weights}


def loss(
    network: EmotionModel,
    output: EmotionOutput,
    targets: Sequence[Tensor],
    recipe: Recipe,
    weights: Tensor | None = None,
) -> Tensor:
    """Return the weighted sum of the losses on a network's branches, and its auxiliary loss.

    Args:
        network: The network.
        output: Its output.
        targets: Distributions (N, K_l) for every level.
        recipe: May replace the weights of the branches, see `branch_weights`.
        weights: (N,), factors of the images' losses on the branches; None for equal ones.
    """
    terms = [
        weight * cross_entropy(output.log_probs[branch], targets, weights)
        for branch, weight in branch_weights(type(network), recipe).items()
    ]
    auxiliary = network.auxiliary_loss(output, targets)
    if auxiliary is not None:
        terms.append(auxiliary)
    return functools.reduce(operator.add, terms)


def check_losses(recipe: Recipe, config: ModelConfig) -> None:
    """Raise `InputError` if a recipe gives no weight to any branch of a model."""
    weights = branch_weights(get_architecture(config.architecture), recipe)
    if not any(weights.values()):
        names = " and ".join(f"{branch}_weight" for branch in weights)
        missing = sorted({"local", "global"} - set(weights))
        raise InputError(
            f"{config.name} has no {' or '.join(missing)} branch, so {names} must not "
            f"{'both ' if len(weights) == 2 else ''}be 0"
        )


def balancing_weights(leaves: Tensor) -> Tensor:
    """Return weights of images by the rarity of their classes, (N,), with mean 1.

    Args:
        leaves: Distributions over the leaves, (N, K_n).
    """
    frequencies = leaves.sum(dim=0)
    rarity = torch.where(frequencies > 0, 1 / frequencies, 0)
    weights = leaves @ rarity
    return weights / weights.mean()
