"""Names of images and reasons of failures, for error messages and results."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, TypeGuard

from PIL import Image

from mdan_zoo.errors import MdanZooError, without_secrets

if TYPE_CHECKING:
    import torch

_MAX_LENGTH = 500


class UnreadableImageError(MdanZooError, ValueError):
    """Reason why an image is rejected; `load_image` makes it an `ImageError` with the name."""


def describe(image: Any) -> str:
    """Return a short name of an image for messages and results. Never raises an error."""
    try:
        name = _truncate(_name(image))
    except Exception:  # the methods and properties of the object may raise anything
        name = _truncate(f"{type(image).__name__} object")
    return name if name and name.isprintable() else repr(name)


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
        path = str.__str__(os.fsdecode(image))  # the methods of a subclass of str may fail
        return without_secrets(path) if is_url(path) else path
    if isinstance(image, (bytes, bytearray, memoryview)):
        return f"{len(image)} bytes"
    if isinstance(image, Image.Image):
        file_name = getattr(image, "filename", "")
        return str(file_name or f"PIL image ({image.mode}, {image.width}x{image.height})")
    if hasattr(image, "shape"):
        return f"{'tensor' if is_tensor(image) else 'array'} of shape {tuple(image.shape)}"
    file_name = getattr(image, "name", None)
    return file_name if isinstance(file_name, str) else f"{type(image).__name__} object"


def _truncate(text: str) -> str:
    """Shorten a text that is too long for a message, such as base64 data passed as a path."""
    plain = str.__str__(text)
    return plain if len(plain) <= _MAX_LENGTH else plain[:_MAX_LENGTH] + "..."
