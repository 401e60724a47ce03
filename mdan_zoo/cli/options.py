"""Parts of the parser that several commands share."""

from __future__ import annotations

import argparse
import codecs
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
