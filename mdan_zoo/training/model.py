"""Trained model: its config, the hierarchy of the labels, and checks of both before any work."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from mdan_zoo.backbones.pyramid import check_sizes, with_normalisation
from mdan_zoo.errors import InputError
from mdan_zoo.hierarchy.builtin import builtin_name, get_hierarchy
from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.models.config import ModelConfig
from mdan_zoo.training.backbone_weights import find_backbone_file
from mdan_zoo.training.config import TrainingConfig
from mdan_zoo.training.dataset import training_sizes
from mdan_zoo.training.losses import check_losses
from mdan_zoo.training.optimizer import check_frozen_stages
from mdan_zoo.training.recipe import Recipe, is_weight_file
from mdan_zoo.training.state import has_state
from mdan_zoo.weights.checkpoint import read_identity
from mdan_zoo.weights.contents import read_contents
from mdan_zoo.zoo.configs import REGISTERED
from mdan_zoo.zoo.factory import build_network, get_config, read_released

if TYPE_CHECKING:
    from mdan_zoo.models.base import EmotionModel

_CUSTOM_DATASET = "folder"


def describe_model(
    config: TrainingConfig,
) -> tuple[Path | None, ModelConfig, Hierarchy, EmotionModel]:
    """Check what needs no images; return the initial checkpoint, if any, and the trained model.

    The model is its config, the hierarchy of the labels, and the network on the meta device.

    Raises:
        InputError: The configuration contradicts itself.
        CheckpointError: The initial checkpoint is damaged.
        UnknownNameError: A backbone, an option or a level does not exist.
        WeightsUnavailableError: The weights to start from cannot be fetched.
    """
    recipe = config.recipe
    init = _find_init(config)
    if init is not None and config.backbone_weights is not None:
        raise InputError(
            f"the initial weights, {recipe.init}, include the backbone; remove "
            f"--backbone-weights {config.backbone_weights}"
        )
    model, hierarchy = _describe(config, init)
    with torch.device("meta"):  # raises if the options and the hierarchy do not fit
        network = build_network(model, hierarchy)
    check_losses(recipe, network, model.name)
    check_frozen_stages(type(network), network.backbone, recipe)
    if recipe.start_size or recipe.train_size:
        check_sizes(model.backbone, training_sizes(model.input, recipe))
        for size in training_sizes(model.input, recipe):
            model.options.check_crop(size)
    return init, model, hierarchy, network


def stages_to_cache(network: EmotionModel, recipe: Recipe) -> list[int]:
    """Return which of the maps C2..C5 (0..3) are cached to train a network."""
    first = recipe.frozen_stages  # trained stage, whose input is always kept
    return sorted({first - 1, *(stage for stage in network.pyramid_stages() if stage < first)})


def initial_weights_sha256(config: TrainingConfig) -> str:
    """Return the hash of the file that training starts from; "" for timm's pretrained weights."""
    path = _find_init(config)
    if path is None and config.backbone_weights is not None:
        path = find_backbone_file(config.backbone_weights)
    return "" if path is None else read_contents(path).sha256


def _find_init(config: TrainingConfig) -> Path | None:
    init = config.recipe.init
    if not init:
        return None
    if is_weight_file(init):
        return Path(init)
    hint = f"Train {init} first and pass its checkpoint with --init"
    if config.hierarchy is None:
        hint += ", or start from ImageNet weights with --set init="
    return read_released(init, hint=hint).path


def _describe(config: TrainingConfig, init: Path | None) -> tuple[ModelConfig, Hierarchy]:
    """Return the config of the trained model, and the hierarchy of the labels."""
    if config.hierarchy is None:
        model = get_config(config.recipe.model)
        hierarchy = get_hierarchy(model.hierarchy)
    elif init is None:
        raise InputError("a custom hierarchy needs an initial model; pass one with --init")
    else:
        model = dataclasses.replace(read_identity(init)[0], dataset=_CUSTOM_DATASET)
        hierarchy = config.hierarchy
    stages = [hierarchy.cut(level) for level in config.recipe.stage_levels()]  # raises
    final = stages[-1] if stages else hierarchy
    options = model.options.changed(config.options)
    changes = (config.hierarchy, config.backbone, config.size, config.resize_mode)
    datasets = [*config.paths(model.dataset)]
    same = {*datasets} == {*model.dataset.split("+")} and not config.dimensions
    unchanged = same and final == hierarchy and options == model.options
    if unchanged and all(change is None for change in changes):
        return model, hierarchy
    name = config.output.resolve().name
    if name in REGISTERED and not has_state(config.output):
        raise InputError(
            "a model with a custom hierarchy, a coarse last stage, another backbone, input, "
            "options or dimensions, or other datasets is named after its output folder, but "
            f"{name} is a registered model; choose another --output"
        )
    own, dataset = builtin_name(final, name), "+".join(datasets)
    model = dataclasses.replace(model, hierarchy=own, dataset=dataset)
    if config.backbone is not None:
        if init is not None:
            raise InputError(
                f"the initial weights, {config.recipe.init}, are for the backbone "
                f"{model.backbone}; remove --backbone {config.backbone}"
            )
        spec = with_normalisation(model.input, config.backbone)
        model = dataclasses.replace(model, backbone=config.backbone, input=spec)
    dimensions, spec = config.dimensions or model.dimensions, model.input
    if config.size is not None or config.resize_mode is not None:
        size = spec.crop if config.size is None else config.size
        spec = spec.resized(size, config.resize_mode)
    model = dataclasses.replace(
        model, name=name, options=options, input=spec, dimensions=dimensions
    )
    return model, hierarchy
