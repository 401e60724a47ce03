"""The command `mdan-zoo demo`. Free of torch and Gradio until it runs."""

from __future__ import annotations

import argparse
from typing import Any

_DESCRIPTION = """\
Serve a page to try the models in a browser. Nobody else can reach it unless --host says so, and it
connects to no other machine.
"""


def add_parser(subparsers: Any) -> None:
    """Add `demo` to the subcommands of `mdan-zoo`."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "demo", help="try the models in a browser", description=_DESCRIPTION
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to serve at (default 127.0.0.1, which only this machine can reach)",
    )
    parser.add_argument("--port", type=int, help="default: the first free one from 7860 on")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Serve; return the exit status."""
    from mdan_zoo.demo import _gradio  # noqa: F401  # first, for its error names the extra
    from mdan_zoo.demo.models import find_models
    from mdan_zoo.demo.server import is_loopback, open_socket, serve

    models = find_models()
    with open_socket(options.host, options.port) as listener:
        port = listener.getsockname()[1]
        host = f"[{options.host}]" if ":" in options.host else options.host
        print(f"http://{host}:{port}/", flush=True)
        if not is_loopback(options.host):
            print("Everyone who can reach this address can use the page.", flush=True)
        serve(listener, models)
    return 0
