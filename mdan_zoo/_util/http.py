"""The body of a URL within limits of time and size, and sessions that follow no redirect by itself.

It imports requests, which takes a while: import this module only where a URL is given.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urljoin

import requests
from requests.utils import requote_uri

from mdan_zoo.errors import MdanZooError

MAX_REDIRECTS = 10
CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
"""Each may name a file of the authorities to trust; the first one that is set counts."""

_CHUNK_BYTES = 16_384

T = TypeVar("T")


class Session(requests.Session):
    """Leaves redirects to the caller; requests would read the whole body of each."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Say that there is no redirect."""
        return None

    def merge_environment_settings(self, *arguments: Any, **named: Any) -> Any:
        """Let SSL_CERT_FILE count too, which requests does not know and other clients do."""
        settings = super().merge_environment_settings(*arguments, **named)
        if settings["verify"] is True and (setting := ca_setting()):
            settings["verify"] = setting[1]
        return settings


def ca_setting() -> tuple[str, str] | None:
    """Return the variable that names a file of authorities, and that file; None if none does."""
    return next(((name, os.environ[name]) for name in CA_VARIABLES if os.environ.get(name)), None)


def redirect_target(session: Session, response: requests.Response) -> str | None:
    """Return where a response sends its client, as the server wrote it; None if it does not."""
    return requests.Session.get_redirect_target(session, response)


def within(seconds: float, work: Callable[[], T]) -> T | Exception:
    """Return what `work` returns or the exception that it ends with; TimeoutError if it takes long.

    The work is done in a thread of its own, since a socket's timeout covers neither the name lookup
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
    """Return what an error began with.

    Args:
        error: The error.
        handled: What was being handled when the work began: Python chains it too, although it is
            the business of whoever called.
    """
    while (deeper := error.__cause__ or error.__context__) not in (None, handled):
        error = deeper
    return error


@dataclass(frozen=True)
class Fetch:
    """What a caller allows, and the class of its errors.

    Attributes:
        timeout: Seconds for all of it, from the name lookup to the last byte.
        check_url: Raises an error of class `error` for an address that a redirect must not name.
        check_size: Raises one for a number of bytes that is too large.
        error: Its messages are reasons alone, without the URL, which may hold secrets.
    """

    timeout: float
    check_url: Callable[[str], None]
    check_size: Callable[[int], None]
    error: type[MdanZooError]

    def run(self, url: str) -> bytes:
        """Fetch a URL."""
        deadline = time.monotonic() + self.timeout
        result = within(self.timeout, lambda: self._follow(url, deadline))
        if isinstance(result, bytes):
            return result
        if isinstance(result, self.error):
            raise result
        # Not chained: the texts of these errors hold the whole URL.
        raise self.error(self._reason(result)) from None

    def _follow(self, url: str, deadline: float) -> bytes:
        with Session() as session:
            session.headers.update({"User-Agent": "mdan-zoo", "Accept-Encoding": "identity"})
            for _ in range(MAX_REDIRECTS + 1):
                wait = max(deadline - time.monotonic(), 0.001)
                with session.get(url, stream=True, timeout=wait) as response:
                    target = redirect_target(session, response)
                    if target is None:
                        return self._body(response, deadline)
                url = requote_uri(urljoin(url, target))
                self.check_url(url)
        raise self.error(f"it redirects more than {MAX_REDIRECTS} times")

    def _body(self, response: requests.Response, deadline: float) -> bytes:
        if response.status_code != 200:
            raise self.error(f"the server answered {response.status_code} {response.reason}")
        declared = response.headers.get("Content-Length", "")
        self.check_size(int(declared) if declared.isdecimal() else 0)
        body = bytearray()
        for chunk in response.iter_content(_CHUNK_BYTES):
            body += chunk
            self.check_size(len(body))
            if time.monotonic() > deadline:
                raise TimeoutError
        return bytes(body)

    def _reason(self, error: Exception) -> str:
        root = root_cause(error)
        if isinstance(root, TimeoutError) or isinstance(error, requests.Timeout):
            return f"the download was not complete after timeout={self.timeout:g} seconds"
        said = root.strerror if isinstance(root, OSError) else None
        return f"the download failed ({said or type(root).__name__})"
