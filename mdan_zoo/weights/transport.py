"""HTTP requests for checkpoints: retries, time limits, redirect rules, and the access token.

It imports requests, which takes a while: import this module only where a server is contacted.
"""

from __future__ import annotations

import functools
import http
import ipaddress
import logging
import random
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from http.client import HTTPException, IncompleteRead
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

import requests
from requests.auth import AuthBase
from requests.utils import get_environ_proxies, select_proxy
from urllib3.exceptions import HTTPError
from urllib3.util.retry import Retry

from mdan_zoo._util.http import CA_VARIABLES, MAX_REDIRECTS, T, ca_setting, root_cause, within
from mdan_zoo._version import __version__
from mdan_zoo.errors import WeightsUnavailableError
from mdan_zoo.weights.manifest_fields import without_secrets

ATTEMPTS = 5
"""Attempts in a row without progress before a transfer fails."""
BACKOFF_SECONDS = 1.0
"""Wait before the second attempt; doubled for each further one."""
MAX_BACKOFF_SECONDS = 60.0
MAX_RETRY_AFTER = 300.0
"""If the server asks for a longer wait (Retry-After), the transfer fails."""
CONNECT_TIMEOUT = 10.0
READ_TIMEOUT = 30.0
"""Seconds without a single byte."""
HEAD_TIMEOUT = 60.0
"""Seconds from the name lookup to the end of the response headers."""
CHUNK_BYTES = 1 << 16
"""Maximum size of one read."""
PACE_SECONDS = 60.0
PACE_BYTES = 60_000
"""An attempt that receives less than this in any `PACE_SECONDS` is aborted."""

LOGGER = logging.getLogger("mdan_zoo.weights.fetch")

_USER_AGENT = f"mdan_zoo/{__version__}"
_DEFAULT_PORTS = {"http": 80, "https": 443}
_REASONS: dict[int | str, str] = {  # by status, or by the hub's header X-Error-Code
    401: "it wants a login",
    403: "it denies access",
    404: "it does not have the file",
    410: "it no longer has the file",
    "RepoNotFound": "it has no such repository",
    "RevisionNotFound": "it has no such commit",
    "EntryNotFound": "it has no such file",
    "GatedRepo": "the repository is gated",
}


class InterruptedTransferError(Exception):
    """An attempt failed, but a retry may succeed. `wait` is the server's Retry-After in seconds."""

    def __init__(self, problem: str, wait: float | None = None):
        super().__init__(problem)
        self.wait = wait


class Session(requests.Session):
    """A session that leaves redirects to `open_url`: requests would read the body of each."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Return None, so that requests follows no redirect."""
        return None

    def merge_environment_settings(self, *arguments: Any, **named: Any) -> Any:
        """Use SSL_CERT_FILE too, which requests ignores."""
        settings = super().merge_environment_settings(*arguments, **named)
        if settings["verify"] is True and (setting := ca_setting()):
            settings["verify"] = setting[1]
        return settings


# Attempts


def persist(
    name: str, attempt: Callable[[], T], has_progressed: Callable[[], bool] = lambda: False
) -> T:
    """Return the result of `attempt`, retried with back-off while it is interrupted.

    Args:
        name: Name of the transfer for messages.
        attempt: Raises `InterruptedTransferError` if a retry may succeed.
        has_progressed: Whether the last attempt got further than all before.

    Raises:
        WeightsUnavailableError: `ATTEMPTS` attempts in a row made no progress.
    """
    count = failures = 0
    while True:
        try:
            return attempt()
        except InterruptedTransferError as problem:
            count += 1
            failures = 1 if has_progressed() else failures + 1
            if failures >= ATTEMPTS:
                raise WeightsUnavailableError(
                    f"{problem}; given up after {count} attempts"
                ) from None
            wait = backoff(failures) if problem.wait is None else problem.wait
            LOGGER.warning("%s: %s; next attempt in %.1f s", name, problem, wait)
        time.sleep(wait)


def backoff(failures: int) -> float:
    """Return the seconds to wait after a number of failures."""
    spread = random.uniform(0.5, 1.0)  # so that processes do not retry simultaneously
    return min(BACKOFF_SECONDS * 2.0 ** (failures - 1), MAX_BACKOFF_SECONDS) * spread


def refusal(response: requests.Response, login_hint: str = "") -> Exception:
    """Return the error for a response without the file."""
    status = response.status_code
    known = {s.value: s.phrase for s in http.HTTPStatus}
    answer = f"the server answered {status} {known.get(status, '')}".rstrip()
    if status in (408, 425, 429) or status >= 500:
        wait = seconds_to_wait(response.headers.get("Retry-After"))
        if wait is not None and wait > MAX_RETRY_AFTER:
            return WeightsUnavailableError(f"{answer}, and asks to wait {min(wait, 1e9):,.0f} s")
        return InterruptedTransferError(answer, wait)
    code = response.headers.get("X-Error-Code", "")
    if reason := _REASONS.get(code) or _REASONS.get(status):
        answer += f": {reason}"
    if status in (401, 403, 404) and login_hint:
        answer += f"; {login_hint}"
    return WeightsUnavailableError(answer)


def seconds_to_wait(retry_after: str | None) -> float | None:
    """Return the seconds of a Retry-After header, a number or a date; None if it is malformed."""
    try:
        return Retry().parse_retry_after(retry_after or "")
    except (HTTPError, ValueError, OverflowError):
        return None


# Answers


