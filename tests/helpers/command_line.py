"""The command line, called in this process, with its errors as exceptions."""

from __future__ import annotations

from mdan_zoo.cli.main import make_parser


def call(*arguments: object) -> int:
    """Run a command and return its exit status; unlike `main`, raise its errors."""
    options = make_parser().parse_args([str(argument) for argument in arguments])
    status: int = options.run(options)
    return status
