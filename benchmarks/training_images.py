"""The files that `training_throughput.py` reads: of a folder, resampled or not, or made up."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from PIL import Image, ImageOps
from torchvision.transforms.v2 import functional as tv

from mdan_zoo.images.load import find_images, load_image

Size = tuple[int, int] | None
"""Width and height in pixels; None takes images as they are."""

QUALITY = 90
_DETAIL = ((6, 60.0), (24, 30.0), (96, 15.0), (384, 9.0))
"""How many blotches a synthetic image has along each side, and their contrast: with these its
JPEG file has about as many bytes as a photograph's of the same size."""


def write_images(
    source: Path | None, sizes: Sequence[Size], count: int, folder: Path
) -> dict[str, list[Path]]:
    """Write sets of JPEG files.

    Args:
        source: The images below this folder are resampled; None makes images up.
        sizes: One set for each of these. What is made up has no size of its own.
        count: Images of a set, at most.
        folder: Where to write.

    Returns:
        The files of every set, by a name that says what they are.

    Raises:
        ImageError: An image of `source` cannot be read.
    """
    if source is None:
        return {
            f"synthetic, {width} x {height}": write_set(
                (synthetic((width, height), number) for number in range(count)),
                folder / f"{width}x{height}",
            )
            for width, height in filter(None, sizes)
        }
    found, name = find_images(source)[:count], source.resolve().name
    sets = {}
    for size in sizes:
        if size is None:
            sets[f"{name}, as they are"] = found
            continue
        width, height = size
        resampled = (ImageOps.fit(load_image(file), size) for file in found)
        files = write_set(resampled, folder / f"{width}x{height}")
        sets[f"{name}, resampled to {width} x {height}"] = files
    return sets


def write_set(images: Iterable[Image.Image], folder: Path) -> list[Path]:
    """Write images into a new folder; return the files."""
    folder.mkdir(parents=True)
    files = []
    for number, image in enumerate(images):
        files.append(folder / f"{number}.jpg")
        image.save(files[-1], quality=QUALITY)
    return files


def synthetic(size: Size, seed: int) -> Image.Image:
    """Return an image of coloured blotches, large and small."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.full((3, size[1], size[0]), 128.0)
    for blotches, contrast in _DETAIL:
        noise = contrast * torch.randn(3, blotches, blotches, generator=generator)
        pixels += tv.resize(noise, [size[1], size[0]])
    image: Image.Image = tv.to_pil_image(pixels.clamp(0, 255).to(torch.uint8))
    return image


def read_size(text: str) -> Size:
    """Read an option's value such as 1024x768 or own.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    if text == "own":
        return None
    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if match is None:
        raise argparse.ArgumentTypeError(
            f"must be own or WIDTHxHEIGHT such as 1024x768, not {text!r}"
        )
    return int(match[1]), int(match[2])
