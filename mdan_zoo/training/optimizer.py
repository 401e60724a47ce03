"""Optimizer, frozen stages and learning-rate schedule of a recipe."""

from __future__ import annotations

import bisect
import math
from typing import TYPE_CHECKING

import torch
from torch import nn

from mdan_zoo.backbones.pyramid import stages_after
from mdan_zoo.errors import InputError
from mdan_zoo.training.recipe import Recipe

if TYPE_CHECKING:
    from mdan_zoo.models.base import EmotionModel

_ALL_STAGES = 4


def build_optimizer(network: EmotionModel, recipe: Recipe) -> torch.optim.Optimizer:
    """Freeze the parameters that the recipe does not train; return the optimizer of the others.

    In every parameter group, "rate" is the base learning rate and "lr" the learning rate of the
    current step, "rate" times `rate_factor`.
    """
    groups = [
        {"params": parameters, "rate": factor * recipe.lr}
        for factor, parameters in network.parameter_groups()
    ]
    network.backbone.requires_grad_(False)
    trained = _trained_stages(network.backbone, recipe)
    if trained is not None and recipe.backbone_lr:
        trained.requires_grad_(True)
        groups.append({"params": list(trained.parameters()), "rate": recipe.backbone_lr})
    decay, momentum = recipe.weight_decay, recipe.momentum
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, betas=(momentum, 0.999), weight_decay=decay)
    return torch.optim.SGD(groups, lr=recipe.lr, momentum=momentum, weight_decay=decay)


def _trained_stages(backbone: nn.Module, recipe: Recipe) -> nn.Module | None:
    """Return the part of the backbone that is trained."""
    if recipe.frozen_stages == _ALL_STAGES:
        return None
    return stages_after(backbone, recipe.frozen_stages) if recipe.frozen_stages else backbone


def check_frozen_stages(
    architecture: type[EmotionModel], backbone: nn.Module, recipe: Recipe
) -> None:
    """Raise `InputError` if the recipe trains stages that a network or its backbone does not."""
    if architecture.frozen_backbone and recipe.frozen_stages != _ALL_STAGES:
        raise InputError(
            f"the backbone of a {architecture.architecture} stays frozen, so frozen_stages must be "
            f"{_ALL_STAGES}, not {recipe.frozen_stages}; the architecture flat trains it, too"
        )
    _trained_stages(backbone, recipe)


def set_mode(network: EmotionModel, recipe: Recipe) -> None:
    """Set training mode; the BatchNorm layers of the backbone follow `Recipe.freeze_bn`."""
    network.train()
    trained = _trained_stages(network.backbone, recipe)
    network.backbone.eval()
    if trained is not None and not recipe.freeze_bn:
        trained.train()


def set_rates(
    optimizer: torch.optim.Optimizer, recipe: Recipe, step: int, steps_per_epoch: int
) -> None:
    """Set the learning rates of a step."""
    factor = rate_factor(recipe, step, steps_per_epoch)
    for group in optimizer.param_groups:
        group["lr"] = group["rate"] * factor


def rate_factor(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Return the factor of all learning rates at a step; the first step is 0."""
    total = recipe.epochs * steps_per_epoch
    warmup = min(1.0, (step + 1) / (min(recipe.warmup_steps, total // 10) + 1))
    if recipe.schedule == "cosine":
        return warmup * 0.5 * (1 + math.cos(math.pi * step / total))
    epoch = step // steps_per_epoch
    if recipe.stages:
        return warmup * 0.1 ** bisect.bisect_right(recipe.stage_ends[:-1], epoch)
    return warmup * 0.1 ** (epoch // recipe.step_epochs)
