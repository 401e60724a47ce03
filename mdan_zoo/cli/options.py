"""Parts of the parser that several commands share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

FILE: dict[str, Any] = {"type": Path, "metavar": "FILE"}
FOLDER: dict[str, Any] = {"type": Path, "metavar": "DIR"}


def add_command(
    subparsers: Any,
    name: str,
    run: Callable[[argparse.Namespace], int],
    summary: str,
    details: str = "",
) -> argparse.ArgumentParser:
    """Add a subcommand that calls `run`, and return its parser.

    Args:
        subparsers: The commands.
        name: Name of the command.
        run: Function that runs the command and returns the exit status.
        summary: What the command does, for the list of commands.
        details: Text after the summary in the command's own help; lines are kept if it has any.
    """
    text = f"{summary[0].upper()}{summary[1:]}."
    parser: argparse.ArgumentParser = subparsers.add_parser(name, help=summary)
    parser.set_defaults(run=run)
    if "\n" in details:
        parser.description = f"{text}\n{details}"
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
    else:
        parser.description = f"{text} {details}"
    return parser


def add_compute_options(add: Callable[..., Any]) -> None:
    """Add `--device`, `--dtype` and `--batch-size`."""
    add("--device", help="device, such as cpu or cuda:0 (default: CUDA if available)")
    add("--dtype", default="float32", help="float32, bfloat16 or float16 (default: %(default)s)")
    batch = "images per batch (default: 2 on CPU, 32 on GPU)"
    add("--batch-size", type=int, metavar="N", help=batch)
