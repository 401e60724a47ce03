"""Image loading: any supported input becomes an RGB image, or raises an `ImageError`.

Loading is thread-safe and changes no global setting of Pillow. Conversion to RGB:

* The orientation given by EXIF or XMP is applied; damaged metadata are ignored.
* Transparency is composited on `ImageOptions.background`.
* Only the first frame of an animation or multi-page file is read; a PIL image yields its current
  frame.
* 16-bit grey values and Pillow's mode "I" are scaled from 0..65535. Images of mode "I" that are
  not from PNG or PPM files are scaled from 0..255 if no value exceeds 255.
* Grey floats (mode "F") are scaled from 0..1, or from 0..255 if a value exceeds 1. Values outside
  these ranges, NaN and infinity are errors.
* Colour profiles are ignored, as in torchvision and timm.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import math
import os
import stat
import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias

from PIL import Image, ImageFile

from mdan_zoo._util.locks import ForkSafeLock
from mdan_zoo.errors import ImageError, InputError
from mdan_zoo.images.modes import image_array, to_upright_rgb
from mdan_zoo.images.naming import (
    UnreadableImageError,
    describe,
    is_tensor,
    is_url,
    reason_of,
)

if TYPE_CHECKING:
    import numpy as np
    import torch

ImageLike: TypeAlias = (
    "str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | Image.Image"
    " | np.ndarray[Any, Any] | torch.Tensor"
)

_CHUNK_BYTES = 16_384

# Formats that Pillow does not read (AVIF: before 11.3) and the modules whose import adds them.
_PLUGINS = {"HEIF": "pillow_heif.HeifImagePlugin", "JXL": "pillow_jxl", "AVIF": "pillow_avif"}
_PLUGIN_ADVICE = {
    "HEIF": "HEIC images need the package pillow-heif",
    "JXL": "JPEG XL images need the package pillow-jxl-plugin",
    "AVIF": "AVIF images need Pillow 11.3 or newer, or the package pillow-avif-plugin",
}
_PLUGIN_SUFFIXES = frozenset(
    {".heic", ".heics", ".heif", ".heifs", ".hif", ".jxl", ".avif", ".avifs"}
)
_HEIF_BRANDS = frozenset(b"heic heix heim heis hevc hevx hevm hevs mif1 msf1".split())

# Pillow recognises these formats but cannot decode them by itself (EPS starts Ghostscript).
_NOT_DECODED = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"})


@dataclass(frozen=True)
class ImageOptions:
    """How images are read.

    Attributes:
        background: The colour under transparent pixels: red, green, blue in 0..255.
        max_pixels: Largest width x height, checked before the pixels are decoded (JPEG XL: after).
            Pillow's own limits do not apply, except that Pillow rejects WebP above 179 million
            pixels.
        max_bytes: Largest encoded image (file, download, bytes).
        timeout: Seconds for a whole download, from the name lookup to the last byte.
        shrink_to: JPEG files are decoded at a half, a quarter or an eighth of their size, which is
            faster, as long as both sides keep this number of pixels. None decodes all pixels.

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
        image: A path; an http(s) URL; the bytes of an image file; a binary file object, which is
            read from its start to its end and left open; a PIL image; a uint8 array of shape
            (H, W) or (H, W, C); a uint8 tensor of shape (H, W) or (C, H, W) on any device. C is 1,
            3 (RGB) or 4 (RGBA).
        options: Limits and the background colour.

    Returns:
        A new image of mode "RGB", loaded and upright, that shares nothing with `image`.

    Raises:
        ImageError: The image cannot be read; the error has its name and the reason.
    """
    try:
        with _exclusive(image):
            return to_upright_rgb(_open(image, options), options.background)
    except UnreadableImageError as error:
        raise ImageError(describe(image), reason_of(error)) from None
    except Exception as error:  # decoders raise almost any class on damaged files
        raise ImageError(describe(image), reason_of(error)) from error


def is_image_path(path: str | os.PathLike[str]) -> bool:
    """Return whether a path has the suffix of an image format. No file is read."""
    suffix = os.path.splitext(path)[1].lower()
    file_format = Image.registered_extensions().get(suffix)
    decoded = file_format in Image.OPEN and file_format not in _NOT_DECODED
    return decoded or suffix in _PLUGIN_SUFFIXES  # reported as an error, not skipped silently


def find_images(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the paths of the image files in a folder and its subfolders, sorted.

    Symbolic links are followed, and each folder is visited once. Files and folders whose name
    starts with a dot are skipped. The paths start with `folder`.

    Raises:
        ImageError: The folder or a subfolder does not exist or cannot be read.
    """

    def fail(error: OSError) -> None:
        raise ImageError(str(error.filename), str(error.strerror)) from error

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
        # Files that cannot be opened, such as broken links, are listed too: reading them fails.
        found += [path for path in candidates if is_image_path(path)]
    return sorted(found)


