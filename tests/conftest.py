"""A network with seeded random weights, as a file, and pictures that it tells apart.

What needs torch is imported where it is used: the tests of the hub also run without it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mdan_zoo.config import InputSpec, ModelConfig
from mdan_zoo.models.options import MDANOptions
from mdan_zoo.zoo import MODELS

if TYPE_CHECKING:
    from mdan_zoo.predictor import Predictor

CONFIG = ModelConfig(
    "mdan_oasis4",
    "circumplex4",
    "OASIS",
    backbone="mobilenetv2_100",
    options=MDANOptions(dim=64, normalise_pyramid=True),
    input=InputSpec(resize=256, crop=224, mean=(0.4, 0.5, 0.6), std=(0.5, 0.25, 0.2)),
)


def save_random_weights(path: Path, hierarchy=None, config=CONFIG) -> None:
    """Write a weight file whose network gives clearly different answers to different pictures."""
    import torch

    from mdan_zoo.checkpoint import save_checkpoint
    from mdan_zoo.zoo import build_network

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        network = build_network(config, hierarchy)
        for _ in range(10):  # or the untrained BatchNorms let nothing through
            network(torch.randn(8, 3, 64, 64))
        for name, parameter in network.named_parameters():
            if "classifier" in name and name.endswith("weight"):
                parameter.normal_(std=0.2 if name.startswith("global") else 0.1)
    save_checkpoint(path, network, config)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    """A weight file with random weights."""
    path = tmp_path_factory.mktemp("checkpoint") / "random.safetensors"
    save_random_weights(path)
    return path


@pytest.fixture(scope="session")
def random_checkpoint(tmp_path_factory) -> Path:
    """A weight file with random weights for mdan_oasis4 as it is registered."""
    path = tmp_path_factory.mktemp("checkpoint") / "registered.safetensors"
    save_random_weights(path, config=MODELS["mdan_oasis4"])
    return path


@pytest.fixture(scope="session")
def predictor(checkpoint) -> Predictor:
    from mdan_zoo.predictor import Predictor

    return Predictor(checkpoint=checkpoint, device="cpu")


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> list[Path]:
    """Seven picture files of different sizes and contents."""
    import numpy as np
    from PIL import Image

    folder = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(1)
    sizes = [(60, 80), (500, 350), (33, 20), (352, 352), (128, 400), (64, 64), (700, 90)]
    for number, (width, height) in enumerate(sizes):
        coarse = generator.integers(0, 256, (5, 7, 3), np.uint8)
        picture = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        picture.save(folder / f"photo{number}.png")
    return sorted(folder.iterdir())
