"""The orientation in EXIF and XMP, and metadata that are damaged."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import pytest
from image_helpers import PIXELS, encoded, pixels
from PIL import Image, ImageOps, PngImagePlugin

from mdan_zoo.images.load import load_image

pytestmark = pytest.mark.filterwarnings("error")

RGB = Image.fromarray(PIXELS)


def stored_as(orientation: int, shown: np.ndarray) -> Image.Image:
    """How a camera that is held that way stores an image: the inverse of what a viewer does."""
    stored = {
        1: shown,
        2: shown[:, ::-1],
        3: shown[::-1, ::-1],
        4: shown[::-1],
        5: shown.transpose(1, 0, 2),
        6: np.rot90(shown, 1),
        7: shown[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(shown, -1),
    }[orientation]
    return Image.fromarray(np.ascontiguousarray(stored))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("file_format", "options"),
    [
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
    ],
)
def test_orientation(file_format, options, orientation, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(stored_as(orientation, PIXELS), file_format, exif=exif, **options)
    path = tmp_path / "image"
    path.write_bytes(data)
    np.testing.assert_array_equal(pixels(path), PIXELS)
    with Image.open(path) as lazy:
        np.testing.assert_array_equal(pixels(lazy), PIXELS)
        np.testing.assert_array_equal(pixels(lazy), PIXELS)
    turned_again = ImageOps.exif_transpose(load_image(path))
    np.testing.assert_array_equal(np.array(turned_again), PIXELS)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_jpeg(orientation):
    """Plain squares of 8 pixels survive JPEG, so each corner is known by its colour."""
    corners = np.array([[(255, 0, 0), (0, 255, 0), (9, 9, 9)], [(0, 0, 255)] * 3], np.uint8)
    shown = corners.repeat(8, 0).repeat(8, 1)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = stored_as(orientation, shown)
    data = encoded(stored, "JPEG", exif=exif, quality=100, subsampling=0)
    np.testing.assert_allclose(pixels(data).astype(int), shown, atol=3)


def test_orientation_in_xmp():
    metadata = PngImagePlugin.PngInfo()
    metadata.add_itxt("XML:com.adobe.xmp", '<x:xmpmeta><d tiff:Orientation="3"/></x:xmpmeta>')
    data = encoded(stored_as(3, PIXELS), "PNG", pnginfo=metadata)
    np.testing.assert_array_equal(pixels(data), PIXELS)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_unknown_orientation_is_ignored(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(pixels(encoded(RGB, "PNG", exif=exif)), PIXELS)


def damaged_exif() -> Iterator[bytes]:
    exif = Image.Exif()
    exif[0x0112] = 1
    exif[0x010F] = "maker" * 5
    exif.get_ifd(0x8769)[0x9003] = "2001:02:03 04:05:06"
    good = exif.tobytes()
    yield from (good[:length] for length in range(7, len(good), 5))
    random = np.random.default_rng(9)
    for _ in range(100):
        damaged = bytearray(good)
        for place in random.integers(6, len(good), 4):
            damaged[place] = random.integers(256)
        yield bytes(damaged)


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP"])
def test_damaged_exif_does_not_fail_a_good_image(file_format):
    options = {"lossless": True} if file_format == "WEBP" else {}
    good = pixels(encoded(RGB, file_format, **options)).astype(int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns about damaged EXIF as it opens a JPEG
        for exif in damaged_exif():
            image = pixels(encoded(RGB, file_format, exif=exif, **options)).astype(int)
            assert sorted(image.ravel()) == sorted(good.ravel())  # however it was turned
