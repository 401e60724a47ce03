"""Model configs: one entry per model of the zoo. No torch.

A new model is one entry here, its recipe in `mdan_zoo/training/recipes/` and, once trained, its
entry in `weights_manifest.json`.
"""

from __future__ import annotations

from mdan_zoo.images.input_spec import InputSpec
from mdan_zoo.models.config import ModelConfig
from mdan_zoo.models.options import MDANOptions

DEFAULT_MODEL = "flat_oasis4"
"""The model of `mdan_zoo.predict`, the most accurate one with weights in the package."""

DEFAULT_EXPLAINED_MODEL = "mdan_oasis4"
"""The model of `mdan_zoo.explain`, the one with attention maps and weights in the package."""

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
"""Configs of all models by name."""
