"""Model configs: one entry per model of the zoo, and systems to compare them with. No torch.

A new model is one entry here, its recipe in `mdan_zoo/training/recipes/` and, once trained, its
entry in `weights_manifest.json`.
"""

from __future__ import annotations

from mdan_zoo.images.input_spec import InputSpec
from mdan_zoo.models.config import ModelConfig
from mdan_zoo.models.dimensions import Dimension
from mdan_zoo.models.options import FlatOptions, MDANOptions

DEFAULT_MODEL = "mdan_fi8_lite0"
"""The model of `mdan_zoo.predict`, `mdan_zoo.explain` and the demo."""

_OASIS_INPUT = InputSpec(resize=320, crop=320, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))

# FI and OASIS together, on the last convolution of EfficientNet-Lite0. The copies of FI in
# circulation are squashed to squares, so all images are.
_JOINT = "FI+OASIS"
_LITE0 = "tf_efficientnet_lite0:head"
_LITE0_INPUT = InputSpec(192, 192, mean=(0.5,) * 3, std=(0.5,) * 3, resize_mode="squash")
_OASIS_RATINGS = (Dimension("valence", 1, 7), Dimension("arousal", 1, 7))

_CONFIGS = (
    ModelConfig("mdan_webemo25", "webemo25", "WEBEmo"),
    ModelConfig("mdan_emotion6", "panda6", "Emotion-6"),
    ModelConfig("mdan_fi8", "mikels8", "FI"),
    ModelConfig(
        "mdan_fi8_lite0",
        "mikels8",
        _JOINT,
        backbone=_LITE0,
        options=MDANOptions(dim=64, lcam="normalised", normalise_pyramid=True, dropout=0.2),
        input=_LITE0_INPUT,
        dimensions=_OASIS_RATINGS,
    ),
    ModelConfig(
        "flat_fi8_lite0",
        "mikels8",
        _JOINT,
        backbone=_LITE0,
        architecture="flat",
        options=FlatOptions(dropout=0.2),
        input=_LITE0_INPUT,
        dimensions=_OASIS_RATINGS,
    ),
    ModelConfig("mdan_artphoto8", "mikels8", "ArtPhoto"),
    ModelConfig("mdan_iaps8", "mikels8", "IAPSsubset"),
    ModelConfig("mdan_abstract8", "mikels8", "Abstract"),
    ModelConfig("mdan_emoset8", "mikels8", "EmoSet-118K"),
    ModelConfig(
        "mdan_oasis4",
        "circumplex4",
        "OASIS",
        backbone="mobilenetv2_100",
        # A sixteenth of the paper's width, and bounded attention: a larger network overfits the 661
        # training images.
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
"""Configs of the models of the zoo by name."""

_SYSTEMS = {
    **{name: (name, "resnet101") for name in ("flat", "wscnet", "pdanet", "fpn", "cnnrnn")},
    "intensity": ("intensity", "resnet101"),
    "alexnet": ("flat", "alexnet:embedding"),
    "vgg16": ("flat", "vgg16:embedding"),
}

SYSTEMS = {
    name: ModelConfig(name, config.hierarchy, config.dataset, backbone, architecture)
    for config in _CONFIGS
    if (config.architecture, config.backbone) == ("mdan", "resnet101")
    for system, (architecture, backbone) in _SYSTEMS.items()
    for name in [config.name.replace("mdan", system)]
}
"""Configs of the systems that MDAN is compared with, by name.

Every system on every dataset of the models with MDAN's own backbone, such as "flat_fi8", with the
recipe of that model. They have no entry in the weights manifest.
"""

REGISTERED = {**MODELS, **SYSTEMS}
"""Configs of all models that have a name."""
