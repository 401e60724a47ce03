"""Input specification: size, crop and normalisation of the input of a network."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from mdan_zoo._util.numbers import is_number
from mdan_zoo.errors import InputError

STRIDE = 32
"""Sides of an input image must be multiples of this."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
MAX_RESIZE = 4096


@dataclass(frozen=True)
class InputSpec:
    """Preprocessing parameters, which are part of the weights.

    Attributes:
        resize: Pixels of the shorter side after resizing, up to 4096.
        crop: Side of the centre crop in pixels; a multiple of 32.
        mean: Mean of each channel (red, green, blue) on a scale of 0 to 1, which is subtracted.
        std: Standard deviation of each channel, by which it is divided.
        interpolation: "bilinear" or "bicubic", both antialiased.
        resize_mode: "crop" keeps the aspect ratio, so the centre crop loses the ends of the longer
            side; "squash" resizes both sides to `resize`, so the crop covers the whole image.
    """

    resize: int = 512
    crop: int = 448
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    resize_mode: Literal["crop", "squash"] = "crop"

    def __post_init__(self) -> None:
        for name, values in (("mean", self.mean), ("std", self.std)):
            three = isinstance(values, (tuple, list)) and len(values) == 3
            if not three or not all(map(is_number, values)):
                raise InputError(f"{name} must be three finite numbers, not {values!r}")
        if min(self.std) <= 0:
            raise InputError(f"std must be above 0, not {self.std}")
        if type(self.crop) is not int or self.crop < STRIDE or self.crop % STRIDE:
            raise InputError(f"crop must be a multiple of {STRIDE}, not {self.crop!r}")
        if type(self.resize) is not int or not self.crop <= self.resize <= MAX_RESIZE:
            raise InputError(
                f"resize must be a number of pixels from the crop of {self.crop} to {MAX_RESIZE}, "
                f"not {self.resize!r}"
            )
        if self.interpolation not in ("bilinear", "bicubic"):
            raise InputError(
                f"interpolation must be 'bilinear' or 'bicubic', not {self.interpolation!r}"
            )
        if self.resize_mode not in ("crop", "squash"):
            raise InputError(f"resize_mode must be 'crop' or 'squash', not {self.resize_mode!r}")

    @property
    def resize_to(self) -> int | tuple[int, int]:
        """The size argument of torchvision's `Resize`: the shorter side, or both sides."""
        return self.resize if self.resize_mode == "crop" else (self.resize, self.resize)

    def resized(self, size: int, mode: Literal["crop", "squash"] | None = None) -> InputSpec:
        """Return the input with another crop size in pixels, and resize mode if given.

        Crops keep their share of the resized image; squashed images are always covered whole.
        """
        mode = mode or self.resize_mode
        resize = size if mode == "squash" else round(self.resize * size / self.crop)
        return replace(self, resize=resize, crop=size, resize_mode=mode)
