"""Model configs: one entry per model of the zoo, and systems to compare them with. No torch.

A new model is one entry here, its recipe in `mdan_zoo/training/recipes/` and, once trained, its
entry in `weights_manifest.json`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

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

_RESNET50 = "_resnet50"
_SYSTEMS: dict[str, dict[str, Any]] = {
    "flat_*": {"architecture": "flat"},
    f"flat_*{_RESNET50}": {"architecture": "flat", "backbone": "resnet50"},
    **{f"{name}_*": {"architecture": name} for name in ("wscnet", "pdanet", "fpn", "cnnrnn")},
    "intensity_*": {"architecture": "intensity"},
    "curriculum_*": {"architecture": "flat", "backbone": "resnet50"},
    "alexnet_*": {"architecture": "flat", "backbone": "alexnet:embedding"},
    "vgg16_*": {"architecture": "flat", "backbone": "vgg16:embedding"},
    "smallcnn_*": {
        "architecture": "flat",
        "backbone": "smallcnn:embedding",
        "input": InputSpec(resize=256, crop=224),
    },
    "probe_*": {
        "architecture": "probe",
        # The weights of Radford et al. (2021), with the activation that they were trained with.
        "backbone": "vit_base_patch16_clip_quickgelu_224.openai:embedding",
        "input": InputSpec(
            resize=224,
            crop=224,
            mean=(0.48145466, 0.4578275, 0.40821073),
            std=(0.26862954, 0.26130258, 0.27577711),
            interpolation="bicubic",
        ),
    },
}
"""In what a system differs from the MDAN that it is compared with, by the pattern of its names."""


def _systems(mdan: ModelConfig) -> Iterator[ModelConfig]:
    """Yield the systems to compare a config of MDAN with.

    Those whose backbone returns no maps, or is part of their name, have no other backbone.
    """
    for pattern, changes in _SYSTEMS.items():
        name = pattern.replace("*", mdan.name.removeprefix("mdan_"))
        config = dataclasses.replace(mdan, **{"name": name, "options": None, **changes})
        if mdan.backbone == "resnet101":
            yield config
        elif pattern.endswith("*") and not config.backbone.endswith(":embedding"):
            yield dataclasses.replace(config, backbone=mdan.backbone)


SYSTEMS = {
    system.name: system
    for config in _CONFIGS
    if config.architecture == "mdan" and config.backbone in ("resnet101", _LITE0)
    for system in _systems(config)
    if system.name not in MODELS
}
"""Configs of the systems that MDAN is compared with, by name.

Every system on every dataset of the models with MDAN's own backbone, such as "wscnet_fi8"; those
that read feature maps also on backbone, input and data of `mdan_fi8_lite0`, such as
"wscnet_fi8_lite0"; and the flat network with ResNet-50. Their recipes are derived from that of
`compared_with`. They have no entry in the weights manifest.
"""

REGISTERED = {**MODELS, **SYSTEMS}
"""Configs of all models that have a name."""

_FROM_FI = ("ArtPhoto", "IAPSsubset", "Abstract")


def compared_with(system: str) -> str:
    """Return the name of the MDAN that a system is compared with, such as "mdan_fi8"."""
    _, _, dataset = system.partition("_")
    return f"mdan_{dataset.removesuffix(_RESNET50)}"


def training_command(config: ModelConfig) -> str:
    """Return the command that trains a registered model, with FOLDER and DIR in place of paths.

    A model of a small dataset starts from the same system on FI, in a folder of that name.
    """
    datasets = config.dataset.split("+")
    folders = [f"{name}=FOLDER" for name in datasets] if len(datasets) > 1 else ["FOLDER"]
    data = " ".join(f"--data {folder}" for folder in folders)
    command = f"mdan-zoo train {config.name} {data} --output DIR"
    if config.dataset in _FROM_FI:
        dataset = compared_with(config.name).removeprefix("mdan_")
        command += f" --init {config.name.replace(dataset, 'fi8')}/model.safetensors"
    return command
