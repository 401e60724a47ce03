"""The command `mdan-zoo predict`. Imports torch only when it runs."""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TextIO

from mdan_zoo._util.allocator import keep_freed_memory
from mdan_zoo._util.files import check_output, open_atomically, refuse_input
from mdan_zoo.cli.options import FILE, NAME_ERRORS, add_command, add_compute_options
from mdan_zoo.errors import ImageError
from mdan_zoo.inference.formats import FORMATS
from mdan_zoo.inference.prediction import DECODES
from mdan_zoo.zoo.configs import DEFAULT_MODEL


def add_parser(subparsers: Any) -> None:
    """Add `predict` to the subcommands of `mdan-zoo`."""
    summary = "predict the emotions that images evoke"
    details = "Prints one line per image."
    add = add_command(subparsers, "predict", run, summary, details).add_argument
    add("images", nargs="+", metavar="IMAGE", help="file, URL, or folder of images")
    add("--model", metavar="NAME", help=f"model with released weights (default: {DEFAULT_MODEL})")
    add("--checkpoint", **FILE, help="checkpoint to use instead of --model")
    add(
        "--format",
        choices=FORMATS,
        default="text",
        help="output format (default: %(default)s); json prints one JSON object per line; excel "
        "prints CSV with a byte order mark, and an apostrophe before text that resembles a formula",
    )
    add("--output", **FILE, help="file to write to; created at the end")
    add_compute_options(add)
    add(
        "--branch",
        metavar="NAME",
        default="overall",
        help="branch of the network whose probabilities are used; in MDAN, the classifiers of each "
        "level (local), the classifier of the finest level (global), or their weighted mean "
        "(overall, the default)",
    )
    add(
        "--decode",
        choices=DECODES,
        default="consistent",
        help="predict the most likely path of the hierarchy (consistent, the default) or the most "
        "likely class of each level (independent)",
    )


def run(options: argparse.Namespace) -> int:
    """Predict and print; return the exit status."""
    images = _find_images(options.images)
    if options.output is not None:
        check_output(options.output)
        refuse_input(options.output, images)

    from tqdm import tqdm

    from mdan_zoo.inference.predictor import Predictor

    keep_freed_memory()
    predictor = Predictor(
        options.model,
        checkpoint=options.checkpoint,
        device=options.device,
        dtype=options.dtype,
        branch=options.branch,
        decode=options.decode,
        views=options.views,
    )
    stream = predictor.stream(images, batch_size=options.batch_size)
    output_format = FORMATS[options.format]
    status = 0
    with (
        _open_output(options.output) as file,
        closing(stream) as predictions,
        tqdm(
            total=len(images),
            unit="image",
            disable=None if len(images) > 1 else True,  # None: unless stderr is a terminal
            leave=options.output is not None or not sys.stdout.isatty(),
        ) as bar,
    ):
        file.write(output_format.header(predictor.hierarchy, predictor.config.dimensions))
        for prediction in predictions:
            bar.write(output_format.line(prediction), file=file, end="")  # above the bar
            bar.update()
            if file is sys.stdout:
                file.flush()  # print results immediately, and notice a closed pipe
            if prediction.error is not None:
                status = 1
    return status


def _find_images(arguments: Sequence[str]) -> list[str | Path]:
    """Return the images to predict, with the contents of folders in their place."""
    from mdan_zoo.images.load import find_images

    images: list[str | Path] = []
    for argument in arguments:
        inside = find_images(argument) if os.path.isdir(argument) else []
        images += inside or [argument]  # an empty folder is reported as an unreadable image
    if all(map(os.path.isdir, images)):
        raise ImageError(", ".join(map(str, images)), "no images in the folder")
    return images


@contextmanager
def _open_output(path: Path | None) -> Iterator[TextIO]:
    """Open a file that replaces `path` only if the block ends without an error; None: stdout.

    SIGTERM raises SystemExit in the block, so that the temporary file is removed.
    """
    if path is None:
        yield sys.stdout
        return
    in_main_thread = threading.current_thread() is threading.main_thread()
    if in_main_thread:  # others receive no signals
        before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        with open_atomically(path) as file:
            text = io.TextIOWrapper(file, encoding="utf-8", errors=NAME_ERRORS, newline="")
            yield text
            text.detach()  # flushes, and leaves the file open
    finally:
        if in_main_thread:
            signal.signal(signal.SIGTERM, before)
