"""HTTP downloads of small files into memory, within limits of time and size. Standard library only.

Checkpoints, which need authentication, resuming and retries, are downloaded by `mdan_zoo.weights`.
"""

from __future__ import annotations

import base64
import os
import queue
import ssl
import threading
import time
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse
from typing import TypeVar
from urllib.error import HTTPError
from urllib.parse import quote, unquote, urljoin, urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, Request, build_opener

from mdan_zoo.errors import MdanZooError

MAX_REDIRECTS = 10
CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
"""Each may name a file of trusted certificate authorities; the first one that is set counts."""

_CHUNK_BYTES = 16_384
_RESERVED = "!#$%&'()*+,/:;=?@[]~"  # not percent-encoded again
_REDIRECTS = (301, 302, 303, 307, 308)

T = TypeVar("T")


def ca_setting() -> tuple[str, str] | None:
    """Return the first variable that is set, and its value."""
    return next(((name, os.environ[name]) for name in CA_VARIABLES if os.environ.get(name)), None)


def within(seconds: float, work: Callable[[], T]) -> T | Exception:
    """Return the result of `work` or the exception that it raises; TimeoutError if it takes long.

    It runs in a thread, because a socket's timeout covers neither the name lookup nor a server that
    sends a byte now and then. An abandoned thread ends with its connection.
    """
    outcome: queue.SimpleQueue[T | Exception] = queue.SimpleQueue()

    def run() -> None:
        try:
            outcome.put(work())
        except Exception as error:
            outcome.put(error)

    threading.Thread(target=run, name="mdan_zoo fetch", daemon=True).start()
    try:
        return outcome.get(timeout=seconds)
    except queue.Empty:
        return TimeoutError()


def root_cause(error: BaseException, handled: BaseException | None = None) -> BaseException:
    """Return the error at the start of a chain of causes and contexts.

    `handled` is the caller's error that was being handled before: Python chains it, too.
    """
    while (deeper := error.__cause__ or error.__context__) not in (None, handled):
        error = deeper
    return error


def fetch_bytes(
    url: str, timeout: float, check: Callable[[str, int], None], error: type[MdanZooError]
) -> bytes:
    """Download an http:// or https:// URL into memory.

    `timeout` is in seconds, from the name lookup to the last byte. `check` is called with every
    redirected URL, and every number of bytes announced or received; it raises an `error` if one is
    not acceptable. Messages do not contain the URL, which may have secrets.
    """
    deadline = time.monotonic() + timeout
    result = within(timeout, lambda: _follow(url, deadline, check, error))
    if isinstance(result, bytes):
        return result
    if isinstance(result, error):
        raise result
    root = root_cause(result)
    if isinstance(root, TimeoutError):
        reason = f"the download was not complete after timeout={timeout:g} seconds"
    else:
        said = root.strerror if isinstance(root, OSError) else None
        reason = f"the download failed ({said or type(root).__name__})"
    raise error(reason) from None  # the texts of these errors contain the whole URL


def _follow(
    url: str, deadline: float, check: Callable[[str, int], None], error: type[MdanZooError]
) -> bytes:
    for _ in range(MAX_REDIRECTS + 1):
        with _open(url, max(deadline - time.monotonic(), 0.001)) as response:
            target = response.headers.get("Location")
            if response.status not in _REDIRECTS or target is None:
                if response.status != 200:
                    raise error(f"the server answered {response.status} {response.reason}")
                length = response.headers.get("Content-Length", "")
                announced = int(length) if length.isdecimal() else 0
                check(url, announced)
                body = bytearray()
                while chunk := response.read1(_CHUNK_BYTES):
                    body += chunk
                    check(url, len(body))
                    if time.monotonic() > deadline:
                        raise TimeoutError
                if len(body) < announced:
                    raise HTTPException("the body ended early")
                return bytes(body)
        # The header was read as Latin-1; whatever its bytes mean, they are percent-encoded.
        url = urljoin(url, quote(target.encode("latin-1"), safe=_RESERVED))
        check(url, 0)
    raise error(f"it redirects more than {MAX_REDIRECTS} times")


class _NoRedirects(HTTPRedirectHandler):
    """Leaves redirects to the caller; the base class would read the whole body of each."""

    def redirect_request(self, *arguments: object) -> None:
        """Follow nothing: the redirect is then raised as an `HTTPError`."""


def _open(url: str, timeout: float) -> HTTPResponse | HTTPError:
    """Return any response to a GET. A user name and password in the URL are sent in a header."""
    import certifi  # a dependency of requests

    parts = urlsplit(url)
    login, _, host = parts.netloc.rpartition("@")
    path, query = quote(parts.path, safe=_RESERVED), quote(parts.query, safe=_RESERVED)
    plain = parts._replace(netloc=host, path=path, query=query, fragment="").geturl()
    headers = {"User-Agent": "mdan-zoo", "Accept-Encoding": "identity"}
    if login:
        headers["Authorization"] = f"Basic {base64.b64encode(unquote(login).encode()).decode()}"
    named = ca_setting()
    authorities = named[1] if named else certifi.where()
    if os.path.isdir(authorities):
        context = ssl.create_default_context(capath=authorities)
    else:
        context = ssl.create_default_context(cafile=authorities)
    opener = build_opener(_NoRedirects, HTTPSHandler(context=context))
    try:
        response: HTTPResponse = opener.open(Request(plain, headers=headers), timeout=timeout)
    except HTTPError as answer:
        return answer
    return response
