"""A web server on 127.0.0.1 that behaves well or badly, depending on the path asked for."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, image: bytes):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.image = image
        self.stopping = threading.Event()
        self.requests: list[tuple[str, dict[str, str]]] = []

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"

    def handle_error(self, request, client_address):
        """A client that hangs up early is what several tests are about: print nothing."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self):
        self.server.requests.append((self.path, dict(self.headers)))
        name = self.path.partition("?")[0].strip("/").partition("/")[0]
        getattr(self, "serve_" + name.replace("-", "_"))()

    def log_message(self, *args):
        pass

    def answer(self, status: int = 200, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in ({"Content_Length": str(len(body))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def drip(self, data: bytes) -> None:
        """Send a byte ten times a second, so that no single wait for a byte is long."""
        while not self.server.stopping.wait(0.1):
            self.wfile.write(data)

    def serve_good(self):
        self.answer(body=self.server.image)

    def serve_named(self):
        self.answer(302, Location="/good?token=secret")

    def serve_elsewhere(self):
        self.answer(302, Location=self.server.url("/good").replace("127.0.0.1", "localhost"))

    def serve_missing(self):
        self.answer(404, b"<html>no such image</html>")

    def serve_broken(self):
        self.answer(503, self.server.image)

    def serve_nothing(self):
        self.answer(204)

    def serve_empty(self):
        self.answer()

    def serve_html(self):
        self.answer(body=b"\n<!DOCTYPE html><html><body>Sign in</body></html>")

    def serve_to_file(self):
        self.answer(302, Location="file:///etc/hostname?token=secret")

    def serve_to_ftp(self):
        self.answer(302, Location="ftp://127.0.0.1/image.png")

    def serve_loop(self):
        self.answer(302, Location="/loop")

    def serve_endless_redirect(self):
        """Redirect to the image, with a body that has no end."""
        self.send_response(302)
        self.send_header("Location", "/good")
        self.end_headers()
        self.drip(b"x")

    def serve_hang(self):
        self.server.stopping.wait()

    def serve_drip(self):
        self.send_response(200)
        self.send_header("Content-Length", "100000")
        self.end_headers()
        self.drip(b"x")

    def serve_drip_headers(self):
        self.wfile.write(b"HTTP/1.0 200 OK\r\nX-Filler: ")
        self.drip(b"x")

    def serve_cut(self):
        """Announce the whole image, send half of it."""
        image = self.server.image
        self.answer(body=image[: len(image) // 2], Content_Length=str(len(image)))

    def serve_half_announced(self):
        """Announce half of the image, send all of it."""
        self.answer(body=self.server.image, Content_Length=str(len(self.server.image) // 2))

    def serve_no_length(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.server.image)

    def serve_endless(self):
        self.send_response(200)
        self.end_headers()
        while not self.server.stopping.is_set():
            self.wfile.write(bytes(65536))

    def serve_announced_large(self):
        self.send_response(200)
        self.send_header("Content-Length", str(10**12))
        self.end_headers()
        self.server.stopping.wait()


@contextlib.contextmanager
def image_server(image: bytes) -> Iterator[_Server]:
    """Serve until the block is left. `requests` holds the (path, headers) of all requests."""
    server = _Server(image)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.stopping.set()
        server.shutdown()
        thread.join()
        server.server_close()
