"""Names of images and reasons of failures, for error messages and results."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, TypeGuard

from PIL import Image

from mdan_zoo.errors import MdanZooError, without_secrets

if TYPE_CHECKING:
    import torch

_MAX_LENGTH = 500  # of a reason
_MAX_PATH = 4096  # of a name; paths that are longer cannot be opened


class UnreadableImageError(MdanZooError, ValueError):
    """Reason why an image is rejected; `load_image` makes it an `ImageError` with the name."""


def describe(image: Any) -> str:
    """Return the name of an image for results. Never raises an error.

    A path is unchanged, so that it can be opened, with undecodable bytes as of `os.fsdecode`. A URL
    loses its secrets. Messages show `printable` of the name.
    """
    try:
        return _truncate(without_secrets(_name(image)), _MAX_PATH)
    except Exception:  # the methods and properties of the object may raise anything
        return _truncate(f"{type(image).__name__} object")


def reason_of(error: Exception) -> str:
    """Return a short reason for an error that was raised while an image was read."""
    if isinstance(error, Image.DecompressionBombError):
        return f"rejected by Pillow, whose limit is PIL.Image.MAX_IMAGE_PIXELS: {error}"
    try:
        text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return _truncate(text) or type(error).__name__
    except Exception:  # an exception of the object may have no text
        return type(error).__name__


def is_url(image: object) -> TypeGuard[str]:
    """Return whether an object is a str that starts with http:// or https://."""
    return isinstance(image, str) and image.lower().startswith(("http://", "https://"))


def is_tensor(image: object) -> TypeGuard[torch.Tensor]:
    """Return whether an object is a torch tensor, without importing torch."""
    torch = sys.modules.get("torch")  # imported wherever a tensor exists
    return isinstance(image, getattr(torch, "Tensor", ()))  # may still be importing it


def _name(image: Any) -> str:
    if isinstance(image, (str, os.PathLike)):
        return str.__str__(os.fsdecode(image))  # the methods of a subclass of str may fail
    if isinstance(image, (bytes, bytearray, memoryview)):
        return f"{len(image)} bytes"
    if isinstance(image, Image.Image):
        file_name = getattr(image, "filename", "")
        about = f"PIL image ({image.mode}, {image.width}x{image.height})"
        return os.fsdecode(file_name) if file_name else about
    if hasattr(image, "shape"):
        return f"{'tensor' if is_tensor(image) else 'array'} of shape {tuple(image.shape)}"
    file_name = getattr(image, "name", None)
    if isinstance(file_name, (str, bytes)):
        return os.fsdecode(file_name)
    return f"{type(image).__name__} object"


def _truncate(text: str, length: int = _MAX_LENGTH) -> str:
    """Shorten a text that is too long, such as base64 data passed as a path."""
    plain = str.__str__(text)
    return plain if len(plain) <= length else plain[:length] + "..."
