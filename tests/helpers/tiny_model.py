"""A weight file of a tiny MDAN, and a folder of images to fine-tune it on in seconds."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from PIL import Image

from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.images.input_spec import InputSpec
from mdan_zoo.models.options import MDANOptions
from mdan_zoo.weights.checkpoint import save_checkpoint
from mdan_zoo.zoo.configs import MODELS
from mdan_zoo.zoo.factory import build_network

CONFIG = dataclasses.replace(
    MODELS["mdan_fi8"],
    backbone="resnet18",
    options=MDANOptions(dim=16),
    input=InputSpec(resize=64, crop=64),
)
OWN_TREE = Hierarchy.from_nested({"pleasant": ["awe", "calm"], "unpleasant": ["fear", "gloom"]})
COLOURS = {"awe": (230, 60, 60), "calm": (60, 200, 60), "fear": (20, 20, 60), "gloom": (90, 90, 90)}


def write_tiny_model(path: Path) -> Path:
    """Write random weights of a model for Mikels' eight emotions."""
    torch.manual_seed(11)
    save_checkpoint(path, build_network(CONFIG), CONFIG)
    return path


def write_own_data(folder: Path, images: int = 6, seed: int = 0) -> Path:
    """Write a folder of images for every class of `OWN_TREE`; another seed gives others."""
    for name, ground in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for number in range(images):
            image = Image.new("RGB", (90, 70), ground)
            colour = (7 * number, 90 + 40 * seed, 200 - number)
            image.paste(colour, (6 * number, 10, 6 * number + 20, 50))
            image.save(folder / name / f"{number}.jpg", quality=95)
    return folder
