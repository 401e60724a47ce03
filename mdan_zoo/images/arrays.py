"""Array validation: uint8 arrays and tensors that hold one image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mdan_zoo.images.naming import UnreadableImageError, is_tensor

if TYPE_CHECKING:
    import numpy as np
    import torch


def image_array(image: Any) -> np.ndarray[Any, Any]:
    """Return the pixels of an image, uint8 (H, W) or (H, W, C) with C = 3 or 4.

    Args:
        image: A uint8 tensor (H, W) or (C, H, W) on any device, or a uint8 array (H, W) or
            (H, W, C); C is 1, 3 or 4.

    Raises:
        UnreadableImageError: The dtype or shape is not that of an image.
    """
    import numpy as np

    array = _tensor_to_array(image) if is_tensor(image) else np.asarray(image)
    shape = array.shape
    if array.dtype.name != "uint8":
        raise UnreadableImageError(
            f"its dtype is {array.dtype}, not uint8;"
            " values in 0..1 become an image by (array * 255).round().astype('uint8')"
        )
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (1, 3, 4)):
        swapped = len(shape) == 3 and shape[0] in (1, 3, 4)
        raise UnreadableImageError(
            "an image has the shape (H, W) or (H, W, C) with 1, 3 or 4 channels"
            + ("; this one looks like (C, H, W): use array.transpose(1, 2, 0)" if swapped else "")
        )
    return array[:, :, 0] if shape[2:] == (1,) else array


def _tensor_to_array(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    shape = tuple(tensor.shape)
    if str(tensor.dtype) != "torch.uint8":
        raise UnreadableImageError(
            f"its dtype is {tensor.dtype}, not torch.uint8;"
            " values in 0..1 become an image by (tensor * 255).round().to(torch.uint8)"
        )
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[0] not in (1, 3, 4)):
        swapped = len(shape) == 3 and shape[2] in (1, 3, 4)
        raise UnreadableImageError(
            "an image has the shape (H, W) or (C, H, W) with 1, 3 or 4 channels"
            + ("; this one looks like (H, W, C): use tensor.permute(2, 0, 1)" if swapped else "")
        )
    array = tensor.cpu().numpy()
    return array.transpose(1, 2, 0) if len(shape) == 3 else array
