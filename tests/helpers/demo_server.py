"""The demo as a process of its own, which writes down every connection that it tries to make."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# Python reports name lookups, connections and datagrams to audit hooks, whoever asks for them.
NOTE_CONNECTIONS = """
import sys

log = open(sys.argv[1], "a", buffering=1)
events = {"socket.connect", "socket.getaddrinfo", "socket.sendto", "socket.gethostbyname"}
def note(event, arguments):
    if event in events:
        print(event, arguments, file=log)
sys.addaudithook(note)
"""

SERVE = f"""{NOTE_CONNECTIONS}
from mdan_zoo.demo.models import find_models
from mdan_zoo.demo.server import open_socket, serve

with open_socket("127.0.0.1", 0) as listener:
    print(listener.getsockname()[1], flush=True)
    serve(listener, find_models(), keep_seconds=int(sys.argv[2]))
"""


@dataclass(frozen=True)
class DemoServer:
    """A demo that runs.

    Attributes:
        url: Its address, ending in "/".
        uploads: The folder where it keeps what was uploaded.
        process: Its process.
        connections: The file with the connections that it tried to make.
    """

    url: str
    uploads: Path
    process: subprocess.Popen[str]
    connections: Path


@contextmanager
def running_demo(folder: Path, keep_seconds: int = 600) -> Iterator[DemoServer]:
    """Start a demo whose temporary files are below `folder`; stop it in the end."""
    connections = folder / "connections.txt"
    temporary = folder / "temporary"
    temporary.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, connections, str(keep_seconds)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"},
    )
    try:
        port = process.stdout.readline()
        assert re.fullmatch(r"\d+\n", port), "the demo did not start"
        wait_until_served(f"http://127.0.0.1:{int(port)}/")
        (uploads,) = temporary.glob("mdan_zoo_demo_*/uploads")
        yield DemoServer(f"http://127.0.0.1:{int(port)}/", uploads, process, connections)
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


def wait_until_served(url: str) -> None:
    """Return when a page is there; the socket takes connections before the server answers."""
    import requests

    assert requests.get(url, timeout=60).status_code == 200
