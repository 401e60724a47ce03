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
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Fetch:
    """The limits of a download, and the class of its errors.

    Attributes:
        timeout: Seconds for all of it, from the name lookup to the last byte.
        check_url: Raises an error of class `error` for a redirect that must not be followed.
        check_size: Raises one for a number of bytes that is too large.
        error: Its messages are reasons alone, without the URL, which may hold secrets.
    """

    timeout: float
    check_url: Callable[[str], None]
    check_size: Callable[[int], None]
    error: type[MdanZooError]

    def run(self, url: str) -> bytes:
        """Download a URL."""
        deadline = time.monotonic() + self.timeout
        result = within(self.timeout, lambda: self._follow(url, deadline))
        if isinstance(result, bytes):
            return result
        if isinstance(result, self.error):
            raise result
        # Not chained: the texts of these errors hold the whole URL.
        raise self.error(self._reason(result)) from None

    def _follow(self, url: str, deadline: float) -> bytes:
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
                    return self._body(response, deadline)
            # The header was read as Latin-1; whatever its bytes mean, they are percent-encoded.
            url = urljoin(url, quote(target.encode("latin-1"), safe=_RESERVED))
            self.check_url(url)
        raise self.error(f"it redirects more than {MAX_REDIRECTS} times")

    def _body(self, response: HTTPResponse | HTTPError, deadline: float) -> bytes:
        if response.status != 200:
            raise self.error(f"the server answered {response.status} {response.reason}")
        declared = response.headers.get("Content-Length", "")
        self.check_size(int(declared) if declared.isdecimal() else 0)
        body = bytearray()
        while chunk := response.read1(_CHUNK_BYTES):
            body += chunk
            self.check_size(len(body))
            if time.monotonic() > deadline:
                raise TimeoutError
        if declared.isdecimal() and len(body) < int(declared):
            raise HTTPException("the body ended early")
        return bytes(body)

    def _reason(self, error: Exception) -> str:
        root = root_cause(error)
        if isinstance(root, TimeoutError):
            return f"the download was not complete after timeout={self.timeout:g} seconds"
        said = root.strerror if isinstance(root, OSError) else None
        return f"the download failed ({said or type(root).__name__})"


class _NoRedirects(HTTPRedirectHandler):
    """Leaves redirects to the caller; the base class would read the whole body of each."""

    def redirect_request(self, *arguments: object) -> None:
        """Follow nothing: the redirect is then raised as an `HTTPError`."""


def _opener() -> OpenerDirector:
    """Return what opens URLs: through the environment's proxies, with its authorities."""
    if setting := ca_setting():
        authorities = setting[1]
    else:
        import certifi  # a dependency of requests

        authorities = certifi.where()
    folder = os.path.isdir(authorities)
    context = ssl.create_default_context(
        cafile=None if folder else authorities, capath=authorities if folder else None
    )
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
