"""The content of a manifest's URL, within limits of time and size.

It imports requests, which takes a while: import this module only where a URL is given.
"""

from __future__ import annotations

import queue
import threading
import time
from urllib.parse import urljoin

import requests
from requests.utils import requote_uri

from mdan_zoo._manifest_checks import is_web_url, without_secrets
from mdan_zoo.errors import ManifestError

MAX_BYTES = 4 << 20
MAX_REDIRECTS = 10
TIMEOUT = 20.0  # seconds, from the name lookup to the last byte

_CHUNK_BYTES = 16_384


def fetch(url: str) -> bytes:
    """Fetch a URL that `is_web_url` accepts. Redirects are followed to such URLs only.

    The work is done in a thread of its own, since a socket's timeout covers neither the name lookup
    nor a server that sends a byte now and then. A thread that is given up ends with its connection.

    Raises:
        ManifestError: It cannot be had within `TIMEOUT` and `MAX_BYTES`. The message is the reason
            alone, without the URL.
    """
    outcome: queue.SimpleQueue[bytes | Exception] = queue.SimpleQueue()
    deadline = time.monotonic() + TIMEOUT

    def work() -> None:
        try:
            outcome.put(_follow(url, deadline))
        except Exception as error:
            outcome.put(error)

    threading.Thread(target=work, name="mdan_zoo manifest", daemon=True).start()
    try:
        result = outcome.get(timeout=TIMEOUT)
    except queue.Empty:
        result = TimeoutError()
    if isinstance(result, bytes):
        return result
    if isinstance(result, ManifestError):
        raise result
    # Not chained: the texts of these errors hold the whole URL, with what may be secret in it.
    raise ManifestError(_reason(result)) from None


class _Session(requests.Session):
    """Leaves redirects to the caller; requests would read the whole body of each."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        return None


def _follow(url: str, deadline: float) -> bytes:
    with _Session() as session:
        session.headers.update({"User-Agent": "mdan-zoo", "Accept-Encoding": "identity"})
        for _ in range(MAX_REDIRECTS + 1):
            wait = max(deadline - time.monotonic(), 0.001)
            with session.get(url, stream=True, timeout=wait) as response:
                target = requests.Session.get_redirect_target(session, response)
                if target is None:
                    return _body(response, deadline)
            url = requote_uri(urljoin(url, target))
            if not is_web_url(url):
                raise ManifestError(
                    f"it redirects to {without_secrets(url)}, which is not an https:// URL"
                )
    raise ManifestError(f"it redirects more than {MAX_REDIRECTS} times")


def _body(response: requests.Response, deadline: float) -> bytes:
    if response.status_code != 200:
        raise ManifestError(f"the server answered {response.status_code} {response.reason}")
    declared = response.headers.get("Content-Length", "")
    _check_size(int(declared) if declared.isdecimal() else 0)
    body = bytearray()
    for chunk in response.iter_content(_CHUNK_BYTES):
        body += chunk
        _check_size(len(body))
        if time.monotonic() > deadline:
            raise TimeoutError
    return bytes(body)


def _check_size(count: int) -> None:
    if count > MAX_BYTES:
        raise ManifestError(f"it has more than {MAX_BYTES:,} bytes")


def _reason(error: Exception) -> str:
    root: BaseException = error
    while root.__context__ is not None:
        root = root.__context__
    if isinstance(root, TimeoutError) or isinstance(error, requests.Timeout):
        return f"the answer was not complete after {TIMEOUT:g} seconds"
    said = root.strerror if isinstance(root, OSError) else None
    return f"the download failed ({said or type(root).__name__})"
