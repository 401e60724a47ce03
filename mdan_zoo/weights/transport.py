"""HTTP requests and downloads of checkpoints: retries, time limits, redirects, token, resume.

The server determines nothing but the bytes, which must have the size and SHA-256 of the entry.
requests is slow to import, so import this module only where a server is contacted.
"""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import random
import re
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException, IncompleteRead, responses
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import urljoin, urlsplit

import requests
from requests.auth import AuthBase
from requests.utils import get_environ_proxies, select_proxy
from tqdm import tqdm
from urllib3.connectionpool import connection_from_url
from urllib3.exceptions import HTTPError
from urllib3.util.retry import Retry

from mdan_zoo._util.http import CA_VARIABLES, MAX_REDIRECTS, T, ca_setting, root_cause, within
from mdan_zoo._version import __version__
from mdan_zoo.errors import CheckpointError, WeightsUnavailableError
from mdan_zoo.weights.manifest import ManifestEntry
from mdan_zoo.weights.manifest_fields import without_secrets

if TYPE_CHECKING:
    from typing_extensions import Never  # of a bar that is updated by hand

ATTEMPTS = 5  # consecutive attempts without progress before a transfer fails
PROGRESS_BYTES = 1 << 14  # an attempt that received this much more than all before made progress
BACKOFF_SECONDS = 1.0  # before the second attempt; doubled for each further one
MAX_BACKOFF_SECONDS = 60.0
MAX_RETRY_AFTER = 300.0  # longest Retry-After that is accepted
CONNECT_TIMEOUT = 10.0
READ_TIMEOUT = 30.0  # without a single byte
HEAD_TIMEOUT = 60.0  # from the name lookup to the end of the headers, including redirects
CHUNK_BYTES = 1 << 16  # maximum size of one read
PACE_SECONDS = 60.0
PACE_BYTES = 60_000  # an attempt that receives less in any `PACE_SECONDS` is aborted

LOGGER = logging.getLogger("mdan_zoo.weights.fetch")

