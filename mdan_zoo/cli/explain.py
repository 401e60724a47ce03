"""The command `mdan-zoo explain`. Imports torch and matplotlib only when it runs."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mdan_zoo._util.files import refuse_input
from mdan_zoo.cli.options import FILE, add_command
from mdan_zoo.errors import ImageError, InputError
from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.inference.formats import FORMATS
from mdan_zoo.zoo.configs import DEFAULT_MODEL

_EXAMPLES = """
With --sheet, draws a contact sheet of a folder.

  mdan-zoo explain photo.jpg
  mdan-zoo explain photo.jpg --level emotion --output maps.pdf
  mdan-zoo explain FOLDER --sheet --output sheet.pdf
"""


def add_parser(subparsers: Any) -> None:
    """Add `explain` to the subcommands of `mdan-zoo`."""
    summary = "draw the attention and class activation maps of an image"
    add = add_command(subparsers, "explain", run, summary, _EXAMPLES).add_argument
    add("image", metavar="IMAGE", help="file or URL; with --sheet, folder of images")
    add("--sheet", action="store_true", help="draw a contact sheet of a folder, sorted by emotion")
    add("--model", metavar="NAME", help=f"model with released weights (default: {DEFAULT_MODEL})")
    add("--checkpoint", **FILE, help="checkpoint to use instead of --model")
    maps = "the attention map and the class activation maps"
    add("--level", help=f"draw only this level: {maps} of all its classes")
    add(
        "--class",
        dest="label",
        metavar="CLASS",
        help="draw only the class activation map of this class and the attention map of its level",
    )
    add(
        "--output",
        **FILE,
        help="png, pdf, svg, jpg or webp file to write (default: a PNG in the current folder, "
        "named after the image; a PDF for a large --sheet)",
    )
    add("--device", help="device, such as cpu or cuda:0 (default: CUDA if available)")


def run(options: argparse.Namespace) -> int:
    """Draw; return the exit status."""
    return _draw_sheet(options) if options.sheet else _draw_explanation(options)


def _draw_explanation(options: argparse.Namespace) -> int:
    if os.path.isdir(options.image):
        raise InputError(
            f"{options.image} is a folder: give an image, or add --sheet to draw a contact sheet"
        )
    from mdan_zoo.plots.figures import check_output

    output = options.output or Path(f"{_stem(options.image)}.explained.png")
    check_output(output)
    refuse_input(output, [options.image])

    from mdan_zoo.inference.explanation import explain
    from mdan_zoo.inference.predictor import Predictor
    from mdan_zoo.plots import plot

    predictor = Predictor(options.model, checkpoint=options.checkpoint, device=options.device)
    explanation = explain(options.image, model=predictor)
    level = _as_level(options.level, predictor.hierarchy)
    plot(explanation, output, level=level, label=options.label)
    print(FORMATS["text"].line(explanation.prediction), end="")
    print(output)
    return 0


def _draw_sheet(options: argparse.Namespace) -> int:
    from mdan_zoo.images.load import find_images

    if options.level is not None or options.label is not None:
        raise InputError("--level and --class cannot be combined with --sheet, which has no maps")
    if not os.path.isdir(options.image):
        raise InputError(f"--sheet needs a folder of images, not {options.image}")
    images = find_images(options.image)
    if not images:
        raise ImageError(options.image, "no images in the folder")

    from mdan_zoo.plots.contact_sheet import MAX_THUMBNAILS, check_sheet, plot_contact_sheet

    suffix = "png" if len(images) <= MAX_THUMBNAILS else "pdf"
    name = Path(options.image).resolve().name or "images"
    output = options.output or Path(f"{name}.sheet.{suffix}")
    check_sheet(output, len(images))
    refuse_input(output, images)

    from tqdm import tqdm

    from mdan_zoo.inference.predictor import Predictor

    predictor = Predictor(options.model, checkpoint=options.checkpoint, device=options.device)
    quiet = not sys.stderr.isatty()
    with closing(predictor.stream(images)) as stream:
        predictions = list(tqdm(stream, total=len(images), unit="image", disable=quiet))
    failed = [prediction for prediction in predictions if prediction.error is not None]
    for prediction in failed:
        print(FORMATS["text"].line(prediction), end="", file=sys.stderr)
    plot_contact_sheet(images, predictions, output)
    print(output)
    return 1 if failed else 0


def _stem(image: str) -> str:
    """Return the file name of a path or URL without its suffix."""
    path = urlsplit(image).path if "://" in image else image
    return Path(path).stem or "image"


def _as_level(text: str | None, hierarchy: Hierarchy) -> int | str | None:
    """Parse a level: a name of the hierarchy, otherwise a position if it is a number."""
    if text is None or text in hierarchy.level_names or not text.isdecimal():
        return text
    return int(text)
