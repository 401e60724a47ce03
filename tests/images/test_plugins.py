"""Formats that Pillow does not read by itself: read if the package is installed, else named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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


@pytest.mark.parametrize(("suffix", "plugin"), [("heic", "pillow_heif"), ("jxl", "pillow_jxl")])
def test_an_installed_package_is_used(suffix, plugin, tmp_path):
    pytest.importorskip(plugin, reason=f"needs {plugin}")
    code = f"""
import sys
import numpy as np
import {plugin}
from PIL import Image
if {plugin!r} == "pillow_heif":
    {plugin}.register_heif_opener()
turned = Image.Exif()
turned[0x0112] = 6
image = Image.new("RGB", (64, 32), "red")
image.save(sys.argv[1], quality=100, exif=turned.tobytes())
"""
    path = tmp_path / f"a.{suffix}"
    subprocess.run([sys.executable, "-c", code, path], check=True)
    code = """
import sys
from mdan_zoo.images.load import load_image
image = load_image(sys.argv[1])
print(image.mode, image.size, max(map(abs, (a - b for a, b in zip(image.getpixel((9, 9)), (255, 0, 0))))))
data = open(sys.argv[1], "rb").read()
try:
    load_image(data[:len(data) // 2])
except Exception as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, path], check=True, capture_output=True, text=True
    )
    print(done.stdout)
