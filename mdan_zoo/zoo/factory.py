"""The registry: every model name, once, and what builds it.

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
from mdan_zoo.images.input_spec import InputSpec
from mdan_zoo.models.config import ModelConfig
from mdan_zoo.models.mdan.options import MDANOptions
from mdan_zoo.weights import fetch
from mdan_zoo.weights.contents import FileContents
from mdan_zoo.weights.manifest import load_manifest
from mdan_zoo.weights.manifest_config import config_of, hierarchy_of

if TYPE_CHECKING:
    from mdan_zoo.models import EmotionNetwork
    from mdan_zoo.weights.checkpoint import CheckpointSource

DEFAULT_MODEL = "flat_oasis4"
"""What `mdan_zoo.predict` uses: by cross-validation the better of the models whose weights are part
of the package."""

DEFAULT_EXPLAINED_MODEL = "mdan_oasis4"
"""What `mdan_zoo.explain` uses: the default model is flat and has no attention; of those whose
weights are part of the package this one has maps at every level."""

_OASIS_INPUT = InputSpec(resize=320, crop=320, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))

_CONFIGS = (
    ModelConfig("mdan_webemo25", "webemo25", "WEBEmo"),
    ModelConfig("mdan_emotion6", "panda6", "Emotion-6"),
    ModelConfig("mdan_fi8", "mikels8", "FI"),
    ModelConfig("mdan_artphoto8", "mikels8", "ArtPhoto"),
    ModelConfig("mdan_iaps8", "mikels8", "IAPSsubset"),
    ModelConfig("mdan_abstract8", "mikels8", "Abstract"),
    ModelConfig("mdan_emoset8", "mikels8", "EmoSet-118K"),
    ModelConfig(
        "mdan_oasis4",
        "circumplex4",
        "OASIS",
        backbone="mobilenetv2_100",
        # A sixteenth of the paper's width, and attention that cannot grow without bound: with 661
        # images to learn from, more only learns them by heart.
        options=MDANOptions(dim=64, lcam="normalised", normalise_pyramid=True),
        input=_OASIS_INPUT,
    ),
    ModelConfig(
        "flat_oasis4",
        "circumplex4",
        "OASIS",
        backbone="mobilenetv2_100",
        architecture="flat",
        input=_OASIS_INPUT,
    ),
)

MODELS = {config.name: config for config in _CONFIGS}


def get_config(name: str) -> ModelConfig:
    """Return the config of a model.

    Args:
        name: A registered name, or one that the weights manifest has beyond those, as a lab's own
            may: see `mdan_zoo.weights.manifest`.

    Raises:
        UnknownNameError: There is no model of that name; the nearest names are told.
    """
    if isinstance(name, str) and name in MODELS:
        return MODELS[name]
    manifest = load_manifest()
    if not isinstance(name, str) or name not in manifest:
        raise UnknownNameError(f"there is no model {name!r}; {did_you_mean(name, list_models())}")
    return config_of(manifest[name])


def get_model_hierarchy(name: str) -> Hierarchy:
    """Return the emotion tree of a model, by the same names as `get_config`."""
    if name in MODELS:
        return get_hierarchy(MODELS[name].hierarchy)
    get_config(name)
    return hierarchy_of(load_manifest()[name])


def list_models(pattern: str = "*", *, pretrained: bool = False) -> list[str]:
    """Return the names of the registered models and of the manifest's others, sorted.

    Args:
        pattern: Shell-style wildcard, such as "mdan_*8".
        pretrained: Keep only the models with released weights.
    """
    if not isinstance(pattern, str):
        raise InputError(f"pattern must be a text such as 'mdan_*', not {pattern!r}")
    manifest = load_manifest()
    names = sorted(fnmatch.filter({*MODELS, *manifest}, pattern))
    if pretrained:
        names = [name for name in names if name in manifest and manifest[name].released]
    return names


def create_model(
    name: str,
    *,
    pretrained: bool = False,
    checkpoint: CheckpointSource | None = None,
    hierarchy: Hierarchy | Nested | str | None = None,
    backbone: str | None = None,
) -> EmotionNetwork:
    """Build a model, with random weights unless `pretrained` or `checkpoint` is given.

    Args:
        name: One of `list_models()`.
        pretrained: Load the released weights.
        checkpoint: Load this safetensors file instead, given by its path or already opened.
        hierarchy: Another emotion tree, as a `Hierarchy` or nested dicts and lists, or the name of
            a built-in one. Its weights are new.
        backbone: Another timm backbone. Its weights are new.

    Returns:
        The network in training mode, as torch builds it; call `.eval()` before predicting.

    Raises:
        UnknownNameError: No such model, hierarchy or backbone.
        WeightsUnavailableError: The model has no released weights; says how to train them.
        CheckpointError: The weight file is damaged or belongs to another model.
        InputError: The arguments contradict each other.
    """
    config = get_config(name)
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

        loaded = open_checkpoint(read_released(name) if checkpoint is None else checkpoint)
    tree = get_model_hierarchy(name) if hierarchy is None else _as_hierarchy(hierarchy)
    network = build_network(config, tree)
    if loaded is not None:
        load_checkpoint(network, loaded, config)
    return network


def build_network(config: ModelConfig, hierarchy: Hierarchy | None = None) -> EmotionNetwork:
    """Build the network that a config describes, with random weights.

    Args:
        config: What to build.
        hierarchy: The emotion tree; by default the built-in one that the config names.
    """
    from mdan_zoo.backbones.pyramid import build_backbone
    from mdan_zoo.models.flat import FlatClassifier
    from mdan_zoo.models.mdan.network import MDAN

    tree = hierarchy or get_hierarchy(config.hierarchy)
    backbone, channels = build_backbone(config.backbone, config.input.crop)
    if config.architecture == "flat":
        return FlatClassifier(backbone, channels[-1], tree, config.options.dropout)
    return MDAN(backbone, channels, tree, config.options)


def load_network(source: CheckpointSource) -> tuple[ModelConfig, EmotionNetwork]:
    """Build the network that a checkpoint describes, and load it strictly.

    Memory for the network is taken only when the checkpoint's tensors are known to fit it.

    Returns:
        The file's config, and the network in training mode with the file's emotion tree.

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
        raise UnknownNameError(f"{path} describes a network that cannot be: {error}") from error
    except InputError as error:
        raise CheckpointError(f"{path} describes a network that cannot be: {error}") from error
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
        name: A registered name.
        hint: What to do about it if there are none, added to the error's message.

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
        what = hint or f"To train them: {entry.command}"
        raise WeightsUnavailableError(f"{name} has no released weights: {entry.reason}. {what}")
    return fetch.read_weights(entry)
