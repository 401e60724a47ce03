"""Pretrained backbones: timm's weights and the normalisation that they need."""

from __future__ import annotations

import dataclasses

import timm
from torch import nn

from mdan_zoo.backbones.pyramid import build_backbone
from mdan_zoo.errors import MdanZooError, WeightsUnavailableError
from mdan_zoo.images.input_spec import InputSpec


def pretrained_backbone(name: str, spec: InputSpec) -> tuple[nn.Module, InputSpec]:
    """Build a backbone with timm's pretrained weights, from the Hub or its cache.

    Returns:
        The backbone, and `spec` with the mean and standard deviation of the pretrained weights.

    Raises:
        WeightsUnavailableError: The weights cannot be fetched.
        InputError: The backbone does not fit.
        UnknownNameError: timm has no such model.
    """
    try:
        backbone, _ = build_backbone(name, spec.crop, pretrained=True)
    except MdanZooError:
        raise
    except Exception as error:  # whatever timm, huggingface_hub and the network raise
        raise WeightsUnavailableError(
            f"the pretrained weights of {name} cannot be fetched ({error}); pass a safetensors "
            "file with --backbone-weights"
        ) from error
    cfg = timm.get_pretrained_cfg(name)
    assert cfg is not None, "its weights have just been loaded"
    mean, std = ((red, green, blue) for red, green, blue in (cfg.mean, cfg.std))
    return backbone, dataclasses.replace(spec, mean=mean, std=std)
