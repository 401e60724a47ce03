"""The address and the limits.

`Blocks.launch` is not used: it can open a public tunnel when the environment says so, and it asks
its own server through whatever proxy is configured. Here uvicorn serves the same application.
"""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from mdan_zoo.demo import app as page
from mdan_zoo.demo.gradio_import import FastAPI, gr, uvicorn
from mdan_zoo.demo.guard import Guard
from mdan_zoo.demo.models import MAX_BYTES, ListedModel
from mdan_zoo.demo.uploads import upload_folder
from mdan_zoo.errors import InputError

DEFAULT_PORT = 7860

MAX_UPLOAD = 5 * MAX_BYTES
"""Gradio refuses all files of an upload if one is larger; below it that one becomes an error."""

_PORTS_TRIED = 100


def open_socket(host: str, port: int | None) -> socket.socket:
    """Return a socket that listens, so that nobody can take the port meanwhile.

    Args:
        host: A name or an address of this machine.
        port: The port, or None for the first one from `DEFAULT_PORT` on that is free.

    Raises:
        InputError: The address cannot be used; says why.
    """
    ports = range(DEFAULT_PORT, DEFAULT_PORT + _PORTS_TRIED) if port is None else [port]
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    reason = ""
    for number in ports:
        try:
            return socket.create_server((host, number), family=family)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or str(error)
    where = f"port {ports[0]}" if len(ports) == 1 else f"any port from {ports[0]} to {ports[-1]}"
    raise InputError(f"cannot serve at {host}, {where}: {reason}; choose others by --host, --port")


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def serve(listener: socket.socket, models: Sequence[ListedModel], keep_seconds: int = 600) -> None:
    """Serve the page until the process is told to stop (Ctrl-C, SIGTERM).

    Args:
        listener: From `open_socket`.
        models: What the page offers.
        keep_seconds: How long uploads are kept at least. What is left at the end is deleted.
    """
    # uvicorn stops on SIGTERM and then sends it again, which would end the process at once.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with upload_folder(keep_seconds) as uploads:
        os.environ["GRADIO_TEMP_DIR"] = str(uploads)
        config = uvicorn.Config(
            create_app(models, keep_seconds, uploads),
            log_level="warning",
            timeout_graceful_shutdown=2,
        )
        uvicorn.Server(config).run(sockets=[listener])


def create_app(models: Sequence[ListedModel], keep_seconds: int, uploads: Path) -> FastAPI:
    """Return the application, behind its guard.

    Args:
        models: What the page offers.
        keep_seconds: How long uploads are kept at least.
        uploads: Where they are kept: the folder that GRADIO_TEMP_DIR names.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Guard, uploads=uploads)
    served: FastAPI = gr.mount_gradio_app(
        app,
        page.build_page(models, keep_seconds),
        path="/",
        footer_links=[],
        run_history=False,
        max_file_size=MAX_UPLOAD,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        # The user's own fonts: Gradio's others come from a server of Google's or take a while.
        theme=gr.themes.Default(
            primary_hue="sky",
            font=("system-ui", "sans-serif"),
            font_mono=("ui-monospace", "monospace"),
        ),
        css_paths=page.HERE / "page.css",
    )
    return served
