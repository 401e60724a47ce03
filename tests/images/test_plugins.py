"""Formats that Pillow does not read by itself: read if the package is installed, else named."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import pytest
from image_helpers import refusal
from PIL import Image

HEIC = "HEIC images need the package pillow-heif"
AVIF = "AVIF images need Pillow 11.3 or newer, or the package pillow-avif-plugin"
JXL = "JPEG XL images need the package pillow-jxl-plugin"


def container(major: bytes, *compatible: bytes) -> bytes:
    brands = b"ftyp" + major + bytes(4) + b"".join(compatible)
    return (len(brands) + 4).to_bytes(4, "big") + brands


@pytest.mark.parametrize(
    ("file_format", "data", "reason"),
    [
        ("HEIF", container(b"heic", b"mif1", b"heic"), HEIC),
        ("HEIF", container(b"mif1", b"mif1", b"heic", b"miaf"), HEIC),
        ("HEIF", container(b"mif1", b"miaf"), HEIC),
        ("HEIF", container(b"mif1", b"miaf", b"MiHB"), HEIC),
        ("AVIF", container(b"avif", b"mif1", b"miaf"), AVIF),
        ("AVIF", container(b"mif1", b"avif", b"miaf"), AVIF),
        ("JXL", b"\xff\x0a" + bytes(20), JXL),
        ("JXL", b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(20), JXL),
    ],
    ids=repr,
)
def test_the_package_that_reads_a_format_is_named(file_format, data, reason, monkeypatch, tmp_path):
    for module in ("pillow_heif.HeifImagePlugin", "pillow_jxl", "pillow_avif"):
        monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    monkeypatch.delitem(Image.OPEN, file_format, raising=False)
    monkeypatch.setattr(Image, "ID", [name for name in Image.ID if name != file_format])
    monkeypatch.setattr(Image, "init", lambda: None)
    path = tmp_path / "a"
    path.write_bytes(data)
    assert refusal(path) == f"{path}: {reason}"


def test_an_mp4_film_is_not_called_an_image():
    assert "not an image that Pillow can read" in refusal(container(b"isom", b"isom", b"mp41"))


SAVE = """
import {plugin}
from PIL import Image
exif = Image.Exif()
exif[0x0112] = 6  # HEIC turns the pixels; JPEG XL ignores it, unless the file contains a JPEG file
image = Image.new("RGB", (64, 32), "red")
image.save("a.jpg", exif=exif)
image.save("a.{suffix}", quality=95, exif=exif.tobytes())
Image.open("a.jpg").save("b.{suffix}", quality=95, exif=exif.tobytes())
"""

LOAD = """
from pathlib import Path
from mdan_zoo.images.load import load_image
for path in sorted(Path().glob("*.{suffix}")):
    image = load_image(path)
    red, green, blue = image.getpixel((9, 9))
    print(image.mode, image.size, red > 230 and green < 25 and blue < 25)
    data = path.read_bytes()
    try:
        load_image(data[: len(data) // 2])
    except ValueError as error:
        print("a damaged or incomplete {file_format} file" in str(error))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("suffix", "file_format", "plugin", "sizes"),
    [
        ("heic", "HEIF", "pillow_heif.HeifImagePlugin", [(32, 64), (32, 64)]),
        ("jxl", "JXL", "pillow_jxl", [(64, 32), (32, 64)]),
    ],
)
def test_an_installed_package_is_used(suffix, file_format, plugin, sizes, tmp_path):
    package = plugin.partition(".")[0]
    if find_spec(package) is None:
        pytest.skip(f"needs {package}")
    printed = []
    for code in (SAVE, LOAD):  # in other processes, since Pillow keeps plugins for good
        code = code.format(suffix=suffix, file_format=file_format, plugin=plugin)
        command = [sys.executable, "-W", "ignore", "-c", code]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        printed += done.stdout.splitlines()
    assert printed == [line for size in sizes for line in (f"RGB {size} True", "True")]
