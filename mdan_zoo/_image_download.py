"""The bytes of a URL, or of any other stream, within limits of time and size."""

from __future__ import annotations

import io
import queue
import threading
import time
from collections.abc import Iterable, Iterator
from urllib.parse import urljoin, urlsplit, urlunsplit

import requests

from mdan_zoo.errors import ImageError

CHUNK_BYTES = 16_384
MAX_REDIRECTS = 10


def is_url(picture: object) -> bool:
    """Tell whether an object is a str that starts with http:// or https://."""
    return isinstance(picture, str) and picture.lower().startswith(("http://", "https://"))


def public_url(url: str) -> str:
    """Return a URL without what may be secret: user name, password, query and fragment."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url.partition(":")[0] + "://..."
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def collect(chunks: Iterable[bytes], max_bytes: int) -> io.BytesIO:
    """Join chunks, which may have no end.

    Raises:
        ImageError: There are more than `max_bytes` bytes.
    """
    buffer = io.BytesIO()
    for chunk in chunks:
        buffer.write(chunk)
        check_bytes(buffer.tell(), max_bytes)
    buffer.seek(0)
    return buffer


def check_bytes(count: int, max_bytes: int) -> None:
    """Raise an `ImageError` if a picture's encoded size is above the limit."""
    if count > max_bytes:
        raise ImageError(f"{count} bytes or more are above max_bytes={max_bytes}")


def download(url: str, max_bytes: int, timeout: float) -> io.BytesIO:
    """Fetch a URL. Redirects are followed to http and https only.

    The work is done in a thread of its own, since a socket's timeout covers neither the name lookup
    nor a server that sends a byte now and then. A thread that is given up ends with its connection.

    Args:
        url: Starts with http:// or https://.
        max_bytes: Largest body.
        timeout: Seconds for all of it, from the name lookup to the last byte.

    Raises:
        ImageError: The body cannot be had within the limits. The message does not name the URL.
    """
    outcome: queue.SimpleQueue[io.BytesIO | Exception] = queue.SimpleQueue()

    def work() -> None:
        try:
            outcome.put(_fetch(url, max_bytes, time.monotonic() + timeout))
        except Exception as error:
            outcome.put(error)

    threading.Thread(target=work, name="mdan_zoo download", daemon=True).start()
    try:
        result = outcome.get(timeout=timeout)
    except queue.Empty:
        result = TimeoutError()
    if isinstance(result, io.BytesIO):
        return result
    if isinstance(result, ImageError):
        raise result
    # Not chained: the texts of these errors hold the whole URL.
    raise ImageError(_reason(result, timeout)) from None


class _Session(requests.Session):
    """Leaves redirects to the caller; requests would read the whole body of each."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        return None


def _fetch(url: str, max_bytes: int, deadline: float) -> io.BytesIO:
    with _Session() as session:
        session.headers.update({"User-Agent": "mdan-zoo", "Accept-Encoding": "identity"})
        for _ in range(MAX_REDIRECTS + 1):
            wait = max(deadline - time.monotonic(), 0.001)
            with session.get(url, stream=True, timeout=wait) as response:
                target = requests.Session.get_redirect_target(session, response)
                if target is None:
                    return collect(_body(response, max_bytes, deadline), max_bytes)
            url = urljoin(url, target)
            if not is_url(url):
                raise ImageError(f"it redirects to {public_url(url)}, not to http or https")
    raise ImageError(f"more than {MAX_REDIRECTS} redirects")


def _body(response: requests.Response, max_bytes: int, deadline: float) -> Iterator[bytes]:
    if response.status_code != 200:
        raise ImageError(f"the server answered {response.status_code} {response.reason}")
    declared = response.headers.get("Content-Length", "")
    if declared.isdecimal():
        check_bytes(int(declared), max_bytes)
    for chunk in response.iter_content(CHUNK_BYTES):
        if time.monotonic() > deadline:
            raise TimeoutError
        yield chunk


def _reason(error: BaseException, timeout: float) -> str:
    root = error
    while root.__context__ is not None:
        root = root.__context__
    if isinstance(root, TimeoutError) or isinstance(error, requests.Timeout):
        return f"the download was not complete after timeout={timeout:g} seconds"
    said = root.strerror if isinstance(root, OSError) else None
    return f"the download failed ({said or type(root).__name__})"
