"""Tiny datasets in the layouts of the published ones, with images made here."""

from __future__ import annotations

import hashlib
import random
import shutil
from pathlib import Path

from PIL import Image

from mdan_zoo.datasets.sample import Sample
from mdan_zoo.hierarchy.builtin import get_hierarchy
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


def write_fi(folder: Path) -> Path:
    """Write FI as it comes divided, with one image a class to train on and two to test on."""
    for part, count in (("train", 1), ("test", 2)):
        for number, emotion in enumerate(get_hierarchy("mikels8").leaves):
            place = folder / "FI" / part / emotion
            place.mkdir(parents=True)
            for copy in range(count):
                colour = (30 * number, 250 - 30 * number, 60 + 90 * copy)
                Image.new("RGB", (40, 30), colour).save(place / f"{copy}.jpg")
    return folder


def picture(seed: int) -> Image.Image:
    """Return a drawing; those of two seeds have no similar perceptual hashes."""
    colours = random.Random(seed).randbytes(12 * 12 * 3)
    return Image.frombytes("RGB", (12, 12), colours).resize((96, 96), Image.Resampling.BICUBIC)


def write_flawed_fi(folder: Path) -> Path:
    """Write FI with the flaws of its circulating copies: 55 images, of which 18 are unfit.

    In every class, 4 images and 2 copies of one placeholder. anger/3 is also in sadness; anger/2
    and disgust/2 are there three times; awe has a second encoding of awe/0, and fear one of awe/1.
    """
    for number, emotion in enumerate(get_hierarchy("mikels8").leaves):
        (folder / emotion).mkdir(parents=True)
        for index in range(4):
            picture(10 * number + index).save(folder / emotion / f"{index}.jpg", quality=95)
        for index in (8, 9):
            picture(99).save(folder / emotion / f"{index}.jpg")
    shutil.copy(folder / "anger/3.jpg", folder / "sadness/twice.jpg")
    for emotion in ("anger", "disgust"):
        for name in ("copy", "copy_2"):
            shutil.copy(folder / emotion / "2.jpg", folder / emotion / f"{name}.jpg")
    with Image.open(folder / "awe/0.jpg") as image:
        image.save(folder / "awe/encoded.jpg", quality=40)
    with Image.open(folder / "awe/1.jpg") as image:
        image.resize((70, 80)).save(folder / "fear/resized.png")
    return folder
