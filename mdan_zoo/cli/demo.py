"""The command `mdan-zoo demo`. Imports torch and Gradio only when it runs."""

from __future__ import annotations

import argparse
from typing import Any

from mdan_zoo.cli.options import add_command


def add_parser(subparsers: Any) -> None:
    """Add `demo` to the subcommands of `mdan-zoo`."""
    add = add_command(
        subparsers,
        "demo",
        run,
        "serve a web page to try the models",
        "By default, only this machine can connect to the page. The server makes no connections to "
        "other machines.",
    ).add_argument
    add("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    add("--port", type=int, help="port to listen on (default: the first free port from 7860)")


def run(options: argparse.Namespace) -> int:
    """Serve until interrupted; return the exit status."""
    from mdan_zoo.demo import gradio_import  # noqa: F401  # first: its error names the extra
    from mdan_zoo.demo.models import find_models
    from mdan_zoo.demo.server import is_loopback, open_socket, serve

    models = find_models()
    with open_socket(options.host, options.port) as listener:
        port = listener.getsockname()[1]
        host = f"[{options.host}]" if ":" in options.host else options.host
        print(f"http://{host}:{port}/", flush=True)
        if not is_loopback(options.host):
            print("Everyone who can connect to this address can use the page.", flush=True)
        serve(listener, models)
    return 0