def open_url(
    session: Session, url: str, login: AuthBase, headers: dict[str, str] | None = None
) -> requests.Response:
    """Return the response after all redirects, with its body unread.

    Raises:
        InterruptedTransferError: No response arrives.
        WeightsUnavailableError: The address or a redirect is invalid.
    """
    options: dict[str, Any] = {
        "headers": {**(headers or {}), "User-Agent": _USER_AGENT, "Accept-Encoding": "identity"},
        "timeout": (CONNECT_TIMEOUT, READ_TIMEOUT),
        "auth": login,
        "stream": True,
    }
    for _ in range(MAX_REDIRECTS + 1):
        response = within(HEAD_TIMEOUT, functools.partial(session.get, url, **options))
        if isinstance(response, Exception):
            raise _explained(response) from None  # its text has the whole URL
        try:
            target = requests.Session.get_redirect_target(session, response)
        except UnicodeError:
            raise WeightsUnavailableError("it redirects to an address that is no text") from None
        if target is None:
            return response
        response.close()
        url = redirect(url, target)
    raise WeightsUnavailableError(f"more than {MAX_REDIRECTS} redirects")


def _explained(error: Exception) -> Exception:
    """Return the error to raise for an error of the client."""
    root, setting = root_cause(error), ca_setting()
    of_network = isinstance(error, (requests.RequestException, TimeoutError))
    if isinstance(root, ssl.SSLCertVerificationError):
        trusted = f"{setting[0]} is {setting[1]}" if setting else f"{CA_VARIABLES[0]} is not set"
        return WeightsUnavailableError(
            f"its certificate is not trusted: {root.verify_message}; for an authority of your own "
            f"set {CA_VARIABLES[0]} to the file with its certificate ({trusted})"
        )
    bad_file = isinstance(root, ssl.SSLError) and root.library == "X509"
    if bad_file or (isinstance(error, OSError) and not of_network):
        named = f"{setting[0]} is {setting[1]}: " if setting else ""
        return WeightsUnavailableError(f"it cannot be asked: {named}{root}")
    if isinstance(error, ValueError):  # the address of the server or of a proxy is malformed
        return WeightsUnavailableError(f"it cannot be asked: {type(error).__name__}")
    if isinstance(error, HTTPError) or of_network:
        return InterruptedTransferError(_reason(error))
    return error


def chunks(response: requests.Response) -> Iterator[bytes]:
    """Yield the body of a response as it arrives, without decompression.

    Raises:
        InterruptedTransferError: The connection breaks or is too slow.
    """
    handled = sys.exc_info()[1]
    start, count = time.monotonic(), 0
    while True:
        try:
            chunk: bytes = response.raw.read1(CHUNK_BYTES, decode_content=False)
        except (HTTPError, HTTPException, OSError, ValueError) as error:  # ValueError: chunk size
            raise InterruptedTransferError(_reason(error, handled)) from None
        if not chunk:
            return
        yield chunk
        count += len(chunk)
        elapsed = time.monotonic() - start
        if elapsed >= PACE_SECONDS:
            if count < PACE_BYTES:
                raise InterruptedTransferError(f"only {count:,} bytes came in {elapsed:.0f} s")
            start, count = time.monotonic(), 0


def _reason(error: BaseException, handled: BaseException | None = None) -> str:
    root = root_cause(error, handled)
    if isinstance(root, TimeoutError) or isinstance(error, requests.Timeout):
        return f"no answer within {CONNECT_TIMEOUT:g} s, or no byte within {READ_TIMEOUT:g} s"
    if isinstance(root, IncompleteRead):
        return "the body ended"
    said = root.strerror if isinstance(root, OSError) else None
    return f"the connection failed ({said or type(root).__name__})"


# Addresses


class Login(AuthBase):
    """Authentication that sends a token only to its own host and port, and only if encrypted.

    It also keeps requests from adding a login from a .netrc file.
    """

    def __init__(self, home: str, token: str | None):
        self._home = home
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the token to a request if it may be sent there."""
        here = str(request.url)
        if self._token and sees_only_server(here) and _origin(here) == _origin(self._home):
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def sees_only_server(url: str) -> bool:
    """Return whether a request is private: https, or this machine without a proxy."""
    parts = parse(url)
    if parts.scheme == "https":
        return True
    return _is_loopback(parts.hostname) and not select_proxy(url, get_environ_proxies(url))


def _is_loopback(host: str | None) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = parse(url)
    return parts.scheme, parts.hostname, parts.port or _DEFAULT_PORTS.get(parts.scheme)


def redirect(url: str, target: str) -> str:
    """Return the absolute target of a redirect, or raise an error if it must not be followed."""
    parse(target)
    address = urljoin(url, target)
    new = parse(address)
    if new.scheme not in _DEFAULT_PORTS:
        raise WeightsUnavailableError(f"it redirects to {_shown(address)}, not to http or https")
    weaker = urlsplit(url).scheme == "https" and new.scheme != "https"
    if weaker and not _is_loopback(new.hostname):
        raise WeightsUnavailableError(
            f"it redirects from https to {_shown(address)}, which is not encrypted"
        )
    return address


def parse(url: str) -> SplitResult:
    """Split an address, whose host and port must be well-formed."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - it is checked when it is read
    except ValueError:
        raise WeightsUnavailableError(f"{_shown(url)} is not a valid address") from None
    return parts


def _shown(url: str) -> str:
    return ascii(without_secrets(url)[:100])
