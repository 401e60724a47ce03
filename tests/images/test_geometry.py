"""Geometry of maps that are laid over the image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from mdan_zoo.images.geometry import Region, lay_over, seen_region
from mdan_zoo.images.input_spec import InputSpec
from mdan_zoo.images.preprocessing import Preprocessing

SPECS = [
    InputSpec(resize=320, crop=320),
    InputSpec(resize=512, crop=448),
    InputSpec(resize=320, crop=320, resize_mode="squash"),
    InputSpec(resize=512, crop=448, resize_mode="squash"),
]
SIZES = [(640, 480), (300, 451), (901, 100), (100, 402), (320, 320), (77, 53), (2000, 1501)]


@pytest.mark.parametrize(
    "spec", SPECS, ids=lambda spec: f"{spec.resize}-{spec.crop}-{spec.resize_mode}"
)
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("axis", [0, 1], ids=["x", "y"])
def test_what_preprocessing_cut_out_is_laid_back_where_it_was(axis, size, spec):
    """Every pixel holds its own place; the crop of that image must come back to the same."""
    width, height = size
    places = np.broadcast_to(
        np.arange(width) + 0.5 if axis == 0 else np.arange(height)[:, None] + 0.5, (height, width)
    ).astype(np.float32)
    crop = Preprocessing(spec).crop(Image.fromarray(places))[0].numpy()
    assert crop.shape == (spec.crop, spec.crop)
    laid = lay_over(crop, seen_region(size, spec), size)

    seen = ~np.isnan(laid)
    kept = min(max(size), 4 * min(size)) if spec.resize_mode == "squash" else min(size)
    longer, shorter = (side * spec.crop / spec.resize for side in (kept, min(size)))
    assert abs(seen.sum() - longer * shorter) < 3 * longer
    # Within a pixel of the image's and of the map's edges, resizing and laying back are flat.
    inner = seen.copy()
    edge = max(2, -(-2 * kept // spec.resize))
    inner[:edge] = inner[-edge:] = False
    inner[:, :edge] = inner[:, -edge:] = False
    inner &= np.abs(laid - np.nanmin(laid)) > edge
    inner &= np.abs(laid - np.nanmax(laid)) > edge
    assert inner.sum() > 0.5 * seen.sum()
    assert np.abs(laid - places)[inner].max() < 0.1


def test_over_the_whole_image_it_is_torch_s_bilinear_interpolation():
    feature_map = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
    laid = lay_over(feature_map, Region(0, 0, 60, 35), (60, 35))
    expected = F.interpolate(
        torch.from_numpy(feature_map)[None, None], (35, 60), mode="bilinear", align_corners=False
    )
    assert laid.dtype == np.float32
    np.testing.assert_allclose(laid, expected[0, 0].numpy(), atol=1e-5)


def test_outside_the_region_there_is_nothing():
    laid = lay_over(np.ones((2, 2), np.float32), Region(2.4, 0.0, 5.6, 3.0), (8, 3))
    seen = np.array([False, False, True, True, True, True, False, False])  # centres 2.5 to 5.5
    assert (np.isnan(laid) == ~seen).all()
    assert (laid[:, seen] == 1).all()
