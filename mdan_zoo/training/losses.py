"""What training minimises: Eq. 3 of the paper, and the same loss on the single branches."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mdan_zoo.errors import InputError
from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.models.base import EmotionOutput
from mdan_zoo.models.config import ModelConfig
from mdan_zoo.training.recipe import Recipe


def level_targets(leaves: Tensor, hierarchy: Hierarchy) -> tuple[Tensor, ...]:
    """Sum a distribution over the leaves (N, K_n) up the tree; return (N, K_l) coarse to fine."""
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
        weights: (N,), what each image's loss is multiplied by; None leaves them alike.
    """
    losses = []
    for predicted, target in zip(log_probabilities, targets, strict=True):
        by_image = -(target * predicted).sum(dim=1)
        losses.append((by_image if weights is None else weights * by_image).mean())
    return torch.stack(losses).mean()


def loss(
    output: EmotionOutput,
    targets: Sequence[Tensor],
    recipe: Recipe,
    weights: Tensor | None = None,
) -> Tensor:
    """Return the recipe's weighted sum of the losses on P_O, P_L and P_G.

    The paper's recipe has the loss on P_O alone. There the branch that learns faster takes over
    and the other learns only what is left; with few images each has to be taught by itself.
    """
    total = recipe.overall_weight * cross_entropy(output.log_overall, targets, weights)
    if output.log_local:  # a flat network has no local branch
        total = total + recipe.local_weight * cross_entropy(output.log_local, targets, weights)
    return total + recipe.global_weight * cross_entropy(output.log_global, targets, weights)


def check_losses(recipe: Recipe, config: ModelConfig) -> None:
    """Raise `InputError` where a recipe has a loss on nothing but a branch that a model lacks."""
    if config.architecture == "flat" and recipe.overall_weight + recipe.global_weight == 0:
        raise InputError(
            f"{config.name} has no local branch, so overall_weight and global_weight must not both "
            "be 0"
        )


def balancing_weights(leaves: Tensor) -> Tensor:
    """Return for each image how much rarer its leaves are than the average, (N,), of mean 1.

    Args:
        leaves: Distribution over the leaves of every image, (N, K_n).
    """
    frequencies = leaves.sum(dim=0)
    rarity = torch.where(frequencies > 0, 1 / frequencies, 0)
    weights = leaves @ rarity
    return weights / weights.mean()