_STRONG_ETAG = re.compile(r'"[!#-~]*"')
_REASONS: dict[int | str, str] = {  # by status, or by the hub's header X-Error-Code
    401: "login required",
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
    """A session that follows no redirects: requests would read the body of each."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Return None instead of the URL."""
        return None


class Login(AuthBase):
    """A token for one host and port, sent only if encrypted. It replaces logins of .netrc files."""

    def __init__(self, home: str, token: str | None):
        self._home = home
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the token to a request if it may be sent there."""
        here = str(request.url)
        if self._token and is_private(here) and connection_from_url(self._home).is_same_host(here):
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def is_private(url: str) -> bool:
    """Return whether only the server sees a request: https, or this machine without a proxy."""
    if url.lower().startswith("https:"):
        return True
    return _is_loopback(urlsplit(url).hostname) and not select_proxy(url, get_environ_proxies(url))


def _is_loopback(host: str | None) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


# Attempts


def persist(name: str, attempt: Callable[[], T], received: Callable[[], int] = lambda: 0) -> T:
    """Return the result of `attempt`, retried with back-off if it is interrupted.

    `name` is for messages; `received` returns the number of bytes that have arrived so far.
    """
    count = failures = furthest = 0
    while True:
        try:
            return attempt()
        except InterruptedTransferError as problem:
            count += 1
            failures = 1 if received() - furthest >= PROGRESS_BYTES else failures + 1
            furthest = max(furthest, received())
            if failures >= ATTEMPTS:
                message = f"{problem}; given up after {count} attempts"
                raise WeightsUnavailableError(message) from None
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
    answer = f"the server answered {status} {responses.get(status, '')}".rstrip()
    if status in (408, 425, 429) or status >= 500:
        wait = seconds_to_wait(response.headers.get("Retry-After"))
        if wait is None or wait <= MAX_RETRY_AFTER:
            return InterruptedTransferError(answer, wait)
        answer += f", and requests a wait of {min(wait, 1e9):,.0f} s"
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


# Responses


@contextmanager
def opened(
    url: str, token: str | None, headers: dict[str, str] | None = None
) -> Iterator[requests.Response]:
    """Provide the response to a GET after all redirects, with its body unread."""
    named = ca_setting()  # requests ignores SSL_CERT_FILE
    ours = {"User-Agent": f"mdan_zoo/{__version__}", "Accept-Encoding": "identity"}
    options: dict[str, Any] = {
        "headers": {**(headers or {}), **ours},
        "timeout": (CONNECT_TIMEOUT, READ_TIMEOUT),
        "auth": Login(url, token),
        "verify": named[1] if named else True,
        "stream": True,
    }

    def follow(url: str) -> requests.Response:
        for _ in range(MAX_REDIRECTS + 1):
            response = session.get(url, **options)
            try:
                target = requests.Session.get_redirect_target(session, response)
                if target is None:
                    return response
                response.close()
                url = redirect(url, target)
            except ValueError:
                raise WeightsUnavailableError("it redirects to a malformed address") from None
        raise WeightsUnavailableError(f"more than {MAX_REDIRECTS} redirects")

    with Session() as session:
        response = within(HEAD_TIMEOUT, lambda: follow(url))
        if isinstance(response, Exception):
            raise _explained(response) from None  # its text has the whole URL
        with response:
            yield response


def redirect(url: str, target: str) -> str:
    """Return the absolute target of a redirect, or raise an error if it must not be followed."""
    address = urljoin(url, target)
    new, shown = urlsplit(address), ascii(without_secrets(address)[:100])
    new.port  # noqa: B018 - raises ValueError if it is malformed
    if new.scheme not in ("http", "https"):
        raise WeightsUnavailableError(f"it redirects to {shown}, not to http or https")
    weaker = urlsplit(url).scheme == "https" and new.scheme != "https"
    if weaker and not _is_loopback(new.hostname):
        raise WeightsUnavailableError(f"it redirects from https to {shown}, which is not encrypted")
    return address


def chunks(response: requests.Response) -> Iterator[bytes]:
    """Yield the body of a response as it arrives, without decompression."""
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
                raise InterruptedTransferError(f"only {count:,} bytes received in {elapsed:.0f} s")
            start, count = time.monotonic(), 0


# Errors


def _explained(error: Exception) -> Exception:
    """Return the error to raise for an error of the client."""
    root, setting = root_cause(error), ca_setting()
    of_network = isinstance(error, (requests.RequestException, TimeoutError))
    named = f"{setting[0]} is {setting[1]}" if setting else f"{CA_VARIABLES[0]} is not set"
    if isinstance(root, ssl.SSLCertVerificationError):
        return WeightsUnavailableError(
            f"its certificate is not trusted: {root.verify_message}; for a private certificate "
            f"authority set {CA_VARIABLES[0]} to the file with its certificate ({named})"
        )
    bad_file = isinstance(root, ssl.SSLError) and root.library == "X509"
    if bad_file or (isinstance(error, OSError) and not of_network):
        return WeightsUnavailableError(f"cannot send the request: {named}: {root}")
    if isinstance(error, ValueError):
        kind = type(error).__name__
        return WeightsUnavailableError(f"cannot send the request: invalid URL or proxy ({kind})")
    if isinstance(error, HTTPError) or of_network:
        return InterruptedTransferError(_reason(error))
    return error


def _reason(error: BaseException, handled: BaseException | None = None) -> str:
    root = root_cause(error, handled)
    if isinstance(root, TimeoutError) or isinstance(error, requests.Timeout):
        return f"no answer within {CONNECT_TIMEOUT:g} s, or no byte within {READ_TIMEOUT:g} s"
    if isinstance(root, IncompleteRead):
        return "the body ended"
    said = root.strerror if isinstance(root, OSError) else None
    return f"the connection failed ({said or type(root).__name__})"


# Files


def download(
    entry: ManifestEntry, url: str, file: BinaryIO, *, token: str | None = None, login_hint: str
) -> None:
    """Write a verified checkpoint into an empty file that is open for writing.

    After an error, the content of the file is undefined. The token is sent only to the host and
    port of `url`, and only over https or to this machine. `login_hint` is advice for the user.
    `WeightsUnavailableError` if the server does not provide the file, `CheckpointError` if another.
    """
    try:
        shown = sys.stderr.isatty()
    except (AttributeError, ValueError):  # stderr may be closed or replaced
        shown = False
    progress = tqdm(total=entry.size, desc=entry.file, unit="B", unit_scale=True, disable=not shown)
    with progress as bar:
        transfer = _Transfer(entry, file, bar)

        def attempt() -> None:
            headers = transfer.range_headers()
            with opened(url, token, headers) as response:
                if headers and response.status_code in (206, 416):
                    transfer.check_rest(response)
                elif response.status_code == 200:
                    transfer.begin(response)
                else:
                    raise refusal(response, login_hint)
                transfer.receive(response)

        persist(entry.file, attempt, lambda: transfer.received)


class _Transfer:
    """The part of the file that has arrived, hashed as it is written."""

    def __init__(self, entry: ManifestEntry, file: BinaryIO, bar: tqdm[Never]):
        self._entry, self._file, self._bar = entry, file, bar
        self._may_resume = True
        self._restart()

    def _restart(self, etag: str | None = None) -> None:
        """Discard what has arrived. `etag` identifies the version of the file that follows."""
        self._file.seek(0)
        self._file.truncate()
        self._bar.reset()
        self._digest = hashlib.sha256()
        self.received = 0
        self._joined = False  # whether the file arrives in parts
        self._etag = etag

    def _cannot_resume(self, problem: str) -> InterruptedTransferError:
        """Discard what has arrived; the next attempts request the whole file."""
        self._may_resume = False
        self._restart()
        return InterruptedTransferError(problem)

    def range_headers(self) -> dict[str, str]:
        """Return the headers that request the rest, if it can be requested."""
        if not (self._may_resume and self.received and self._etag):
            return {}
        return {"Range": f"bytes={self.received}-", "If-Range": self._etag}

    def check_rest(self, response: requests.Response) -> None:
        """Raise an error, and discard what has arrived, unless a response has the rest."""
        size = self._entry.size
        expected = f"bytes {self.received}-{size - 1}/"
        self._joined = (
            response.status_code == 206
            and response.headers.get("ETag", self._etag) == self._etag
            and response.headers.get("Content-Range") in (f"{expected}{size}", f"{expected}*")
        )
        if not self._joined:
            raise self._cannot_resume("the server did not continue where the connection broke")

    def begin(self, response: requests.Response) -> None:
        """Start again with the whole file, unless a response announces another size."""
        size, length = self._entry.size, response.headers.get("Content-Length", "")
        if length.isdecimal() and length != str(size):
            kind = response.headers.get("Content-Type", "no type")[:40]
            raise CheckpointError(
                f"the server offers {length[:20]} bytes ({kind!a}), the released file has {size}"
            )
        etag = response.headers.get("ETag", "")
        self._restart(etag if _STRONG_ETAG.fullmatch(etag) else None)

    def receive(self, response: requests.Response) -> None:
        """Write the body of a response; raise an error unless the file is then complete."""
        size = self._entry.size
        try:
            for chunk in chunks(response):
                self.received += len(chunk)
                if self.received > size:
                    raise CheckpointError(
                        f"the server sends more than the {size:,} bytes of the released file"
                    )
                self._file.write(chunk)
                self._digest.update(chunk)
                self._bar.update(len(chunk))
            if self.received < size:
                raise InterruptedTransferError("the body ended")
        except InterruptedTransferError as problem:
            have = f"{self.received:,} of {size:,} bytes"
            raise InterruptedTransferError(f"{problem} with {have}") from None
        if (found := self._digest.hexdigest()) != self._entry.sha256:
            message = f"its file has SHA-256 {found}, the released one has {self._entry.sha256}"
            if not self._joined:
                raise CheckpointError(message)
            raise self._cannot_resume(message)  # the parts may be of two versions
