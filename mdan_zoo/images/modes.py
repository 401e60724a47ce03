"""Conversion of arrays and Pillow modes to upright RGB; `mdan_zoo.images.load` lists the rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from PIL import Image

from mdan_zoo.images.naming import UnreadableImageError, is_tensor

if TYPE_CHECKING:
    import numpy as np

# In these formats Pillow's mode "I" always means 16 bits, no matter how dark the image is.
_SIXTEEN_BIT_FORMATS = frozenset({"PNG", "PPM"})

_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def to_upright_rgb(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """Return a new image of mode "RGB" without metadata, rotated according to those of `image`.

    Raises an `UnreadableImageError` if the values are on an unknown scale.
    """
    rgb = _to_rgb(image, background)
    try:
        # JPEG XL plugins return upright pixels, except of a file that contains a JPEG file.
        rotated = image.format != "JXL" or getattr(image, "jpeg", False)
        upright = _UPRIGHT.get(image.getexif()[_ORIENTATION_TAG]) if rotated else None
    except Exception:  # no orientation, or damaged metadata
        upright = None
    if upright is not None:
        rgb = rgb.transpose(upright)
    rgb.info.clear()  # else the orientation could be applied twice
    return rgb


def _to_rgb(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """Return a new RGB image. Pillow's `convert` is wrong for 16 bits, floats and alpha."""
    if image.mode == "I" or image.mode.startswith("I;16"):
        image = _integers_to_grey(image)
    elif image.mode == "F":
        image = _floats_to_grey(image)
    if not image.has_transparency_data:
        return image.convert("RGB")
    if image.mode == "P":
        image = image.copy()  # converting writes the alpha values into the palette of the source
    elif image.mode == "La":
        image = image.convert("LA")
    canvas = Image.new("RGB", image.size, background)
    rgba = image.convert("RGBA")
    canvas.paste(rgba, mask=rgba)
    return canvas


def _integers_to_grey(image: Image.Image) -> Image.Image:
    """Return the L image of an I or I;16 image, or LA where one value is marked transparent."""
    known_scale = image.mode != "I" or image.format in _SIXTEEN_BIT_FORMATS
    image = image.convert("I")
    low, high = cast("tuple[int, int]", image.getextrema())
    if low < 0 or high > 65535:
        raise UnreadableImageError(
            f"its values run from {low} to {high}, not within 0..65535: scale them to 0..255 first"
        )
    if high <= 255 and not known_scale:
        return image.convert("L")
    grey = image.point([(value + 128) // 257 for value in range(65536)], "L")
    transparent = image.info.get("transparency")
    grey.info.clear()
    if transparent is None:
        return grey
    alpha = image.point([0 if value == transparent else 255 for value in range(65536)], "L")
    return Image.merge("LA", (grey, alpha))


def _floats_to_grey(image: Image.Image) -> Image.Image:
    import numpy as np

    values = np.asarray(image)
    if not np.isfinite(values).all():
        raise UnreadableImageError("it has values that are NaN or infinite")
    low, high = values.min(), values.max()
    if low < 0 or high > 255:
        raise UnreadableImageError(
            f"its values run from {low:g} to {high:g}, within neither 0..1 nor 0..255: "
            "scale them first"
        )
    return Image.fromarray(np.rint(values * (255 if high <= 1 else 1)).astype(np.uint8))


def image_array(image: Any) -> np.ndarray[Any, Any]:
    """Return the pixels of an array or a tensor, uint8 (H, W) or (H, W, C) with C = 3 or 4.

    Raises an `UnreadableImageError` if it does not have the dtype and shape of an image.
    """
    import numpy as np

    data: Any = image
    if is_tensor(image):
        dtype, cast_to = "torch.uint8", "to(torch.uint8)"
        channels, order, other, advice = 0, "(C, H, W)", "(H, W, C)", "tensor.permute(2, 0, 1)"
    else:
        data, dtype, cast_to = np.asarray(image), "uint8", "astype('uint8')"
        channels, order, other, advice = 2, "(H, W, C)", "(C, H, W)", "array.transpose(1, 2, 0)"
    if str(data.dtype) != dtype:
        raise UnreadableImageError(
            f"its dtype is {data.dtype}, not {dtype}; {_scaling_advice(data, cast_to)}"
        )
    shape = tuple(data.shape)
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[channels] not in (1, 3, 4)):
        swapped = len(shape) == 3 and shape[2 - channels] in (1, 3, 4)
        raise UnreadableImageError(
            f"an image has the shape (H, W) or {order} with 1, 3 or 4 channels"
            + (f"; this one looks like {other}: use {advice}" if swapped else "")
        )
    array: np.ndarray[Any, Any] = data.cpu().numpy() if channels == 0 else data
    if channels == 0 and len(shape) == 3:
        array = array.transpose(1, 2, 0)
    return array[:, :, 0] if array.shape[2:] == (1,) else array


def _scaling_advice(data: Any, cast_to: str) -> str:
    """Return how the values of an array or a tensor become uint8; `cast_to` is its conversion."""
    name = "tensor" if is_tensor(data) else "array"
    if name == "array" and data.dtype.kind in "OSTU":
        return f"if it contains paths or images, give the list {name}.tolist()"
    if str(data.dtype).startswith("torch.uint"):  # torch can hardly compute with these
        data, name = data.float(), "tensor.float()"
    try:
        low, high = float(data.min()), float(data.max())
    except (RuntimeError, TypeError, ValueError):  # there are none, or none that can be compared
        return "scale its values to 0..255 first"
    for limit, scaled in (
        (1, f"({name} * 255).round()"),
        (255, f"{name}.round()"),
        (65535, f"({name} / 257).round()"),
    ):
        if low >= 0 and high <= limit:
            return f"values in 0..{limit} become an image by {scaled}.{cast_to}"
    return f"its values run from {low:g} to {high:g}: scale them to 0..255 first"
