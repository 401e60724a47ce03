"""Any image in, one RGB image out, or an `ImageError` that names the image and the reason.

An image is a path, an http(s) URL, encoded bytes, a binary file object, a PIL image, a uint8 array
or a uint8 torch tensor. This is the only module that opens images. It works alike in any number
of threads and changes no setting of Pillow. It needs Pillow 10.1 or newer: older ones turn TIFF
files twice and fail on damaged EXIF.

What becomes RGB, and how:

* The orientation that EXIF or XMP states is applied; damaged metadata are ignored.
* Transparency is composed on `ImageOptions.background`.
* The first frame of an animation or of a file with several pages is taken. A PIL image gives the
  frame that it stands at.
* 16-bit grey is scaled from 0..65535. Pillow's mode "I" is read on that scale too, unless no value
  is above 255, which is the scale that Pillow's own conversion to "I" gives.
* Grey floats (mode "F") are scaled from 0..1, or from 0..255 where a value is above 1. Values out
  of these ranges, NaN and infinite ones are errors.
* Colour profiles are ignored, as torchvision and timm ignore them.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias

from PIL import Image, ImageFile

from mdan_zoo.errors import ImageError, InputError
from mdan_zoo.images.download import (
    CHUNK_BYTES,
    check_bytes,
    collect,
    download,
    is_url,
    public_url,
)
from mdan_zoo.images.locks import reading
from mdan_zoo.images.modes import to_upright_rgb

if TYPE_CHECKING:
    import numpy as np
    import torch

ImageLike: TypeAlias = (
    "str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | Image.Image"
    " | np.ndarray[Any, Any] | torch.Tensor"
)

_TEXT_LENGTH = 500

_TELEPHONE_SUFFIXES = frozenset({".heic", ".heif"})

# Pillow recognises these but does not decode them by itself (EPS starts Ghostscript).
_NOT_DECODED = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"})


@dataclass(frozen=True)
class ImageOptions:
    """How images are read.

    Attributes:
        background: The colour under transparent pixels: red, green, blue in 0..255.
        max_pixels: Largest width x height, checked before the pixels are decoded. Pillow's own
            limits do not apply, except that it refuses WebP above 179 million pixels.
        max_bytes: Largest encoded image (file, download, bytes).
        timeout: Seconds that a download may take, from the name lookup to the last byte.
        shrink_to: Large JPEG files are decoded at a half, a quarter or an eighth of their size,
            several times as fast, as long as both sides keep this many pixels. None decodes all.

    Raises:
        InputError: A value is out of its range.
    """

    background: tuple[int, int, int] = (255, 255, 255)
    max_pixels: int = 100_000_000
    max_bytes: int = 500_000_000
    timeout: float = 30.0
    shrink_to: int | None = None

    def __post_init__(self) -> None:
        colour = self.background
        three = isinstance(colour, (tuple, list)) and len(colour) == 3
        if not three or not all(isinstance(c, int) and 0 <= c <= 255 for c in colour):
            raise InputError(f"background={colour!r} is not three integers in 0..255")
        for name in ("max_pixels", "max_bytes", "timeout"):
            value = getattr(self, name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not 0 < value < math.inf:
                raise InputError(f"{name}={value!r} is not a positive, finite number")
        if self.shrink_to is not None and (type(self.shrink_to) is not int or self.shrink_to < 1):
            raise InputError(f"shrink_to={self.shrink_to!r} is not a positive number of pixels")


DEFAULT_OPTIONS = ImageOptions()


def load_image(image: ImageLike, options: ImageOptions = DEFAULT_OPTIONS) -> Image.Image:
    """Read an image.

    Args:
        image: A path; a str that starts with http:// or https://; the bytes of an image file; a
            binary file object, which is read from its start to its end and left open; a PIL image;
            a uint8 array of shape (H, W) or (H, W, C); a uint8 tensor of shape (H, W) or (C, H, W)
            on any device. C is 1, 3 (RGB) or 4 (RGBA).
        options: Limits and the background colour.

    Returns:
        A new image of mode "RGB", loaded and upright, that shares nothing with `image`.

    Raises:
        ImageError: The image cannot be read; the message names it and says why.
    """
    try:
        with reading(image):
            return to_upright_rgb(_open(image, options), options.background)
    except ImageError as error:
        raise ImageError(f"{describe(image)}: {_reason(error)}") from None
    except Exception as error:  # decoders raise nearly every class there is on damaged files
        raise ImageError(f"{describe(image)}: {_reason(error)}") from error


def describe(image: ImageLike) -> str:
    """Return a short name of an image for messages and results.

    A URL is shown without the user name, password, query and fragment, which may hold secrets.
    Nothing that the object does can make this fail.
    """
    try:
        name = _shortened(_name(image))
    except Exception:  # an object's own methods and properties raise what they like
        name = _shortened(f"{type(image).__name__} object")
    return name if name and name.isprintable() else repr(name)


def _name(image: ImageLike) -> str:
    if isinstance(image, (str, os.PathLike)):
        path = _plain(os.fsdecode(image))
        return public_url(path) if is_url(path) else path
    if isinstance(image, (bytes, bytearray, memoryview)):
        return f"{len(image)} bytes"
    if isinstance(image, Image.Image):
        file_name = getattr(image, "filename", "")
        size = f"{image.width}x{image.height}"
        return str(file_name) if file_name else f"PIL image ({image.mode}, {size})"
    if hasattr(image, "shape"):
        kind = "tensor" if _is_tensor(image) else "array"
        return f"{kind} of shape {tuple(image.shape)}"
    file_name = getattr(image, "name", None)
    return file_name if isinstance(file_name, str) else f"{type(image).__name__} object"


def _plain(text: str) -> str:
    """Return a str itself, also of an object of a subclass, whose own methods may fail."""
    return str.__str__(text)


def _shortened(text: str) -> str:
    """Cut a text that is too long for a message, such as an image in base64, given as a path."""
    plain = _plain(text)
    return plain if len(plain) <= _TEXT_LENGTH else plain[:_TEXT_LENGTH] + "..."


def is_image_path(path: str | os.PathLike[str]) -> bool:
    """Tell whether the suffix is that of a photograph or image format. No file is read."""
    suffix = os.path.splitext(path)[1].lower()
    file_format = Image.registered_extensions().get(suffix)
    decoded = file_format in Image.OPEN and file_format not in _NOT_DECODED
    return decoded or suffix in _TELEPHONE_SUFFIXES  # left out in silence, nobody would miss it


def find_images(folder: str | os.PathLike[str]) -> list[Path]:
    """List the image files in a folder and in the folders below it.

    Args:
        folder: The folder. Links to folders are followed, and each folder is visited once. Files
            and folders whose name starts with a dot are skipped.

    Returns:
        Paths that start with `folder`, sorted.

    Raises:
        ImageError: `folder`, or a folder below it, does not exist or cannot be read.
    """

    def fail(error: OSError) -> None:
        raise ImageError(f"{error.filename}: {error.strerror}") from error

    found: list[Path] = []
    visited: set[tuple[int, int]] = set()
    for directory, subfolders, names in os.walk(folder, onerror=fail, followlinks=True):
        status = os.stat(directory)
        if (status.st_dev, status.st_ino) in visited:
            subfolders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        candidates = [Path(directory, name) for name in names if not name.startswith(".")]
        # One that cannot be opened, such as a link to nowhere, is named too and gets an error.
        found += [path for path in candidates if is_image_path(path)]
    return sorted(found)


def _open(image: Any, options: ImageOptions) -> Image.Image:
    """Return the loaded image, in the mode that it has and not yet upright."""
    if isinstance(image, Image.Image):
        _check_size(image.size, options)
        image.load()
        return image
    if isinstance(image, (bytes, bytearray, memoryview)):
        check_bytes(len(image), options.max_bytes)
        return _decode(io.BytesIO(image), options)
    if is_url(image):
        return _decode(download(image, options.max_bytes, options.timeout), options)
    if isinstance(image, (str, os.PathLike)):
        with _open_path(image) as file:
            check_bytes(os.fstat(file.fileno()).st_size, options.max_bytes)
            return _decode(file, options)
    if _is_tensor(image):
        return _from_tensor(image, options)
    if hasattr(image, "__array_interface__") or hasattr(image, "__array__"):
        import numpy as np

        return _from_array(np.asarray(image), options)
    if hasattr(image, "read"):
        return _decode(collect(_read_chunks(image), options.max_bytes), options)
    raise ImageError(
        "not an image: give a path, a URL, bytes, a binary file, a PIL image, an array or a tensor"
    )


def _check_size(size: tuple[int, int], options: ImageOptions) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise ImageError(f"it has no pixels ({width}x{height})")
    if width * height > options.max_pixels:
        raise ImageError(
            f"{width}x{height} = {width * height} pixels are above max_pixels={options.max_pixels}"
        )


def _reason(error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError):
        return f"refused by Pillow, whose limit is PIL.Image.MAX_IMAGE_PIXELS: {error}"
    try:
        text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return _shortened(text) or type(error).__name__
    except Exception:  # an exception of the object's own need not have a text
        return type(error).__name__


# Files and file objects


def _open_path(path: str | os.PathLike[str]) -> IO[bytes]:
    if isinstance(path, str) and "://" in path and not os.path.exists(path):
        raise ImageError("only http:// and https:// URLs are read")
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise ImageError("it is a folder, not an image")
    if not stat.S_ISREG(mode):
        raise ImageError("it is not a regular file, but a pipe, a socket or a device")

    def opener(name: str, flags: int) -> int:
        # Should a pipe have taken the file's place meanwhile, opening it must not wait.
        return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))

    return open(path, "rb", opener=opener)


def _read_chunks(file: Any) -> Iterator[bytes]:
    with contextlib.suppress(AttributeError, io.UnsupportedOperation):
        file.seek(0)
    while chunk := file.read(CHUNK_BYTES):
        if not isinstance(chunk, bytes):
            raise ImageError(
                f"its read() gives {type(chunk).__name__}, not bytes: open it with mode 'rb'"
            )
        yield chunk


# Decoding


def _decode(file: IO[bytes], options: ImageOptions) -> Image.Image:
    image = _identify(file)
    _check_size(image.size, options)
    if image.format == "TIFF" and hasattr(image, "_tile_size"):
        # Left to itself, Pillow applies its own limit of pixels as it allocates a TIFF's memory.
        image.im = Image.new(image.mode, image._tile_size).im
    if image.format == "JPEG" and options.shrink_to is not None:
        image.draft(image.mode, (options.shrink_to, options.shrink_to))
    image.load()
    _check_size(image.size, options)  # an icon's size is known only now
    return image


def _identify(file: IO[bytes]) -> ImageFile.ImageFile:
    """Return the lazy image of a file.

    This does what `Image.open` does, without its limit of pixels, which is a global and which warns
    about images that `ImageOptions.max_pixels` allows.
    """
    head = file.read(1024)
    if not head:
        raise ImageError("it is empty")
    damaged = ""
    tried = set(_NOT_DECODED)
    for register_plugins in (Image.preinit, Image.init):  # the common formats, then all
        register_plugins()
        for name in [name for name in Image.ID if name not in tried]:
            tried.add(name)
            plugin, accept = Image.OPEN[name]
            try:
                accepted = _accepts(accept, head[:16]) if accept else True
                if isinstance(accepted, str):  # says that Pillow was built without this format
                    damaged = accepted
                elif accepted:
                    file.seek(0)
                    return plugin(file, "")
            except Image.DecompressionBombError:
                raise
            except Exception as error:
                if accept and not damaged:  # without `accept`, a plugin tries every file
                    damaged = f"a damaged or incomplete {name} file ({_reason(error)})"
    raise ImageError(
        _known_otherwise(head)
        or damaged
        or f"not an image that Pillow can read (it starts with {head[:16]!r})"
    )


def _accepts(accept: Callable[[bytes], bool | str], start: bytes) -> bool | str:
    try:
        return accept(start)
    except Exception:  # some read further than a very short file goes
        return False


def _known_otherwise(head: bytes) -> str:
    """Return what to say about a common kind of file that is no image to Pillow, or ""."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head[4:8] == b"ftyp" and any(brand in head[8:64] for brand in (b"heic", b"heix", b"hevc")):
        return "HEIC needs pillow-heif: call pillow_heif.register_heif_opener() once at the start"
    if text.startswith((b"<!doctype html", b"<html")):
        return "it is an HTML page, not an image"
    if text.startswith(b"<") and b"<svg" in text:
        return "SVG drawings are not supported: convert it to PNG"
    if text.startswith((b"%!ps", b"%pdf")):
        return "PostScript and PDF documents are not supported: convert it to PNG"
    return ""


