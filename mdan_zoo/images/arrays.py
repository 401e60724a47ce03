"""Array validation: uint8 arrays and tensors that contain one image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mdan_zoo.images.naming import UnreadableImageError, is_tensor

if TYPE_CHECKING:
    import numpy as np


def image_array(image: Any) -> np.ndarray[Any, Any]:
    """Return the pixels of an image, uint8 (H, W) or (H, W, C) with C = 3 or 4.

    Args:
        image: A uint8 tensor (H, W) or (C, H, W) on any device, or a uint8 array (H, W) or
            (H, W, C); C is 1, 3 or 4.

    Raises:
        UnreadableImageError: The dtype or shape is not that of an image.
    """
    import numpy as np

    data: Any = image
    if is_tensor(image):
        dtype, scaled = "torch.uint8", "(tensor * 255).round().to(torch.uint8)"
        channels, order, other, advice = 0, "(C, H, W)", "(H, W, C)", "tensor.permute(2, 0, 1)"
    else:
        data, dtype, scaled = np.asarray(image), "uint8", "(array * 255).round().astype('uint8')"
        channels, order, other, advice = 2, "(H, W, C)", "(C, H, W)", "array.transpose(1, 2, 0)"
    if str(data.dtype) != dtype:
        raise UnreadableImageError(
            f"its dtype is {data.dtype}, not {dtype}; values in 0..1 become an image by {scaled}"
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
