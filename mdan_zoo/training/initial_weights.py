"""Initial weights of a training: pretrained weights of the backbone, or another model's."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING

import timm
import torch
from torch import Tensor, nn

from mdan_zoo.backbones.pyramid import build_backbone
from mdan_zoo.errors import (
    CheckpointError,
    HierarchyError,
    MdanZooError,
    WeightsUnavailableError,
)
from mdan_zoo.models.config import ModelConfig
from mdan_zoo.weights.checkpoint import check_tensors, open_checkpoint, read_tensors
from mdan_zoo.zoo.factory import build_network

if TYPE_CHECKING:
    from mdan_zoo.models.base import EmotionModel


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


def timm_backbone(config: ModelConfig) -> tuple[nn.Module, ModelConfig]:
    """Build a config's backbone with the weights that timm has for it, from the Hub or its cache.

    Returns:
        The backbone, and the config with the mean and standard deviation of timm's weights.

    Raises:
        WeightsUnavailableError: They cannot be fetched.
        InputError: The backbone does not fit.
        UnknownNameError: timm has no such model.
    """
    try:
        backbone, _ = build_backbone(config.backbone, config.input.crop, pretrained=True)
    except MdanZooError:
        raise
    except Exception as error:  # whatever timm, the Hub's client and the network raise
        raise WeightsUnavailableError(
            f"timm's weights of {config.backbone} cannot be fetched ({error}); give a safetensors "
            "file of them with --backbone-weights"
        ) from error
    cfg = timm.get_pretrained_cfg(config.backbone)
    assert cfg is not None, "its weights have just been loaded"
    red, green, blue = cfg.mean
    spec = dataclasses.replace(config.input, mean=(red, green, blue))
    red, green, blue = cfg.std
    spec = dataclasses.replace(spec, std=(red, green, blue))
    return backbone, dataclasses.replace(config, input=spec)


def load_model_file(network: EmotionModel, path: str | os.PathLike[str]) -> list[str]:
    """Start a network from the weights of a model for another emotion tree of the same depth.

    Everything but the classifiers is carried over strictly. Of the classifiers the rows of classes
    that have the same name at the same level are; the other rows stay as they are.

    Args:
        network: A network of the same architecture, with its own tree.
        path: A file that `save_checkpoint` wrote.

    Returns:
        The names of the classes whose rows were carried over.

    Raises:
        CheckpointError: The file is damaged, or of another architecture.
        HierarchyError: Its tree has another depth.
    """
    checkpoint = open_checkpoint(path)
    config, theirs, tensors = checkpoint.config, checkpoint.hierarchy, checkpoint.tensors
    ours = network.hierarchy
    if theirs.depth != ours.depth:
        raise HierarchyError(
            f"{path} was trained for a tree of {theirs.depth} levels, {theirs!r}; one of "
            f"{ours.depth} levels, {ours!r}, cannot start from it"
        )
    with torch.device("meta"):
        expected = build_network(config, theirs).state_dict()
    check_tensors(path, tensors, expected)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    if state.keys() != tensors.keys():
        raise CheckpointError(
            f"{path} holds {config.architecture} with {config.backbone}, another network than the "
            "one to be trained"
        )
    carried: set[str] = set()
    levels = network.classifiers()
    for name, value in tensors.items():
        level = levels.get(name.rpartition(".")[0])
        if level is not None:
            carried |= _carry_rows(state[name], value, theirs.levels[level], ours.levels[level])
        elif state[name].shape == value.shape:
            state[name] = value.to(state[name].dtype)
        else:
            raise CheckpointError(
                f"{path}: {name} has shape {tuple(value.shape)}, not {tuple(state[name].shape)}; "
                "only a model of the same backbone and width can be the start"
            )
    network.load_state_dict(state, strict=True)
    return sorted(carried)


def _carry_rows(
    state: Tensor, given: Tensor, theirs: tuple[str, ...], ours: tuple[str, ...]
) -> set[str]:
    common = set(theirs) & set(ours)
    for name in common:
        state[ours.index(name)] = given[theirs.index(name)]
    return common