# Arrays and tensors


def _is_tensor(image: object) -> bool:
    torch = sys.modules.get("torch")  # who holds a tensor has imported torch
    return isinstance(image, getattr(torch, "Tensor", ()))  # or is just importing it


def _from_tensor(tensor: torch.Tensor, options: ImageOptions) -> Image.Image:
    shape = tuple(tensor.shape)
    if str(tensor.dtype) != "torch.uint8":
        raise ImageError(
            f"its dtype is {tensor.dtype}, not torch.uint8;"
            " values in 0..1 become an image by (tensor * 255).round().to(torch.uint8)"
        )
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[0] not in (1, 3, 4)):
        swapped = len(shape) == 3 and shape[2] in (1, 3, 4)
        raise ImageError(
            "an image has the shape (H, W) or (C, H, W) with 1, 3 or 4 channels"
            + ("; this one looks like (H, W, C): use tensor.permute(2, 0, 1)" if swapped else "")
        )
    array = tensor.cpu().numpy()
    return _from_array(array.transpose(1, 2, 0) if len(shape) == 3 else array, options)


def _from_array(array: np.ndarray[Any, Any], options: ImageOptions) -> Image.Image:
    shape = array.shape
    if array.dtype.name != "uint8":
        raise ImageError(
            f"its dtype is {array.dtype}, not uint8;"
            " values in 0..1 become an image by (array * 255).round().astype('uint8')"
        )
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (1, 3, 4)):
        swapped = len(shape) == 3 and shape[0] in (1, 3, 4)
        raise ImageError(
            "an image has the shape (H, W) or (H, W, C) with 1, 3 or 4 channels"
            + ("; this one looks like (C, H, W): use array.transpose(1, 2, 0)" if swapped else "")
        )
    _check_size((shape[1], shape[0]), options)
    return Image.fromarray(array[:, :, 0] if shape[2:] == (1,) else array)
