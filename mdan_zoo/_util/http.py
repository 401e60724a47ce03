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
from urllib.request import HTTPRedirectHandler, HTTPSHandler, OpenerDirector, Request, build_opener

from mdan_zoo.errors import MdanZooError

MAX_REDIRECTS = 10
CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
"""Each may name a file of trusted certificate authorities; the first one that is set counts."""

_CHUNK_BYTES = 16_384
_RESERVED = "!#$%&'()*+,/:;=?@[]~"  # not percent-encoded again
_REDIRECTS = (301, 302, 303, 307, 308)

T = TypeVar("T")


def ca_setting() -> tuple[str, str] | None:
    """Return the variable that names a file of authorities, and that file; None if none does."""
    return next(((name, os.environ[name]) for name in CA_VARIABLES if os.environ.get(name)), None)


def within(seconds: float, work: Callable[[], T]) -> T | Exception:
    """Return the result of `work` or the exception that it raises; TimeoutError if it takes long.

    The work runs in a separate thread, because a socket's timeout covers neither the name lookup
    nor a server that sends a byte now and then. A thread that is given up ends with its connection.
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

    Args:
        error: The error.
        handled: What was being handled when the work began: Python chains it too, although it
            belongs to the caller.
    """
    while (deeper := error.__cause__ or error.__context__) not in (None, handled):
        error = deeper
    return error


def fetch_bytes(
    url: str, timeout: float, check: Callable[[str, int], None], error: type[MdanZooError]
) -> bytes:
    """Download a URL into memory.

    Args:
        url: Starts with http:// or https://.
        timeout: Seconds for all of it, from the name lookup to the last byte.
        check: Called with every redirected URL, and with every number of bytes that is announced
            or received. Raises an error of class `error` if one is not acceptable.
        error: Class of the errors. Their messages are reasons alone, without the URL, which may
            contain secrets.
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
    opener = _opener()
    for _ in range(MAX_REDIRECTS + 1):
        wait = max(deadline - time.monotonic(), 0.001)
        try:
            response = opener.open(_request(url), timeout=wait)
        except HTTPError as answer:
            response = answer
        with response:
            target = response.headers.get("Location")
            if response.status not in _REDIRECTS or target is None:
                if response.status != 200:
                    raise error(f"the server answered {response.status} {response.reason}")
                return _body(response, deadline, lambda count: check(url, count))
        # The header was read as Latin-1; whatever its bytes mean, they are percent-encoded.
        url = urljoin(url, quote(target.encode("latin-1"), safe=_RESERVED))
        check(url, 0)
    raise error(f"it redirects more than {MAX_REDIRECTS} times")


def _body(
    response: HTTPResponse | HTTPError, deadline: float, check: Callable[[int], None]
) -> bytes:
    length = response.headers.get("Content-Length", "")
    announced = int(length) if length.isdecimal() else 0
    check(announced)
    body = bytearray()
    while chunk := response.read1(_CHUNK_BYTES):
        body += chunk
        check(len(body))
        if time.monotonic() > deadline:
            raise TimeoutError
    if len(body) < announced:
        raise HTTPException("the body ended early")
    return bytes(body)


class _NoRedirects(HTTPRedirectHandler):
    """Leaves redirects to the caller; the base class would read the whole body of each."""

    def redirect_request(self, *arguments: object) -> None:
        """Follow nothing: the redirect is then raised as an `HTTPError`."""


def _opener() -> OpenerDirector:
    """Return an opener with the environment's proxies and certificate authorities."""
    import certifi  # a dependency of requests

    named = ca_setting()
    authorities = named[1] if named else certifi.where()
    kind = "capath" if os.path.isdir(authorities) else "cafile"
    context = ssl.create_default_context(**{kind: authorities})
    return build_opener(_NoRedirects, HTTPSHandler(context=context))


def _request(url: str) -> Request:
    """Return a request, with the user name and password of the URL in a header of it alone."""
    parts = urlsplit(url)
    login, _, host = parts.netloc.rpartition("@")
    headers = {"User-Agent": "mdan-zoo", "Accept-Encoding": "identity"}
    if login:
        headers["Authorization"] = f"Basic {base64.b64encode(unquote(login).encode()).decode()}"
    path, query = quote(parts.path, safe=_RESERVED), quote(parts.query, safe=_RESERVED)
    plain = parts._replace(netloc=host, path=path, query=query, fragment="")
    return Request(plain.geturl(), headers=headers)
