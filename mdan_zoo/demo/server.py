"""Server: listening socket, limits, upload folder, and the application behind its guard.

uvicorn serves the application instead of `Blocks.launch`, which can open a public tunnel if an
environment variable says so, and which connects to its own server through the configured proxy.
"""

from __future__ import annotations

import ipaddress
import math
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from mdan_zoo.demo import app as page
from mdan_zoo.demo.gradio_import import FastAPI, gr, uvicorn
from mdan_zoo.demo.guard import Guard
from mdan_zoo.demo.models import MAX_BYTES, ListedModel
from mdan_zoo.errors import InputError

DEFAULT_PORT = 7860

MAX_UPLOAD = 5 * MAX_BYTES
"""If a file is larger, Gradio rejects all files of the upload; smaller ones are single errors."""

_PORTS_TRIED = 100
_PREFIX = "mdan_zoo_demo_"
_LOCK = "lock"
_STARTING = 60  # seconds after which a running server has certainly locked its folder


def open_socket(host: str, port: int | None) -> socket.socket:
    """Return a listening socket; by default, on the first free port from `DEFAULT_PORT`.

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
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def serve(listener: socket.socket, models: Sequence[ListedModel], keep_seconds: int = 600) -> None:
    """Serve the page until Ctrl-C or SIGTERM; uploads are kept for at least `keep_seconds`."""
    # uvicorn stops on SIGTERM and then raises it again, which would kill the process.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    pause = max(1, keep_seconds / 20)
    with _upload_folder(keep_seconds, pause) as uploads:
        os.environ["GRADIO_TEMP_DIR"] = str(uploads)
        app = _create_app(models, math.ceil((keep_seconds + pause) / 60), uploads)
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2)
        uvicorn.Server(config).run(sockets=[listener])


def _create_app(models: Sequence[ListedModel], minutes: int, uploads: Path) -> FastAPI:
    """Return the application, behind its guard; `uploads` is the folder of GRADIO_TEMP_DIR."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Guard, uploads=uploads)
    served: FastAPI = gr.mount_gradio_app(
        app,
        page.build_page(models, minutes),
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


@contextmanager
def _upload_folder(keep_seconds: float, pause: float) -> Iterator[Path]:
    """Create an upload folder, delete old files every `pause` seconds, and delete it at the end.

    Folders left behind by killed servers of this user are deleted first. Gradio only deletes the
    uploads that it has registered, not aborted uploads or uploads in unknown fields, so every file
    is deleted by its age.
    """
    remove_abandoned(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as folder, FileLock(Path(folder) / _LOCK):
        uploads = Path(folder) / "uploads"
        uploads.mkdir()
        stop = threading.Event()

        def sweep() -> None:
            while not stop.wait(pause):
                for path in uploads.rglob("*"):
                    with suppress(OSError):  # moved in the meantime, or open on Windows
                        if path.is_file() and time.time() - path.stat().st_mtime > keep_seconds:
                            path.unlink()

        sweeper = threading.Thread(target=sweep)
        sweeper.start()
        try:
            yield uploads
        finally:
            stop.set()
            sweeper.join()


def remove_abandoned(parent: Path) -> None:
    """Delete the folders of this user's stopped servers, which hold no lock."""
    for folder in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError, Timeout):
            status = folder.lstat()
            mine = not hasattr(os, "getuid") or status.st_uid == os.getuid()
            starting = time.time() - status.st_mtime < _STARTING
            if mine and not starting and (folder / _LOCK).is_file():
                with FileLock(folder / _LOCK, blocking=False):
                    shutil.rmtree(folder)
