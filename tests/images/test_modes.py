"""Modes, transparency and file formats, to the exact value."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from image_helpers import PIXELS, encoded, pixels, png_chunk, refusal
from PIL import Image

from mdan_zoo.images.load import ImageOptions, load_image

pytestmark = pytest.mark.filterwarnings("error")

GREY = PIXELS[:, :, 0]
RGB = Image.fromarray(PIXELS)
ALPHA = np.random.default_rng(8).integers(0, 256, (5, 7), np.uint8)


def grey_rgb(grey: np.ndarray) -> np.ndarray:
    return np.stack([grey] * 3, 2)


def composed(rgb: np.ndarray, alpha: np.ndarray, background=(255, 255, 255)) -> np.ndarray:
    """The exact blend, rounded to the nearest integer."""
    weight = alpha[:, :, None].astype(int)
    total = rgb.astype(int) * weight + np.array(background) * (255 - weight)
    return ((2 * total + 255) // 510).astype(np.uint8)


# File formats


@pytest.mark.parametrize(
    ("file_format", "options"),
    [
        ("PNG", {}),
        ("BMP", {}),
        ("DIB", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_adobe_deflate"}),
        ("TIFF", {"compression": "packbits"}),
        ("PPM", {}),
        ("TGA", {}),
        ("TGA", {"compression": "tga_rle"}),
        ("SGI", {}),
        ("PCX", {}),
        ("DDS", {}),
        ("WEBP", {"lossless": True}),
        ("JPEG2000", {}),
    ],
)
def test_lossless_formats(file_format, options):
    np.testing.assert_array_equal(pixels(encoded(RGB, file_format, **options)), PIXELS)


@pytest.mark.parametrize(
    ("file_format", "options"),
    [("JPEG", {}), ("JPEG", {"progressive": True}), ("WEBP", {}), ("GIF", {})],
)
def test_lossy_formats(file_format, options):
    data = encoded(RGB, file_format, **options)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.array(image.convert("RGB"))
    np.testing.assert_array_equal(pixels(data), expected)


@pytest.mark.parametrize("file_format", ["ICO", "ICNS"])
def test_icons(file_format):
    data = encoded(RGB.resize((128, 128)), file_format)
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        expected = np.array(image.convert("RGB"))
    np.testing.assert_array_equal(pixels(data), expected)


@pytest.mark.parametrize(
    ("file_format", "options"),
    [
        ("GIF", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
    ],
)
def test_first_frame(file_format, options):
    frames = [Image.new("RGB", (7, 5), colour) for colour in ("red", "lime", "blue")]
    data = encoded(frames[0], file_format, save_all=True, append_images=frames[1:], **options)
    np.testing.assert_array_equal(pixels(data), np.array(frames[0]))
    with Image.open(io.BytesIO(data)) as image:
        assert image.n_frames == 3
        image.seek(2)
        np.testing.assert_array_equal(pixels(image), np.array(frames[2]))
        assert image.tell() == 2


def test_first_image_of_a_camera_file_with_two():
    other = RGB.rotate(180)
    data = encoded(RGB, "MPO", save_all=True, append_images=[other], quality=100, subsampling=0)
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.n_frames) == ("MPO", 2)
        expected = np.array(image)
    np.testing.assert_array_equal(pixels(data), expected)
    np.testing.assert_allclose(pixels(data).astype(int), PIXELS, atol=4)


# Modes without alpha


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV"])
def test_modes_that_pillow_converts_well(mode):
    image = RGB.convert(mode)
    np.testing.assert_array_equal(pixels(image), np.array(image.convert("RGB")))


@pytest.mark.parametrize(
    ("file_format", "mode"),
    [
        *[("PNG", mode) for mode in ("1", "L", "P")],
        *[("TIFF", mode) for mode in ("1", "L", "P", "CMYK")],
        *[("JPEG", mode) for mode in ("L", "CMYK", "YCbCr")],
    ],
)
def test_modes_of_file_formats(file_format, mode):
    data = encoded(RGB.convert(mode), file_format)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.array(image.convert("RGB"))
    np.testing.assert_array_equal(pixels(data), expected)


@pytest.mark.parametrize(("lightness", "grey"), [(0, 0), (255, 255)])
def test_lab(lightness, grey):
    """CIE L*a*b* in 8 bits: L is scaled to 0..255, a and b are moved up by 128."""
    bands = [Image.new("L", (1, 1), value) for value in (lightness, 128, 128)]
    loaded = Image.merge("LAB", bands)
    for image in (loaded, encoded(loaded, "TIFF")):
        np.testing.assert_allclose(pixels(image).astype(int), [[[grey] * 3]], atol=1)


# 16 bits and more


@pytest.fixture(scope="module")
def every_value() -> np.ndarray:
    return np.arange(65536, dtype=np.uint16).reshape(256, 256)


def test_every_16_bit_value(every_value):
    expected = grey_rgb(np.rint(every_value / 257).astype(np.uint8))
    loaded = Image.fromarray(every_value)
    assert loaded.mode == "I;16"
    big_endian = Image.frombytes("I;16B", (256, 256), every_value.astype(">u2").tobytes())
    pgm = b"P5 256 256 65535\n" + every_value.astype(">u2").tobytes()
    for image in (
        loaded,
        big_endian,
        loaded.convert("I"),
        encoded(loaded, "PNG"),
        encoded(loaded, "TIFF"),
        encoded(big_endian, "TIFF"),
        encoded(loaded, "JPEG2000"),
        pgm,
    ):
        np.testing.assert_array_equal(pixels(image), expected)


def test_dark_16_bit_images_stay_dark(every_value):
    dark = every_value[:1, :200].copy()
    expected = grey_rgb(np.rint(dark / 257).astype(np.uint8))
    pgm = b"P5 200 1 65535\n" + dark.astype(">u2").tobytes()
    loaded = Image.fromarray(dark)
    for image in (loaded, encoded(loaded, "PNG"), encoded(loaded, "TIFF"), pgm):
        np.testing.assert_array_equal(pixels(image), expected)


def test_16_bit_value_marked_transparent():
    values = np.array([[0, 1000, 1001, 65535]], np.uint16)
    data = encoded(Image.fromarray(values), "PNG")
    end_of_header = 33
    transparent = png_chunk(b"tRNS", struct.pack(">H", 1000))
    data = data[:end_of_header] + transparent + data[end_of_header:]
    np.testing.assert_array_equal(pixels(data), grey_rgb(np.array([[0, 255, 4, 255]])))


def test_32_bit_integers_with_8_bit_values():
    loaded = Image.fromarray(GREY.astype(np.int32))
    assert loaded.mode == "I"
    for image in (loaded, Image.fromarray(GREY).convert("I"), encoded(loaded, "TIFF")):
        np.testing.assert_array_equal(pixels(image), grey_rgb(GREY))


@pytest.mark.parametrize("value", [-1, 65536])
def test_32_bit_integers_out_of_range(value):
    image = Image.fromarray(np.array([[0, value]], np.int32))
    low, high = min(value, 0), max(value, 0)
    assert refusal(image) == (
        f"PIL image (I, 2x1): its values run from {low} to {high}, not within 0..65535:"
        " scale them to 0..255 first"
    )


@pytest.mark.parametrize("scale", [1, 255])
def test_floats(scale):
    loaded = Image.fromarray((GREY / 255 * scale).astype(np.float32))
    assert loaded.mode == "F"
    for image in (loaded, encoded(loaded, "TIFF")):
        np.testing.assert_array_equal(pixels(image), grey_rgb(GREY))


def test_floats_are_rounded():
    image = Image.fromarray(np.array([[0.4, 0.6, 254.4, 254.6]], np.float32))
    np.testing.assert_array_equal(pixels(image), grey_rgb(np.array([[0, 1, 254, 255]])))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (np.nan, "it has values that are NaN or infinite"),
        (np.inf, "it has values that are NaN or infinite"),
        (-0.5, "its values run from -0.5 to 0.5, within neither 0..1 nor 0..255"),
        (255.5, "its values run from 0.5 to 255.5, within neither 0..1 nor 0..255"),
    ],
)
def test_floats_out_of_range(value, reason):
    image = Image.fromarray(np.array([[0.5, value]], np.float32))
    assert refusal(image).startswith(f"PIL image (F, 2x1): {reason}")


# Transparency


def with_alpha(mode: str) -> Image.Image:
    image = RGB.convert(mode.rstrip("aA"))
    image.putalpha(Image.fromarray(ALPHA))
    return image


@pytest.mark.parametrize("background", [(255, 255, 255), (10, 200, 77)])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_alpha_is_composed(mode, background):
    image = with_alpha(mode)
    assert image.mode == mode
    expected = composed(np.array(image.convert("RGBA"))[:, :, :3], ALPHA, background)
    options = ImageOptions(background=background)
    np.testing.assert_array_equal(pixels(image, options), expected)


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "WEBP", "TGA", "JPEG2000", "SGI"])
def test_alpha_of_file_formats(file_format):
    options = {"lossless": True, "exact": True} if file_format == "WEBP" else {}
    data = encoded(with_alpha("RGBA"), file_format, **options)
    np.testing.assert_array_equal(pixels(data), composed(PIXELS, ALPHA))


def test_known_blend():
    image = Image.new("RGBA", (1, 1), (255, 0, 100, 128))
    assert pixels(image)[0, 0].tolist() == [255, 127, 177]
    hidden = Image.new("RGBA", (1, 1), (12, 34, 56, 0))
    assert pixels(hidden)[0, 0].tolist() == [255, 255, 255]
    assert pixels(hidden, ImageOptions(background=(0, 0, 0)))[0, 0].tolist() == [0, 0, 0]


@pytest.mark.parametrize("mode", ["RGBa", "La"])
def test_premultiplied_alpha(mode):
    straight = with_alpha(mode.upper())
    image = straight.convert(mode)
    expected = pixels(image.convert(mode.upper()))
    np.testing.assert_array_equal(pixels(image), expected)


def test_palette_with_transparency():
    palette = [255, 0, 0, 0, 255, 0, 0, 0, 255]
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8)).convert("P")
    image.putpalette(palette)
    one = pixels(encoded(image, "GIF", transparency=1))
    np.testing.assert_array_equal(one, [[(255, 0, 0), (255, 255, 255), (0, 0, 255)]])
    several = pixels(encoded(image, "PNG", transparency=bytes([255, 0, 51])))
    np.testing.assert_array_equal(several, [[(255, 0, 0), (255, 255, 255), (204, 204, 255)]])


def test_palette_with_alpha():
    image = with_alpha("RGBA").quantize(16)
    assert image.palette.mode == "RGBA"
    rgba = np.array(image.convert("RGBA"))
    expected = composed(rgba[:, :, :3], rgba[:, :, 3])
    np.testing.assert_array_equal(pixels(image), expected)


@pytest.mark.parametrize(("mode", "key"), [("L", 9), ("RGB", (9, 8, 7))])
def test_one_colour_marked_transparent(mode, key):
    image = Image.new(mode, (2, 1), key)
    image.putpixel((0, 0), 3 if mode == "L" else (3, 3, 3))
    data = encoded(image, "PNG", transparency=key)
    np.testing.assert_array_equal(pixels(data), [[(3, 3, 3), (255, 255, 255)]])


@pytest.mark.parametrize("mode", ["P", "PA", "LA", "RGBA", "RGB", "I", "F"])
def test_input_image_is_not_changed(mode):
    image = RGB.convert(mode)
    if mode == "P":
        image.info["transparency"] = bytes(range(256))
    if mode == "RGB":
        image.info["transparency"] = (1, 2, 3)
    image.getexif()[0x0112] = 6
    info, palette = dict(image.info), image.getpalette("RGBA") if "P" in mode else None
    before = image.tobytes()
    load_image(image)
    assert (image.mode, image.size, image.info) == (mode, (7, 5), info)
    assert image.tobytes() == before
    assert image.getexif()[0x0112] == 6
    if palette:
        assert image.getpalette("RGBA") == palette
