"""What the tests of pictures share."""

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
from mdan_zoo.images.load import DEFAULT_OPTIONS, ImageOptions, Picture, load_image

PIXELS = np.random.default_rng(7).integers(0, 256, (5, 7, 3), np.uint8)  # (H, W, C)


def encoded(image: Image.Image, file_format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def pixels(picture: Picture, options: ImageOptions = DEFAULT_OPTIONS) -> np.ndarray:
    """Load a picture, check what holds for every picture, and return its (H, W, 3) values."""
    image = load_image(picture, options)
    assert image.mode == "RGB"
    assert type(image) is Image.Image
    assert image is not picture
    assert image.info == {}
    return np.array(image)


def refusal(picture: Picture, options: ImageOptions = DEFAULT_OPTIONS) -> str:
    with pytest.raises(ImageError) as caught:
        load_image(picture, options)
    return str(caught.value)


def prompt_refusal(picture: Picture, options: ImageOptions = DEFAULT_OPTIONS) -> str:
    """`refusal` for pictures that could hang: a hang fails the test and does not stop the run."""
    message: queue.SimpleQueue[str] = queue.SimpleQueue()
    work = threading.Thread(target=lambda: message.put(refusal(picture, options)), daemon=True)
    work.start()
    return message.get(timeout=60)


def png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_header(width: int, height: int) -> bytes:
    """The start of a grey 1-bit PNG of any size."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header)
