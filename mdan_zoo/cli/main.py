"""Command line interface: the parser of `mdan-zoo`, error handling and exit status.

Exit status: 0 on success; 1 if only a part could be done, such as some of the images or models; 2
on wrong usage and other errors; 130 after Ctrl-C; 141 if the reader of the output has closed it.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import warnings
from collections.abc import Sequence

from mdan_zoo._version import __version__
from mdan_zoo.cli import (
    compare,
    dataset,
    demo,
    evaluate,
    explain,
    models,
    predict,
    publish,
    train,
    weights,
)
from mdan_zoo.cli.options import NAME_ERRORS
from mdan_zoo.errors import MdanZooError, mask_urls


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, by default that of the process, and return the exit status."""
    if sys.stdout is None:  # closed by the shell
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - open until the process ends
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors=NAME_ERRORS)
    options = make_parser().parse_args(arguments)
    format_before = warnings.formatwarning
    warnings.formatwarning = _format_warning
    try:
        status: int = options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:
        # Otherwise flushing the buffer at exit would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        return 130
    except (MdanZooError, OSError) as error:
        print(f"mdan-zoo: error: {mask_urls(str(error))}", file=sys.stderr)
        return 2
    finally:
        warnings.formatwarning = format_before
    return status


def make_parser() -> argparse.ArgumentParser:
    """Return the parser with all commands."""
    parser = argparse.ArgumentParser(
        "mdan-zoo", description="Predict the emotions that images evoke.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"mdan-zoo {__version__}")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    used = (models, predict, explain, demo, weights, publish, dataset, train, evaluate, compare)
    for command in used:
        command.add_parser(subparsers)
    return parser


def _format_warning(message: Warning | str, *_: object, **__: object) -> str:
    """Return a warning as one line, without its location in the code."""
    return f"mdan-zoo: warning: {message}\n"
