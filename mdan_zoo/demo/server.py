"""Server: listening socket, limits, and the application behind its guard.

uvicorn serves the application instead of `Blocks.launch`, which can open a public tunnel if an
environment variable says so, and which connects to its own server through the configured proxy.
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
"""If a file is larger, Gradio rejects all files of the upload; smaller ones are single errors."""

_PORTS_TRIED = 100


def open_socket(host: str, port: int | None) -> socket.socket:
    """Return a listening socket, so that no other process can take the port.

    Args:
        host: A name or an address of this machine.
        port: The port, or None for the first free port from `DEFAULT_PORT`.

    Raises:
        InputError: The address cannot be used; the message gives the reason.
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
    raise InputError(f"cannot listen on {host}, {where}: {reason}; choose another --host or --port")


def is_loopback(host: str) -> bool:
    """Return whether only this machine can connect to an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def serve(listener: socket.socket, models: Sequence[ListedModel], keep_seconds: int = 600) -> None:
    """Serve the page until Ctrl-C or SIGTERM.

    Args:
        listener: Return value of `open_socket`.
        models: The models to offer.
        keep_seconds: Minimum time that uploads are kept. All are deleted at the end.
    """
    # uvicorn stops on SIGTERM and then raises it again, which would kill the process.
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
        models: The models to offer.
        keep_seconds: Minimum time that uploads are kept.
        uploads: The upload folder, which is that of GRADIO_TEMP_DIR.
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
        # System fonts: Gradio's default fonts are loaded from a server of Google.
        theme=gr.themes.Default(
            primary_hue="sky",
            font=("system-ui", "sans-serif"),
            font_mono=("ui-monospace", "monospace"),
        ),
        css_paths=page.HERE / "page.css",
    )
    return served