def _open(image: Any, options: ImageOptions) -> Image.Image:
    """Return the loaded image in its own mode, before its orientation is applied."""
    if isinstance(image, Image.Image):
        _check_size(image.size, options)
        image.load()
        return image
    if isinstance(image, (bytes, bytearray, memoryview)):
        _check_bytes(len(image), options.max_bytes)
        return _decode(io.BytesIO(image), options)
    if is_url(image):
        return _decode(_download(image, options), options)
    if isinstance(image, (str, os.PathLike)):
        with _open_path(image) as file:
            _check_bytes(os.fstat(file.fileno()).st_size, options.max_bytes)
            return _decode(file, options)
    if is_tensor(image) or hasattr(image, "__array_interface__") or hasattr(image, "__array__"):
        array = image_array(image)
        _check_size((array.shape[1], array.shape[0]), options)
        return Image.fromarray(array)
    if hasattr(image, "read"):
        return _decode(_read_all(image, options.max_bytes), options)
    raise UnreadableImageError(
        "not an image: give a path, a URL, bytes, a binary file, a PIL image, an array or a tensor"
    )


def _check_bytes(count: int, max_bytes: int) -> None:
    if count > max_bytes:
        raise UnreadableImageError(f"{count} bytes or more are above max_bytes={max_bytes}")


def _check_size(size: tuple[int, int], options: ImageOptions) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise UnreadableImageError(f"it has no pixels ({width}x{height})")
    if width * height > options.max_pixels:
        raise UnreadableImageError(
            f"{width}x{height} = {width * height} pixels are above max_pixels={options.max_pixels}"
        )


def _download(url: str, options: ImageOptions) -> io.BytesIO:
    from mdan_zoo._util.http import TransferError, fetch_bytes  # slow to import

    try:
        return io.BytesIO(fetch_bytes(url, options.timeout, options.max_bytes))
    except TransferError as error:
        raise UnreadableImageError(str(error)) from None


def _open_path(path: str | os.PathLike[str]) -> IO[bytes]:
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        text = str.__str__(path) if isinstance(path, str) else ""
        if advice := _decoding_advice(text[:20].encode(errors="replace")):
            raise UnreadableImageError(advice) from None
        if "://" in text:
            reason = "only URLs that start with http:// or https:// are read"
            raise UnreadableImageError(reason) from None
        raise
    if stat.S_ISDIR(mode):
        raise UnreadableImageError("it is a folder, not an image")
    if not stat.S_ISREG(mode):
        raise UnreadableImageError("it is not a regular file, but a pipe, a socket or a device")

    def opener(name: str, flags: int) -> int:  # must not block if a pipe has replaced the file
        return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))

    return open(path, "rb", opener=opener)


def _read_all(file: Any, max_bytes: int) -> io.BytesIO:
    """Read a binary file object from its start; it may be endless."""
    with contextlib.suppress(AttributeError, io.UnsupportedOperation):
        file.seek(0)
    buffer = io.BytesIO()
    while chunk := file.read(_CHUNK_BYTES):
        if not isinstance(chunk, bytes):
            raise UnreadableImageError(
                f"its read() gives {type(chunk).__name__}, not bytes: open it with mode 'rb'"
            )
        buffer.write(chunk)
        _check_bytes(buffer.tell(), max_bytes)
    buffer.seek(0)
    return buffer


_guard = ForkSafeLock()
_in_use: weakref.WeakValueDictionary[object, threading.Lock] = weakref.WeakValueDictionary()


def _exclusive(image: object) -> contextlib.AbstractContextManager[object]:
    """Return a lock for file objects and PIL images, which change while they are read."""
    if not isinstance(image, Image.Image) and not hasattr(image, "read"):
        return contextlib.nullcontext()
    with _guard:
        # A forked child process has locks of its own: nobody there would release those held now.
        return _in_use.setdefault((os.getpid(), id(image)), threading.Lock())


