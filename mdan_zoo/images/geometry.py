"""Positions of a feature map in pixels of the image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mdan_zoo.images.input_spec import InputSpec
from mdan_zoo.images.preprocessing import MAX_ASPECT

Map = npt.NDArray[np.float32]
"""Values of a map, (H, W)."""


@dataclass(frozen=True)
class Region:
    """A rectangle in (fractional) pixels of an image, as in a box of PIL."""

    left: float
    top: float
    right: float
    bottom: float


def seen_region(size: tuple[int, int], spec: InputSpec) -> Region:
    """Return the part of an upright image of this width and height that the network sees."""
    # The steps of `Preprocessing`: crop long ends, resize, crop the centre.
    short = min(size)
    longest = MAX_ASPECT * short
    kept = [side if side <= longest else longest + (side - longest) % 2 for side in size]
    if spec.resize_mode == "crop":
        resized = [int(spec.resize * side / short) for side in kept]
    else:
        resized = [spec.resize, spec.resize]
    starts, ends = [], []
    for side, inner, after in zip(size, kept, resized, strict=True):
        first = round((after - spec.crop) / 2)
        offset, scale = (side - inner) // 2, inner / after
        starts.append(offset + first * scale)
        ends.append(offset + (first + spec.crop) * scale)
    return Region(*starts, *ends)


def lay_over(feature_map: Map, region: Region, size: tuple[int, int]) -> Map:
    """Interpolate a map (h, w) of a region bilinearly to the pixels of an image.

    The interpolation is that of `torch.nn.functional.interpolate(..., align_corners=False)`. The
    result has the shape (height, width), with NaN for pixels whose centre is outside the region.
    """
    width, height = size
    across = _interpolation(feature_map.shape[1], region.left, region.right, width)
    down = _interpolation(feature_map.shape[0], region.top, region.bottom, height)
    laid: Map = down @ feature_map @ across.T
    return laid


def _interpolation(cells: int, start: float, end: float, pixels: int) -> npt.NDArray[np.float32]:
    """Return bilinear interpolation along one axis as a matrix (pixels, cells)."""
    place = (np.arange(pixels) + 0.5 - start) / (end - start)  # 0 at the region's start, 1 at end
    cell = np.clip(place * cells - 0.5, 0, cells - 1)
    weights = np.maximum(0, 1 - np.abs(cell[:, None] - np.arange(cells)))
    weights[(place < 0) | (place > 1)] = np.nan
    matrix: npt.NDArray[np.float32] = weights.astype(np.float32)
    return matrix
