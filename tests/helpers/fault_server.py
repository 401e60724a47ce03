"""A file server on 127.0.0.1 that plays a Hugging Face hub or a plain mirror, with faults on order.

    with FaultServer() as server:
        server.files["/model.safetensors"] = content
        server.faults["/model.safetensors"] = [cut(1000), status(503)]

The first request for that path gets half a body, the second an error, all others the file. Real
sockets, real HTTP/1.1: a fault is what the other side of a network does, not a patched client.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"

CERTIFICATE = Path(__file__).with_name("localhost.pem")
"""Signed by itself, for 127.0.0.1, with its key: what is in a test is no secret."""

Fault = Callable[["Handler"], None]


@dataclass
class Request:
    """A request that came, and how many bytes of a body went back."""

    path: str
    headers: dict[str, str]
    sent: int = 0


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    server: FaultServer

    def setup(self) -> None:
        self.server.connections += 1
        super().setup()

    def do_POST(self) -> None:
        self.request_seen = Request(self.path, {k.lower(): v for k, v in self.headers.items()})
        self.server.requests.append(self.request_seen)
        faults = self.server.faults.get(self.path)
        if faults:
            faults.pop(0)(self)
        elif self.path in self.server.always:
            self.server.always[self.path](self)
        else:
            self.send_file()

    do_GET = do_POST  # noqa: N815 - http.server's names

    def log_message(self, *args: object) -> None:
        pass

    @property
    def content(self) -> bytes:
        return self.server.files[self.path]

    def head(self, code: int, headers: Iterable[tuple[str, str]] = ()) -> None:
        """Send status and headers. `Content-Length` is the caller's business."""
        self.send_response(code)
        for name, value in [*headers, *self.server.extra_headers]:
            # Unchecked and in latin-1, so that a header may hold anything.
            self._headers_buffer.append(f"{name}: {value}\r\n".encode("latin-1"))
        self.end_headers()

    def send(self, content: bytes) -> None:
        self.request_seen.sent += len(content)  # before: the client may look as soon as it has all
        with contextlib.suppress(ConnectionError):  # a client may stop at the first byte too many
            self.wfile.write(content)

    def send_file(self) -> None:
        """Send the file, or the part of it that is asked for, as a good server does."""
        if self.path not in self.server.files:
            status(404)(self)
            return
        content, code = self.content, 200
        headers = [("ETag", etag_of(content)), ("Content-Type", "application/octet-stream")]
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked and self.headers.get("If-Range") in (None, etag_of(content)):
            start, code = int(asked[1]), 206
            headers.append(("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}"))
            content = content[start:]
        self.head(code, [*headers, ("Content-Length", str(len(content)))])
        self.send(content)

    def hang_up(self, *, reset: bool = False) -> None:
        """End the connection, with a FIN or with a RST."""
        self.close_connection = True
        if reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.rfile.close()
            self.wfile.close()
            self.connection.close()


