"""Parts of the parser that several commands share."""

from __future__ import annotations

import argparse
import codecs
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mdan_zoo.errors import InputError
from mdan_zoo.inference.prediction import VIEWS

NAME_ERRORS = "mdan_zoo.names"
"""Error handler of output: file names are written as the bytes that they were decoded from, and
characters that the encoding lacks are escaped."""


def _encode_name(error: UnicodeError) -> tuple[str | bytes, int]:
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.backslashreplace_errors(error)


codecs.register_error(NAME_ERRORS, _encode_name)

FILE: dict[str, Any] = {"type": Path, "metavar": "FILE"}
FOLDER: dict[str, Any] = {"type": Path, "metavar": "DIR"}


def add_command(
    subparsers: Any,
    name: str,
    run: Callable[[argparse.Namespace], int],
    summary: str,
    details: str = "",
) -> argparse.ArgumentParser:
    """Add a subcommand that calls `run`, which returns the exit status, and return its parser.

    The command's own help has the details after the summary; their lines are kept if there are
    several. Options cannot be abbreviated.
    """
    text = f"{summary[0].upper()}{summary[1:]}."
    parser: argparse.ArgumentParser = subparsers.add_parser(name, help=summary, allow_abbrev=False)
    parser.set_defaults(run=run)
    if "\n" in details:
        parser.description = f"{text}\n{details}"
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
    else:
        parser.description = f"{text} {details}"
    return parser


EXCLUDE: dict[str, Any] = {
    **FILE,
    "help": "list of images to leave out, as written by `mdan-zoo dataset --write-clean`",
}


def add_compute_options(add: Callable[..., Any]) -> None:
    """Add `--device`, `--dtype`, `--batch-size` and `--views`."""
    add("--device", help="device, such as cpu or cuda:0 (default: CUDA if available)")
    add("--dtype", default="float32", help="float32, bfloat16 or float16 (default: %(default)s)")
    batch = "images per batch (default: 2 on CPU, 32 on GPU)"
    add("--batch-size", type=int, metavar="N", help=batch)
    add(
        "--views",
        choices=VIEWS,
        default="single",
        help="views of each image whose predictions are averaged: the image and its mirror image "
        "(flip, 2 times the computing time), the image and its most confident crops (crops, 10 "
        "times), or both (flip+crops, 20 times) (default: %(default)s)",
    )


def add_model_options(add: Callable[..., Any]) -> None:
    """Add the options of the trained model and its recipe."""
    add("--backbone", metavar="NAME", help="timm model to use as backbone (default: the model's)")
    add("--size", type=int, metavar="PIXELS", help="side of the input (default: the model's)")
    add(
        "--resize-mode",
        choices=("crop", "squash"),
        help="crop: resize the shorter side, then crop; squash: resize to a square (default: the "
        "model's)",
    )
    add(
        "--option",
        dest="options",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="value of an option of the architecture, such as alpha=0.5; can be repeated",
    )
    add(
        "--backbone-weights",
        metavar="FILE|PACKAGE",
        help="initial weights of the backbone: a .safetensors or .pth file, or an installed "
        "package that contains one (default: timm's pretrained weights)",
    )
    add(
        "--set",
        dest="changes",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="value of a field of the recipe, such as epochs=3; can be repeated",
    )


def parse_options(given: Sequence[str]) -> dict[str, str]:
    """Return the options of an architecture by name, given as NAME=VALUE."""
    pairs = [text.partition("=") for text in given]
    for text, (name, equals, _) in zip(given, pairs, strict=True):
        if not name or not equals:
            raise InputError(f"an option has the form NAME=VALUE, such as alpha=0.5, not {text!r}")
    options = {name: value for name, _, value in pairs}
    if len(options) < len(given):
        raise InputError(f"an option is given twice: --option {' --option '.join(given)}")
    return options


def add_machine_options(add: Callable[..., Any]) -> None:
    """Add the options of training that concern speed and memory."""
    precisions = ("no", "bf16", "fp16")
    add("--precision", choices=precisions, default="no", help="mixed precision (default: no)")
    accumulate = "micro-batches per step, to save memory (default: %(default)s)"
    add("--accumulate", type=int, default=1, metavar="N", help=accumulate)
    add("--channels-last", action="store_true", help="channels-last format, faster on GPUs")
    add("--compile", action="store_true", help="compile the network with torch.compile")
    workers = "data-loading processes per GPU (default: one per core, at most 8)"
    add("--workers", type=int, metavar="N", help=workers)
    cache = "existing folder for resized copies of the images, or for cached feature maps"
    add("--cache", **FOLDER, help=cache)
    add("--tensorboard", action="store_true", help="also write the log for TensorBoard")
