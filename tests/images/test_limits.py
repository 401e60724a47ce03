"""The limits of pixels and bytes, Pillow's own limits, and the checks of the options."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import PIL
import pytest
import torch
from image_helpers import PIXELS, encoded, pixels, png_chunk, png_header, refusal
from PIL import Image, ImageFile

from mdan_zoo.errors import InputError
from mdan_zoo.images.load import ImageOptions, load_image

pytestmark = pytest.mark.filterwarnings("error")

PNG = encoded(Image.fromarray(PIXELS))


@pytest.fixture
def png(tmp_path) -> Path:
    path = tmp_path / "image.png"
    path.write_bytes(PNG)
    return path


def test_huge_header_is_refused_before_decoding():
    bomb = png_header(20_000, 10_000) + png_chunk(b"IDAT", b"")
    assert refusal(bomb) == (
        f"{len(bomb)} bytes: 20000x10000 = 200000000 pixels are above max_pixels=100000000"
    )


def test_limit_of_pixels_is_exact_for_every_input(png):
    tensor = torch.from_numpy(PIXELS).permute(2, 0, 1)
    for image in (png, PNG, io.BytesIO(PNG), Image.fromarray(PIXELS), PIXELS, tensor):
        np.testing.assert_array_equal(pixels(image, ImageOptions(max_pixels=35)), PIXELS)
        assert "7x5 = 35 pixels are above max_pixels=34" in refusal(
            image, ImageOptions(max_pixels=34)
        )


def test_limit_of_bytes_is_exact_for_every_encoded_input(png):
    for image in (png, PNG, io.BytesIO(PNG)):
        pixels(image, ImageOptions(max_bytes=len(PNG)))
        assert "above max_bytes" in refusal(image, ImageOptions(max_bytes=len(PNG) - 1))


def test_endless_file_object():
    with open("/dev/zero", "rb") as file:
        assert "above max_bytes=100000" in refusal(file, ImageOptions(max_bytes=100_000))


def test_pillow_warns_and_we_do_not():
    data = encoded(Image.new("1", (9_500, 10_000)), compress_level=1)
    with pytest.raises(Image.DecompressionBombWarning):
        Image.open(io.BytesIO(data))
    image = load_image(data)
    assert image.size == (9_500, 10_000)
    assert image.getextrema() == ((0, 0), (0, 0), (0, 0))


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "GIF", "TIFF", "BMP", "JPEG2000"])
def test_pillows_own_limit_does_not_matter(file_format, monkeypatch):
    data = encoded(Image.fromarray(PIXELS), file_format)
    expected = np.array(Image.open(io.BytesIO(data)).convert("RGB"))
    for limit in (10, 20):  # Pillow refuses above twice the limit, and warns above it
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        np.testing.assert_array_equal(pixels(data), expected)
        assert limit == Image.MAX_IMAGE_PIXELS


@pytest.mark.skipif(int(PIL.__version__.split(".")[0]) < 13, reason="Pillow < 13 has no such limit")
def test_pillow_refuses_large_webp(monkeypatch):
    data = encoded(Image.fromarray(PIXELS), "WEBP")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert "rejected by Pillow, whose limit is PIL.Image.MAX_IMAGE_PIXELS" in refusal(data)


def test_truncated_stays_an_error_and_settings_stay_the_same():
    before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
    refusal(encoded(Image.effect_noise((64, 64), 90), "JPEG")[:-200])
    load_image(PNG)
    assert before == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)


@pytest.mark.parametrize(
    "values",
    [
        {"background": (255, 255)},
        {"background": (255, 255, 256)},
        {"background": "red"},
        {"background": None},
        {"shrink_to": "x"},
        {"background": (0.5, 0.5, 0.5)},
        {"max_pixels": 0},
        {"max_pixels": "100"},
        {"max_pixels": True},
        {"max_bytes": -1},
        {"timeout": 0},
        {"timeout": float("inf")},
        {"timeout": float("nan")},
    ],
)
def test_options_are_checked(values):
    with pytest.raises(InputError, match=next(iter(values))):
        ImageOptions(**values)
