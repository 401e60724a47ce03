"""Model factory: list models, and build them by name or from a file.

Listing models needs no torch; it is imported when a model is built.
"""

from __future__ import annotations

import dataclasses
import fnmatch
from typing import TYPE_CHECKING

from mdan_zoo.errors import (
    CheckpointError,
    InputError,
    UnknownNameError,
    WeightsUnavailableError,
    did_you_mean,
)
from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.hierarchy.tree import Hierarchy, Nested
from mdan_zoo.models.config import ModelConfig
from mdan_zoo.models.registry import get_architecture
from mdan_zoo.weights import fetch
from mdan_zoo.weights.contents import FileContents
from mdan_zoo.weights.manifest import ManifestEntry, config_of, hierarchy_of, load_manifest
from mdan_zoo.zoo.configs import REGISTERED, training_command

if TYPE_CHECKING:
    from mdan_zoo.models.base import EmotionModel
    from mdan_zoo.weights.checkpoint import CheckpointSource


def get_config(name: str) -> ModelConfig:
    """Return the config of a model of `list_models()`, or raise `UnknownNameError`."""
    if isinstance(name, str) and name in REGISTERED:
        return REGISTERED[name]
    manifest = load_manifest()
    if not isinstance(name, str) or name not in manifest:
        raise UnknownNameError(f"there is no model {name!r}; {did_you_mean(name, list_models())}")
    return config_of(manifest[name])


def get_model_hierarchy(name: str) -> Hierarchy:
    """Return the emotion hierarchy of a model; accepts the same names as `get_config`."""
    if name in REGISTERED:
        return get_hierarchy(REGISTERED[name].hierarchy)
    get_config(name)
    return hierarchy_of(load_manifest()[name])


def list_models(pattern: str = "*", *, pretrained: bool = False) -> list[str]:
    """Return the names of the registered models and of those in the weights manifest, sorted.

    `pattern` is a shell-style wildcard; `pretrained` keeps only models with released weights.

    >>> list_models("*_oasis4", pretrained=True)
    ['flat_oasis4', 'mdan_oasis4']
    """
    if not isinstance(pattern, str):
        raise InputError(f"pattern must be a string such as 'mdan_*', not {pattern!r}")
    manifest = load_manifest()
    released = {name for name, entry in manifest.items() if entry.released}
    return sorted(fnmatch.filter(released if pretrained else {*REGISTERED, *manifest}, pattern))


def create_model(
    name: str | ModelConfig,
    *,
    pretrained: bool = False,
    checkpoint: CheckpointSource | None = None,
    hierarchy: Hierarchy | Nested | str | None = None,
    backbone: str | None = None,
) -> EmotionModel:
    """Build a model, with random weights unless `pretrained` or `checkpoint` is given.

    Args:
        name: One of `list_models()`, or the config of another model.
        pretrained: Load the released weights.
        checkpoint: Load this safetensors file instead, given by its path or already opened.
        hierarchy: Another emotion hierarchy: a `Hierarchy`, nested dicts and lists, or the name of
            a built-in one.
        backbone: Another timm backbone. Neither it nor `hierarchy` can be given with `pretrained`.

    Returns:
        The network in training mode, as usual in torch; call `.eval()` before predicting.

    Raises:
        UnknownNameError: No such model, hierarchy or backbone.
        WeightsUnavailableError: The model has no released weights; explains how to train them.
        CheckpointError: The checkpoint is damaged or belongs to another model, or cannot be loaded
            under torch.device("meta").
        InputError: The arguments contradict each other.
    """
    if pretrained and isinstance(name, ModelConfig):
        raise InputError("pretrained=True needs the name of a model, not a config")
    config = name if isinstance(name, ModelConfig) else get_config(name)
    if pretrained and (hierarchy is not None or backbone is not None):
        raise InputError(
            f"the released weights of {name} fit only its own hierarchy ({config.hierarchy}) and "
            f"backbone ({config.backbone}); leave out pretrained=True to start another one"
        )
    if pretrained and checkpoint is not None:
        raise InputError("pretrained=True and checkpoint= both name weights; give one of them")
    if backbone is not None:
        config = dataclasses.replace(config, backbone=backbone)
    loaded = None
    if pretrained or checkpoint is not None:
        from mdan_zoo.weights.checkpoint import load_checkpoint, open_checkpoint

        # The name of the config can differ from that of the manifest entry.
        loaded = open_checkpoint(read_released(str(name)) if checkpoint is None else checkpoint)
    if hierarchy is None and isinstance(name, str):
        hierarchy = get_model_hierarchy(name)
    elif isinstance(hierarchy, str):
        hierarchy = get_hierarchy(hierarchy)
    elif hierarchy is not None and not isinstance(hierarchy, Hierarchy):
        hierarchy = Hierarchy.from_nested(hierarchy)
    network = build_network(config, hierarchy)
    if loaded is not None:
        load_checkpoint(network, loaded, config)
    return network


def build_network(config: ModelConfig, hierarchy: Hierarchy | None = None) -> EmotionModel:
    """Build the network of a config, with random weights, by default for the config's hierarchy."""
    from mdan_zoo.backbones.pyramid import build_backbone

    architecture = get_architecture(config.architecture)
    backbone, channels = build_backbone(config.backbone, config.input.crop)
    classes = hierarchy or get_hierarchy(config.hierarchy)
    network = architecture(backbone, channels, classes, config.options)
    network.add_dimensions(config.dimensions)
    return network


def load_network(source: CheckpointSource) -> tuple[ModelConfig, EmotionModel]:
    """Return a checkpoint's config, and its network in training mode, with the weights loaded.

    Raises:
        CheckpointError: The file is missing, damaged, or does not fit what it describes.
        UnknownNameError: It describes a network that cannot be built.
    """
    import torch

    from mdan_zoo.weights.checkpoint import check_tensors, load_tensors, open_checkpoint

    checkpoint = open_checkpoint(source)
    path, config, hierarchy = checkpoint.path, checkpoint.config, checkpoint.hierarchy
    try:
        with torch.device("meta"):  # memory is allocated only for tensors that fit
            expected = build_network(config, hierarchy).state_dict()
    except (UnknownNameError, InputError) as error:
        kind = CheckpointError if isinstance(error, InputError) else UnknownNameError
        raise kind(f"the network of {path} cannot be built: {error}") from error
    check_tensors(path, checkpoint.tensors, expected)
    network = build_network(config, hierarchy)
    load_tensors(path, network, checkpoint.tensors)
    return config, network


def read_released(name: str, *, hint: str = "") -> FileContents:
    """Return the verified contents of a model's released checkpoint.

    `hint` is advice that ends the error message if there are no released weights.

    Raises:
        UnknownNameError: There is no such model.
        WeightsUnavailableError: It has no released weights, or no source has them.
        CheckpointError: The file is damaged.
    """
    get_config(name)
    return fetch.read_weights(released_entry(name, hint=hint))


def released_entry(name: str, *, hint: str = "") -> ManifestEntry:
    """Return a model's manifest entry; arguments and errors as in `read_released`."""
    entry = load_manifest().get(name)
    if entry is None:
        what = hint or f"To train the model: {training_command(get_config(name))}"
        reason = "it has no entry in the weights manifest"
        raise WeightsUnavailableError(f"{name} has no released weights: {reason}. {what}")
    if not entry.released:
        what = hint or f"To train the model: {entry.command}"
        raise WeightsUnavailableError(f"{name} has no released weights: {entry.reason}. {what}")
    return entry
