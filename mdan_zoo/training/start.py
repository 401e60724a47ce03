"""Where a training starts: the ImageNet weights of the backbone."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import timm
from torch import nn

from mdan_zoo.checkpoint import check_tensors, read_tensors
from mdan_zoo.config import ModelConfig
from mdan_zoo.errors import WeightsUnavailableError


def load_backbone_file(backbone: nn.Module, path: str | os.PathLike[str]) -> None:
    """Load a safetensors file of a timm model into its feature pyramid.

    Every tensor of the pyramid must be in the file. What the file has beyond, the head that made
    classes of ImageNet, is left out.

    Raises:
        CheckpointError: The file is damaged, or is not of this backbone.
    """
    state = backbone.state_dict()
    # BatchNorm's count of batches has no effect on any output, and converted files leave it out.
    expected = {name: v for name, v in state.items() if not name.endswith("num_batches_tracked")}
    found = {name: value for name, value in read_tensors(path).items() if name in expected}
    check_tensors(path, found, expected)
    backbone.load_state_dict({**state, **found}, strict=True)


def load_timm_weights(backbone: nn.Module, config: ModelConfig) -> ModelConfig:
    """Load the weights that timm has for a backbone, from the Hugging Face Hub or its cache.

    Returns:
        The config with the mean and standard deviation that belong to timm's weights.

    Raises:
        WeightsUnavailableError: They cannot be fetched.
    """
    try:
        source: Any = timm.create_model(config.backbone, pretrained=True)
    except Exception as error:  # whatever timm, the Hub's client and the network raise
        raise WeightsUnavailableError(
            f"timm's weights of {config.backbone} cannot be fetched ({error}); give a safetensors "
            "file of them with --backbone-weights"
        ) from error
    weights = source.state_dict()
    backbone.load_state_dict({name: weights[name] for name in backbone.state_dict()}, strict=True)
    cfg = source.pretrained_cfg
    spec = dataclasses.replace(config.input, mean=tuple(cfg["mean"]), std=tuple(cfg["std"]))
    return dataclasses.replace(config, input=spec)
