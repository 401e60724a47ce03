"""Preprocessing: RGB images to network input, as specified by the `InputSpec` of the weights."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2  # type: ignore[import-untyped, unused-ignore]

from mdan_zoo.images.input_spec import InputSpec

MAX_ASPECT = 4
"""Longer images are first cropped to this aspect ratio, which bounds the size after resizing."""


class Preprocessing:
    """Resize, centre crop, scale and normalise.

    `crop` runs on the CPU, image by image; `normalise` on the device, batch by batch.
    """

    def __init__(self, spec: InputSpec) -> None:
        self.spec = spec
        interpolation = v2.InterpolationMode(spec.interpolation)
        resize = v2.Resize(spec.resize_to, interpolation)  # PIL images are always antialiased
        self._crop = v2.Compose([resize, v2.CenterCrop(spec.crop), v2.PILToTensor()])
        standardise = v2.Normalize(list(spec.mean), list(spec.std))
        self._normalise = v2.Compose([v2.ToDtype(torch.float32, scale=True), standardise])

    def crop(self, image: Image.Image) -> Tensor:
        """Resize an RGB image of any size and crop its centre; returns uint8 (3, S, S)."""
        with torch.device("cpu"):  # not torch's default device
            pixels: Tensor = self._crop(without_far_ends(image))
        return pixels

    def normalise(self, pixels: Tensor) -> Tensor:
        """Convert stacked crops, uint8 (N, 3, S, S), to network input, float32 (N, 3, S, S)."""
        inputs: Tensor = self._normalise(pixels)
        return inputs


def without_far_ends(image: Image.Image) -> Image.Image:
    """Crop the ends of an image longer than `MAX_ASPECT`, which the network does not see."""
    short, long = sorted(image.size)
    length = MAX_ASPECT * short + (long - MAX_ASPECT * short) % 2  # crop both ends equally
    if length >= long:
        return image
    start = (long - length) // 2
    if image.width > image.height:
        return image.crop((start, 0, start + length, image.height))
    return image.crop((0, start, image.width, start + length))
