"""Checkpoints to publish."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, safe_open, save_file

from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.weights import fetch as weights_hub
from mdan_zoo.weights.checkpoint import save_checkpoint
from mdan_zoo.zoo.configs import MODELS
from mdan_zoo.zoo.factory import build_network

NAME = "mdan_oasis4"
RELEASED = Path(weights_hub.__file__).parent / f"{NAME}.safetensors"
FLAT = RELEASED.with_name("flat_oasis4.safetensors")
OWN_TREE = Hierarchy.from_nested({"like": ["love", "enjoy"], "dislike": ["bore", "annoy"]}, "likes")


def own_weights(path: Path) -> Path:
    """Write weights of the registered network for another emotion tree."""
    torch.manual_seed(3)
    save_checkpoint(path, build_network(MODELS[NAME], OWN_TREE), MODELS[NAME])
    return path


def rewritten(target: Path, change, source: Path = RELEASED) -> Path:
    """Copy a weight file with its metadata, changing its tensors."""
    with safe_open(str(source), "pt") as file:
        metadata = file.metadata()
    tensors = load_file(source)
    change(tensors)
    save_file(tensors, target, metadata)
    return target


def retrained(target: Path) -> Path:
    return rewritten(target, lambda tensors: tensors["global_classifier.bias"].add_(1))


def logits(network) -> torch.Tensor:
    torch.manual_seed(0)
    with torch.no_grad():
        return network.eval()(torch.randn(2, 3, 64, 64)).logits["global"][0]
