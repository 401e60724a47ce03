"""Helpers of the image tests."""

from __future__ import annotations

import io
import queue
import struct
import threading
import zlib

import numpy as np
import pytest
from PIL import Image

from mdan_zoo.errors import ImageError
from mdan_zoo.images.load import DEFAULT_OPTIONS, ImageLike, ImageOptions, load_image

PIXELS = np.random.default_rng(7).integers(0, 256, (5, 7, 3), np.uint8)  # (H, W, C)


def encoded(image: Image.Image, file_format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def pixels(image: ImageLike, options: ImageOptions = DEFAULT_OPTIONS) -> np.ndarray:
    """Load an image, check what holds for every image, and return its (H, W, 3) values."""
    loaded = load_image(image, options)
    assert loaded.mode == "RGB"
    assert type(loaded) is Image.Image
    assert loaded is not image
    assert loaded.info == {}
    return np.array(loaded)


def refusal(image: ImageLike, options: ImageOptions = DEFAULT_OPTIONS) -> str:
    with pytest.raises(ImageError) as caught:
        load_image(image, options)
    return str(caught.value)


def prompt_refusal(image: ImageLike, options: ImageOptions = DEFAULT_OPTIONS) -> str:
    """`refusal` for images that could hang: a hang fails the test and does not stop the run."""
    message: queue.SimpleQueue[str] = queue.SimpleQueue()
    work = threading.Thread(target=lambda: message.put(refusal(image, options)), daemon=True)
    work.start()
    return message.get(timeout=60)


def png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_header(width: int, height: int) -> bytes:
    """The start of a grey 1-bit PNG of any size."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header)
