"""Initial weights: a safetensors file of the backbone, or the checkpoint of another model."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from torch import nn

from mdan_zoo.errors import CheckpointError, HierarchyError
from mdan_zoo.weights.checkpoint import check_tensors, read_tensors
from mdan_zoo.zoo.factory import load_network

if TYPE_CHECKING:
    from mdan_zoo.models.base import EmotionModel


def load_backbone_file(backbone: nn.Module, path: str | os.PathLike[str]) -> None:
    """Load a safetensors file of a timm model into its feature pyramid.

    The file must contain every tensor of the pyramid. Others, such as the ImageNet classifier, are
    ignored.

    Raises:
        CheckpointError: The file is damaged, or belongs to another backbone.
    """
    state = backbone.state_dict()
    # BatchNorm's batch count does not affect the output, and converted files lack it.
    expected = {name: v for name, v in state.items() if not name.endswith("num_batches_tracked")}
    found = {name: value for name, value in read_tensors(path).items() if name in expected}
    check_tensors(path, found, expected)
    backbone.load_state_dict({**state, **found}, strict=True)


def load_model_file(network: EmotionModel, path: str | os.PathLike[str]) -> list[str]:
    """Initialise a network from a checkpoint of the same architecture and hierarchy depth.

    All weights except the classifiers must match. Classifier rows are copied for classes that have
    the same name at the same level in both hierarchies; the other rows are unchanged.

    Returns:
        The names of the classes whose rows were copied.

    Raises:
        CheckpointError: The file is damaged, or belongs to another architecture.
        HierarchyError: Its hierarchy has another depth.
    """
    config, source = load_network(path)
    theirs, ours = source.hierarchy, network.hierarchy
    if theirs.depth != ours.depth:
        raise HierarchyError(
            f"{path} has a hierarchy of {theirs.depth} levels, {theirs!r}; a model with "
            f"{ours.depth} levels, {ours!r}, cannot start from it"
        )
    state = {name: value.clone() for name, value in network.state_dict().items()}
    tensors = source.state_dict()
    if state.keys() != tensors.keys():
        raise CheckpointError(
            f"{path} contains {config.architecture} with {config.backbone}, which is not the "
            "network to be trained"
        )
    copied: set[str] = set()
    levels = network.classifiers()
    for name, value in tensors.items():
        level = levels.get(name.rpartition(".")[0])
        if level is not None:
            rows, own_rows = theirs.levels[level], ours.levels[level]
            for row in set(rows) & set(own_rows):
                state[name][own_rows.index(row)] = value[rows.index(row)]
                copied.add(row)
        elif state[name].shape == value.shape:
            state[name] = value
        else:
            raise CheckpointError(
                f"{path}: {name} has shape {tuple(value.shape)}, not {tuple(state[name].shape)}; "
                "the initial model must have the same backbone and width"
            )
    network.load_state_dict(state, strict=True)
    return sorted(copied)
