"""Input specification: values and the two resize modes."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from mdan_zoo.errors import InputError
from mdan_zoo.images.input_spec import InputSpec
from mdan_zoo.images.preprocessing import Preprocessing


def stripes() -> Image.Image:
    """Return an image of 128 x 64 pixels whose outer quarters are red and blue."""
    pixels = np.zeros((64, 128, 3), np.uint8)
    pixels[:, :32, 0] = 255
    pixels[:, -32:, 2] = 255
    return Image.fromarray(pixels)


def test_crop_loses_the_ends_of_the_longer_side():
    crop = Preprocessing(InputSpec(resize=64, crop=64)).crop(stripes())
    assert crop.shape == (3, 64, 64)
    assert crop.max() == 0


def test_squash_shows_the_whole_image():
    crop = Preprocessing(InputSpec(resize=64, crop=64, resize_mode="squash")).crop(stripes())
    assert crop.shape == (3, 64, 64)
    np.testing.assert_array_equal(crop[0, :, :15], 255)
    np.testing.assert_array_equal(crop[2, :, -15:], 255)
    assert crop[:, :, 18:-18].max() == 0


def test_an_unknown_resize_mode_is_an_error():
    with pytest.raises(InputError, match="resize_mode must be 'crop' or 'squash', not 'stretch'"):
        InputSpec(resize_mode="stretch")


def test_resized_keeps_the_share_of_the_crop():
    spec = InputSpec(resize=512, crop=448)
    assert spec.resized(224) == InputSpec(resize=256, crop=224)
    assert spec.resized(224, "squash") == InputSpec(resize=224, crop=224, resize_mode="squash")
    with pytest.raises(InputError, match="crop must be a multiple of 32, not 100"):
        spec.resized(100)