class FaultServer(ThreadingHTTPServer):
    """Serves from `with` until the block is left.

    Attributes:
        files: Path to content.
        faults: Path to the faults of the next requests, one each.
        always: Path to the fault of all others.
        extra_headers: Sent with every answer.
        requests: Every request that came.
        connections: How many connections came.
        stopping: Set when the server stops.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, *, https: bool = False) -> None:
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, list[Fault]] = {}
        self.always: dict[str, Fault] = {}
        self.extra_headers: list[tuple[str, str]] = []
        self.requests: list[Request] = []
        self.connections = 0
        self.stopping = threading.Event()
        super().__init__(("127.0.0.1", 0), Handler)
        self._scheme = "https" if https else "http"
        if https:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(CERTIFICATE)
            self.socket = context.wrap_socket(self.socket, server_side=True)

    def __enter__(self) -> FaultServer:
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stopping.set()
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """Print nothing: a client that goes away is what several tests are about."""

    def url(self, path: str = "") -> str:
        return f"{self._scheme}://127.0.0.1:{self.server_port}{path}"

    def add_repository_file(self, repo: str, path: str, content: bytes) -> str:
        """Store a file where a hub has it, and return that path."""
        place = f"/{repo}/resolve/{COMMIT}/{path}"
        self.files[place] = content
        return place

    def bodies(self) -> int:
        """Return how many requests got any of a body."""
        return sum(request.sent > 0 for request in self.requests)


def etag_of(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()}"'


# Faults


def cut(after: int, *, reset: bool = False, strong: bool = True, length: bool = True) -> Fault:
    """Announce the whole file, and end the connection after a number of bytes.

    Args:
        after: Number of bytes.
        reset: With a RST instead of a FIN.
        strong: With an ETag that says which file it is.
        length: With a Content-Length; without it the cut looks like the end.
    """

    def answer(handler: Handler) -> None:
        content = handler.content
        headers = [("ETag", etag_of(content) if strong else "W/" + etag_of(content))]
        if length:
            headers.append(("Content-Length", str(len(content))))
        handler.head(200, [*headers, ("Connection", "close")])
        handler.send(content[:after])
        handler.hang_up(reset=reset)

    return answer


def body(content: bytes, kind: str = "application/octet-stream", *, length: bool = True) -> Fault:
    """Send another body, with status 200."""

    def answer(handler: Handler) -> None:
        headers = [("Content-Type", kind)]
        headers.append(("Content-Length", str(len(content))) if length else ("Connection", "close"))
        handler.head(200, headers)
        handler.send(content)
        handler.close_connection = not length

    return answer


def status(code: int, **headers: str) -> Fault:
    """Answer with an error page. Headers are given with "_" for "-"."""

    def answer(handler: Handler) -> None:
        page = b"<html>an error page</html>"
        named = [(name.replace("_", "-"), value) for name, value in headers.items()]
        handler.head(code, [*named, ("Content-Length", str(len(page)))])
        handler.send(page)

    return answer


def redirect(target: str) -> Fault:
    """Answer 302."""
    return status(302, Location=target)


def part(content_range: str, content: bytes, etag: str | None = None) -> Fault:
    """Answer 206 with any part, as a broken or hostile server may."""

    def answer(handler: Handler) -> None:
        headers = [("Content-Range", content_range), ("Content-Length", str(len(content)))]
        handler.head(206, headers + ([("ETag", etag)] if etag else []))
        handler.send(content)

    return answer


def reset(handler: Handler) -> None:
    """Reset the connection without an answer."""
    handler.hang_up(reset=True)


def hang(handler: Handler) -> None:
    """Answer nothing until the server stops."""
    handler.server.stopping.wait()


def stall(after: int) -> Fault:
    """Send a number of bytes, and then nothing until the server stops."""

    def answer(handler: Handler) -> None:
        handler.head(200, [("Content-Length", str(len(handler.content)))])
        handler.send(handler.content[:after])
        handler.server.stopping.wait()

    return answer


def drip(answer: bytes, pause: float = 0.02) -> Fault:
    """Send an answer, head and all, byte by byte."""

    def send(handler: Handler) -> None:
        with contextlib.suppress(ConnectionError):
            for i in range(len(answer)):
                handler.wfile.write(answer[i : i + 1])
                if handler.server.stopping.wait(pause):
                    break
        handler.hang_up()

    return send


def raw(answer: bytes) -> Fault:
    """Send bytes that need not be HTTP."""

    def send(handler: Handler) -> None:
        handler.wfile.write(answer)
        handler.hang_up()

    return send


def cut_and_resumed(piece: int) -> Fault:
    """Send the next part of a given size that is asked for, and end the connection."""

    def answer(handler: Handler) -> None:
        content = handler.content
        asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        headers = [("ETag", etag_of(content)), ("Content-Length", str(len(content) - start))]
        if asked:
            headers.append(("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}"))
        handler.head(206 if asked else 200, [*headers, ("Connection", "close")])
        handler.send(content[start : start + piece])
        handler.hang_up()

    return answer


def endless(handler: Handler) -> None:
    """Send without an end, until the client hangs up."""
    handler.head(200, [("Connection", "close")])
    with contextlib.suppress(ConnectionError):
        while not handler.server.stopping.is_set():
            handler.request_seen.sent += 65536
            handler.wfile.write(bytes(65536))
    handler.close_connection = True
