"""From an RGB image to the network's input, as the weights' `InputSpec` says."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2  # type: ignore[import-untyped, unused-ignore]

from mdan_zoo.images.input_spec import InputSpec

MAX_ASPECT = 4
"""Only the central part, this many times as long as the shorter side, of a longer image is read.

A line of 1 x 5000 pixels, say, would else be resized to 512 x 2,560,000 before its centre is cut.
"""


class Preprocessing:
    """Resize, centre crop, scale and normalise.

    `crop` is the processor's work, image by image; `normalise` the device's, batch by batch.

    Args:
        spec: Sizes, interpolation, mean and standard deviation.
    """

    def __init__(self, spec: InputSpec) -> None:
        self.spec = spec
        interpolation = v2.InterpolationMode(spec.interpolation)
        self._resize = v2.Resize(spec.resize, interpolation)  # Pillow always antialiases
        self._cut = v2.CenterCrop(spec.crop)
        self._to_tensor = v2.PILToTensor()
        self._scale = v2.ToDtype(torch.float32, scale=True)
        self._standardise = v2.Normalize(list(spec.mean), list(spec.std))

    def crop(self, image: Image.Image) -> Tensor:
        """Resize an RGB image of any size and cut out its centre; returns uint8 (3, S, S)."""
        pixels: Tensor = self._to_tensor(self._cut(self._resize(without_far_ends(image))))
        return pixels

    def normalise(self, pixels: Tensor) -> Tensor:
        """Return what the network takes, float32 (N, 3, S, S), of `crop`'s uint8 (N, 3, S, S)."""
        inputs: Tensor = self._standardise(self._scale(pixels))
        return inputs


def without_far_ends(image: Image.Image) -> Image.Image:
    """Cut an extremely long image to its centre, which keeps everything that is looked at."""
    short, long = sorted(image.size)
    length = MAX_ASPECT * short + (long - MAX_ASPECT * short) % 2  # as much is cut at either end
    if length >= long:
        return image
    start = (long - length) // 2
    if image.width > image.height:
        return image.crop((start, 0, start + length, image.height))
    return image.crop((0, start, image.width, start + length))
