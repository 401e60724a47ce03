"""Arrays, tensors and texts that are no images: the error says how they become one."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import pytest
import torch
from image_helpers import PIXELS, encoded, pixels, refusal
from PIL import Image

pytestmark = pytest.mark.filterwarnings("error")


def test_arrays_that_are_no_images():
    hint = "values in 0..1 become an image by (array * 255).round().astype('uint8')"
    shape = "an image has the shape (H, W) or (H, W, C) with 1, 3 or 4 channels"
    for array, reason in [
        (PIXELS / 255, f"its dtype is float64, not uint8; {hint}"),
        (PIXELS > 0, f"its dtype is bool, not uint8; {hint}"),
        (
            PIXELS.transpose(2, 0, 1),
            f"{shape}; this one looks like (C, H, W): use array.transpose(1, 2, 0)",
        ),
        (PIXELS[None], shape),
        (PIXELS[:, :, :2], shape),
        (PIXELS[0, 0], shape),
        (np.uint8(3), shape),
        (PIXELS[:0], "it has no pixels (7x0)"),
        (PIXELS[:, :0], "it has no pixels (0x5)"),
    ]:
        assert refusal(array) == f"array of shape {array.shape}: {reason}"


def test_tensors_that_are_no_images():
    tensor = torch.from_numpy(PIXELS)
    hint = "values in 0..1 become an image by (tensor * 255).round().to(torch.uint8)"
    shape = "an image has the shape (H, W) or (C, H, W) with 1, 3 or 4 channels"
    for bad, reason in [
        (tensor / 255, f"its dtype is torch.float32, not torch.uint8; {hint}"),
        (tensor, f"{shape}; this one looks like (H, W, C): use tensor.permute(2, 0, 1)"),
        (tensor[:2].permute(0, 2, 1), shape),
        (tensor.permute(2, 0, 1)[None], shape),
        (tensor[0, 0], shape),
        (tensor.permute(2, 0, 1)[:, :0], "it has no pixels (7x0)"),
    ]:
        assert refusal(bad) == f"tensor of shape {tuple(bad.shape)}: {reason}"
    assert refusal(torch.empty(3, 4, 4, dtype=torch.uint8, device="meta")).startswith(
        "tensor of shape (3, 4, 4): "
    )


@pytest.mark.parametrize("scale", [1, 255, 65535])
@pytest.mark.parametrize("dtype", [torch.uint16, torch.int64, torch.float32, torch.float64])
def test_the_advice_for_a_dtype_gives_the_image(dtype, scale):
    expected = PIXELS if dtype.is_floating_point or scale > 1 else PIXELS // 128 * 255
    values = np.rint(expected / 255 * scale) if dtype is torch.int64 else expected / 255 * scale
    tensor = torch.from_numpy(values).to(dtype).permute(2, 0, 1)
    for image in (tensor, tensor.permute(1, 2, 0).numpy()):
        start, _, advice = refusal(image).partition(f"values in 0..{scale} become an image by ")
        assert start.endswith(
            f"its dtype is {image.dtype}, not {str(dtype)[:6] * (image is tensor)}uint8; "
        )
        names = {"tensor": image, "array": image, "torch": torch}
        np.testing.assert_array_equal(pixels(eval(advice, names)), expected)


def test_arrays_without_a_scale():
    for array, advice in [
        (np.array([[-0.5, 2]]), "its values run from -0.5 to 2: scale them to 0..255 first"),
        (PIXELS * np.nan, "its values run from nan to nan: scale them to 0..255 first"),
        (np.zeros((0, 5)), "scale its values to 0..255 first"),
        (np.array(["a.png"]), "if it contains paths or images, give the list array.tolist()"),
        (np.array([Path("a.png")]), "if it contains paths or images, give the list array.tolist()"),
    ]:
        assert refusal(array).endswith(f"; {advice}")
    assert refusal(torch.zeros(3, 4, 4, device="meta")).endswith(
        "; scale its values to 0..255 first"
    )


def test_images_that_are_encoded_as_text():
    for file_format in ("PNG", "JPEG", "GIF", "WEBP"):
        text = base64.b64encode(encoded(Image.fromarray(PIXELS).resize((64, 64)), file_format))
        for image in (text, text.decode()):
            assert refusal(image).endswith(": it is base64 text: decode it with base64.b64decode")
        url = f"data:image/{file_format.lower()};base64,".encode() + text
        for image in (url, url.decode()):
            assert refusal(image).endswith(
                ": it is a data URL: decode the text after its comma with base64.b64decode"
            )
