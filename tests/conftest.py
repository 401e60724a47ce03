"""A network with seeded random weights, as a file, and images that it tells apart.

What needs torch is imported where it is used: the tests of the hub also run without it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from random_weights import save_random_weights

from mdan_zoo.zoo.factory import MODELS

if TYPE_CHECKING:
    from mdan_zoo.inference.predictor import Predictor


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
    from mdan_zoo.inference.predictor import Predictor

    return Predictor(checkpoint=checkpoint, device="cpu")


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> list[Path]:
    """Seven image files of different sizes and contents."""
    import numpy as np
    from PIL import Image

    folder = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(1)
    sizes = [(60, 80), (500, 350), (33, 20), (352, 352), (128, 400), (64, 64), (700, 90)]
    for number, (width, height) in enumerate(sizes):
        coarse = generator.integers(0, 256, (5, 7, 3), np.uint8)
        image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        image.save(folder / f"photo{number}.png")
    return sorted(folder.iterdir())