def _decode(file: IO[bytes], options: ImageOptions) -> Image.Image:
    image = _identify(file)
    _check_size(image.size, options)
    if image.format == "TIFF" and hasattr(image, "_tile_size"):
        # Otherwise Pillow applies its own pixel limit when it allocates the memory of a TIFF.
        image.im = Image.new(image.mode, image._tile_size).im
    if image.format == "JPEG" and options.shrink_to is not None:
        image.draft(image.mode, (options.shrink_to, options.shrink_to))
    try:
        image.load()
    except OSError as error:
        if error.errno is not None:  # of the disk, not of the decoder
            raise
        raise UnreadableImageError(_damaged(str(image.format), error)) from error
    _check_size(image.size, options)  # the size of an icon is only known now
    return image


def _identify(file: IO[bytes]) -> ImageFile.ImageFile:
    """Return the lazy image of a file, as `Image.open` does, but without its global pixel limit."""
    head = file.read(1024)
    if not head:
        raise UnreadableImageError("it is empty")
    damaged = ""
    for name in _formats():
        plugin, accept = Image.OPEN[name]
        try:
            accepted = accept is None or accept(head[:16])
        except Exception:  # some plugins read beyond the end of a very short file
            continue
        if isinstance(accepted, str):  # Pillow was built without this format
            damaged = accepted
        elif accepted:
            try:
                file.seek(0)
                return plugin(file, "")
            except Image.DecompressionBombError:
                raise
            except Exception as error:
                # Without `accept`, a plugin tries every file. The AVIF one also takes HEIC files.
                if accept and (not damaged or name == _plugin_format(head)):
                    damaged = _damaged(name, error)
    raise UnreadableImageError(
        _known_otherwise(head)
        or damaged
        or f"not an image that Pillow can read (it starts with {head[:16]!r})"
    )


def _formats() -> Iterator[str]:
    """Yield the common formats, then the others, whose plugins are only then imported.

    The last are those of installed packages for formats that Pillow does not read by itself.
    """
    known = set(_NOT_DECODED)
    for register_plugins in (Image.preinit, Image.init, _import_plugins):
        register_plugins()
        new = [name for name in Image.ID if name not in known]
        known.update(new)
        yield from new


def _import_plugins() -> None:
    for file_format, module in _PLUGINS.items():
        if file_format not in Image.OPEN:
            with contextlib.suppress(ImportError):
                importlib.import_module(module)


def _damaged(file_format: str, error: Exception) -> str:
    return f"a damaged or incomplete {file_format} file: {reason_of(error)}"


def _plugin_format(head: bytes) -> str:
    """Return the one of `_PLUGINS` that a file starts as, or ""."""
    if head.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL ")):
        return "JXL"
    if head[4:8] != b"ftyp":
        return ""
    listed = head[8 : int.from_bytes(head[:4], "big")]
    brands = {listed[i : i + 4] for i in range(0, len(listed), 4)}
    if brands & {b"avif", b"avis"}:
        return "AVIF"
    return "HEIF" if brands & _HEIF_BRANDS else ""


def _decoding_advice(text: bytes) -> str:
    """Return advice for base64 text and data URLs, or ""."""
    if text.startswith(b"data:"):
        return "it is a data URL: decode the text after its comma with base64.b64decode"
    if text.startswith((b"/9j/", b"iVBORw0KGgo", b"R0lGOD", b"UklGR")):  # JPEG, PNG, GIF, WebP
        return "it is base64 text: decode it with base64.b64decode"
    return ""


def _known_otherwise(head: bytes) -> str:
    """Return advice for a common file type that Pillow does not read, or ""."""
    plugin = _plugin_format(head)
    if plugin and plugin not in Image.OPEN:
        return _PLUGIN_ADVICE[plugin]
    if advice := _decoding_advice(head):
        return advice
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "it is an HTML page, not an image"
    if text.startswith(b"<") and b"<svg" in text:
        return "SVG drawings are not supported: convert it to PNG"
    if text.startswith((b"%!ps", b"%pdf")):
        return "PostScript and PDF documents are not supported: convert it to PNG"
    return ""
