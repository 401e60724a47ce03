"""The registry: every model name, once, and what builds it.

Listing models needs no torch; it is imported when a model is built.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import os
from typing import TYPE_CHECKING

from mdan_zoo import hub
from mdan_zoo.config import InputSpec, ModelConfig
from mdan_zoo.errors import InputError, UnknownNameError, WeightsUnavailableError, did_you_mean
from mdan_zoo.hierarchies import get_hierarchy
from mdan_zoo.hierarchy import Hierarchy, Nested
from mdan_zoo.manifest import ManifestEntry, load_manifest
from mdan_zoo.models.options import MDANOptions

if TYPE_CHECKING:
    from mdan_zoo.models import EmotionNetwork

DEFAULT_MODEL = "flat_oasis4"
"""What `mdan_zoo.predict` uses: by cross-validation the better of the models whose weights are part
of the package."""

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
        # pictures to learn from, more only learns them by heart.
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
    """Return the config of a registered model.

    Raises:
        UnknownNameError: There is no model of that name; the nearest names are told.
    """
    if name not in MODELS:
        raise UnknownNameError(f"there is no model {name!r}; {did_you_mean(name, MODELS)}")
    return MODELS[name]


def list_models(pattern: str = "*", *, pretrained: bool = False) -> list[str]:
    """Return the names of registered models, sorted.

    Args:
        pattern: Shell-style wildcard, such as "mdan_*8".
        pretrained: Keep only the models with released weights.
    """
    names = sorted(fnmatch.filter(MODELS, pattern))
    if pretrained:
        manifest = load_manifest()
        names = [name for name in names if name in manifest and manifest[name].released]
    return names


def create_model(
    name: str,
    *,
    pretrained: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
    hierarchy: Hierarchy | Nested | str | None = None,
    backbone: str | None = None,
) -> EmotionNetwork:
    """Build a model, with random weights unless `pretrained` or `checkpoint` is given.

    Args:
        name: A registered name; see `list_models`.
        pretrained: Load the released weights.
        checkpoint: Load this safetensors file instead.
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
    weights = hub.find_weights(_released_entry(name)) if pretrained else checkpoint
    network = build_network(config, _as_hierarchy(hierarchy, config))
    if weights is not None:
        from mdan_zoo.checkpoint import load_checkpoint

        load_checkpoint(network, weights, config)
    return network


def build_network(config: ModelConfig, hierarchy: Hierarchy | None = None) -> EmotionNetwork:
    """Build the network that a config describes, with random weights.

    Args:
        config: What to build.
        hierarchy: The emotion tree; by default the built-in one that the config names.
    """
    from mdan_zoo.models.backbone import build_backbone
    from mdan_zoo.models.flat import FlatClassifier
    from mdan_zoo.models.mdan import MDAN

    tree = hierarchy or get_hierarchy(config.hierarchy)
    backbone, channels = build_backbone(config.backbone)
    if config.architecture == "flat":
        return FlatClassifier(backbone, channels[-1], tree, config.options.dropout)
    return MDAN(backbone, channels, tree, config.options)


def _as_hierarchy(given: Hierarchy | Nested | str | None, config: ModelConfig) -> Hierarchy:
    if isinstance(given, Hierarchy):
        return given
    if given is None:
        return get_hierarchy(config.hierarchy)
    return get_hierarchy(given) if isinstance(given, str) else Hierarchy.from_nested(given)


def _released_entry(name: str) -> ManifestEntry:
    """Return the manifest entry of a model, which must have released weights."""
    entry = load_manifest().get(name)
    if entry is None:
        raise WeightsUnavailableError(f"{name} has no entry in the weights manifest")
    if not entry.released:
        raise WeightsUnavailableError(
            f"{name} has no released weights: {entry.reason}. To train them: {entry.command}"
        )
    return entry
