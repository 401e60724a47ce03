"""Tiny data sets in the layouts of the published ones, with images made here."""

from __future__ import annotations

import hashlib
from pathlib import Path

from PIL import Image

from mdan_zoo.datasets.sample import Sample
from mdan_zoo.hierarchy.tree import Hierarchy


def write_image(path: Path, content: object = None) -> Path:
    """Write a JPEG file; equal contents give equal files, and each path has one of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(str(path if content is None else content).encode()).digest()
    image = Image.new("RGB", (16, 12), tuple(digest[:3]))
    image.paste(tuple(digest[3:6]), (0, 0, 8, 6))
    image.save(path, "JPEG")
    return path


def write_images(folder: Path, names: list[str]) -> Path:
    """Write an image for every name and return the folder."""
    for name in names:
        write_image(folder / name)
    return folder


def leaves_of(samples: list[Sample], hierarchy: Hierarchy) -> dict[str, str]:
    """Return the leaf of every image, by the last two parts of its path."""
    return {
        "/".join(sample.image.parts[-2:]): hierarchy.leaves[sample.labels[-1]] for sample in samples
    }
