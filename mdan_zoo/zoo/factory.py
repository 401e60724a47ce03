"""Model factory: list models, and build them by name or from a file.

Listing models needs no torch; it is imported when a model is built.
"""

from __future__ import annotations

import dataclasses
import fnmatch
from pathlib import Path
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
from mdan_zoo.weights.manifest import load_manifest
from mdan_zoo.weights.manifest_config import config_of, hierarchy_of
from mdan_zoo.zoo.configs import MODELS

if TYPE_CHECKING:
    from mdan_zoo.models.base import EmotionModel
    from mdan_zoo.weights.checkpoint import CheckpointSource


def get_config(name: str) -> ModelConfig:
    """Return the config of a model.

    Args:
        name: A model of `mdan_zoo.zoo.configs`, or another one of the weights manifest, which may
            be that of a lab: see `mdan_zoo.weights.manifest`.

    Raises:
        UnknownNameError: There is no model of that name; suggests the nearest names.
    """
    if isinstance(name, str) and name in MODELS:
        return MODELS[name]
    manifest = load_manifest()
    if not isinstance(name, str) or name not in manifest:
        raise UnknownNameError(f"there is no model {name!r}; {did_you_mean(name, list_models())}")
    return config_of(manifest[name])


def get_model_hierarchy(name: str) -> Hierarchy:
    """Return the emotion hierarchy of a model; accepts the same names as `get_config`."""
    if name in MODELS:
        return get_hierarchy(MODELS[name].hierarchy)
    get_config(name)
    return hierarchy_of(load_manifest()[name])


def list_models(pattern: str = "*", *, pretrained: bool = False) -> list[str]:
    """Return the names of all models, including those of the weights manifest, sorted.

    Args:
        pattern: Shell-style wildcard, such as "mdan_*8".
        pretrained: Keep only the models with released weights.

    >>> list_models("*_oasis4", pretrained=True)
    ['flat_oasis4', 'mdan_oasis4']
    """
    if not isinstance(pattern, str):
        raise InputError(f"pattern must be a string such as 'mdan_*', not {pattern!r}")
    manifest = load_manifest()
    names = sorted(fnmatch.filter({*MODELS, *manifest}, pattern))
    if pretrained:
        names = [name for name in names if name in manifest and manifest[name].released]
    return names


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
        hierarchy: Another emotion hierarchy, as a `Hierarchy` or nested dicts and lists, or the
            name of a built-in one. The weights are random.
        backbone: Another timm backbone. The weights are random.

    Returns:
        The network in training mode, as usual in torch; call `.eval()` before predicting.

    Raises:
        UnknownNameError: No such model, hierarchy or backbone.
        WeightsUnavailableError: The model has no released weights; explains how to train them.
        CheckpointError: The checkpoint is damaged or belongs to another model.
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
    classes = None if hierarchy is None else _as_hierarchy(hierarchy)
    if isinstance(name, str):
        classes = classes or get_model_hierarchy(name)
    network = build_network(config, classes)
    if loaded is not None:
        load_checkpoint(network, loaded, config)
    return network


def build_network(config: ModelConfig, hierarchy: Hierarchy | None = None) -> EmotionModel:
    """Build the network of a config, with random weights.

    Args:
        config: The config.
        hierarchy: The emotion hierarchy; by default the built-in one that the config names.
    """
    from mdan_zoo.backbones.pyramid import build_backbone

    network = get_architecture(config.architecture)
    backbone, channels = build_backbone(config.backbone, config.input.crop)
    classes = hierarchy or get_hierarchy(config.hierarchy)
    return network(backbone, channels, classes, config.options)


def load_network(source: CheckpointSource) -> tuple[ModelConfig, EmotionModel]:
    """Build the network that a checkpoint describes, and load the weights strictly.

    Memory for the network is allocated only after the tensors of the file are known to fit it.

    Returns:
        The config of the checkpoint, and the network in training mode with its hierarchy.

    Raises:
        CheckpointError: The file is missing, damaged, or does not fit what it describes.
        UnknownNameError: It describes a network that cannot be built.
    """
    import torch

    from mdan_zoo.weights.checkpoint import check_tensors, open_checkpoint

    checkpoint = open_checkpoint(source)
    path, config, hierarchy = checkpoint.path, checkpoint.config, checkpoint.hierarchy
    try:
        with torch.device("meta"):
            expected = build_network(config, hierarchy).state_dict()
    except UnknownNameError as error:
        raise UnknownNameError(f"the network of {path} cannot be built: {error}") from error
    except InputError as error:
        raise CheckpointError(f"the network of {path} cannot be built: {error}") from error
    check_tensors(path, checkpoint.tensors, expected)
    network = build_network(config, hierarchy)
    network.load_state_dict(checkpoint.tensors, strict=True)
    return config, network


def _as_hierarchy(given: Hierarchy | Nested | str) -> Hierarchy:
    if isinstance(given, Hierarchy):
        return given
    return get_hierarchy(given) if isinstance(given, str) else Hierarchy.from_nested(given)


def released_weights(name: str, *, hint: str = "") -> Path:
    """Return the path of a model's released checkpoint, verified.

    Args and errors: those of `read_released`.
    """
    return read_released(name, hint=hint).path


def read_released(name: str, *, hint: str = "") -> FileContents:
    """Return the verified contents of a model's released checkpoint.

    Args:
        name: Name of a model.
        hint: Advice that is added to the error message if there are no released weights.

    Raises:
        UnknownNameError: There is no such model.
        WeightsUnavailableError: It has no released weights, or no source has them.
        CheckpointError: The file is damaged.
    """
    get_config(name)
    entry = load_manifest().get(name)
    if entry is None:
        raise WeightsUnavailableError(
            f"{name} has no entry in the weights manifest. {hint}".strip()
        )
    if not entry.released:
        what = hint or f"To train the model: {entry.command}"
        raise WeightsUnavailableError(f"{name} has no released weights: {entry.reason}. {what}")
    return fetch.read_weights(entry)
