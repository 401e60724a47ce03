"""HTTP client: downloads with time limits, redirects, retries, resumption, logins and certificates.

requests is slow to import, so import this module only where a server is contacted.
"""

from __future__ import annotations

import logging
import os
import random
import re
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from contextlib import suppress
from functools import partial
from http.client import HTTPException, IncompleteRead, responses
from itertools import chain
from typing import Any, BinaryIO, TypeVar
from urllib.parse import urljoin, urlsplit

import requests
from requests.auth import HTTPBasicAuth
from requests.utils import get_auth_from_url, get_environ_proxies, select_proxy
from tqdm import tqdm
from urllib3.connectionpool import connection_from_url
from urllib3.exceptions import HTTPError
from urllib3.util.retry import Retry

from mdan_zoo._util.files import sha256_of
from mdan_zoo._util.progress import silence_logged
from mdan_zoo._version import __version__
from mdan_zoo.errors import InputError, MdanZooError, without_secrets

PROGRESS_BYTES = 1 << 14  # an attempt that received this much more than all before made progress
BACKOFF_SECONDS = 1.0  # before the second attempt; doubled for each further one
MAX_RETRY_AFTER = 300.0  # longest Retry-After that is accepted
CONNECT_TIMEOUT = 10.0
READ_TIMEOUT = 30.0  # without a single byte
HEAD_TIMEOUT = 60.0  # from the name lookup to the end of the headers, including redirects
CHUNK_BYTES = 1 << 16  # maximum size of one read
PACE_SECONDS = 60.0
PACE_BYTES = 60_000  # an attempt that receives less in any `PACE_SECONDS` is aborted
MAX_REDIRECTS = 10
CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")  # the first set counts
LOGGER = logging.getLogger("mdan_zoo.weights.fetch")
T = TypeVar("T")

_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
REASONS: dict[int | str, str] = {  # by status, or by the hub's header X-Error-Code
    401: "login required",
    403: "it denies access",
    404: "it does not have the file",
    410: "it no longer has the file",
    "RepoNotFound": "it has no such repository, or a private one: check the name",
    "RevisionNotFound": "it has no such branch, tag or commit",
    "EntryNotFound": "it has no such file",
    "GatedRepo": "the repository is gated: accept the terms on the model's page",
}


class TransferError(MdanZooError):
    """A download failed. The message does not contain the URL, which may have secrets.

    `retry` tells whether another attempt may succeed, `wait` after how many seconds if the server
    says so, and `status` is that of the answer or the hub's X-Error-Code.
    """

    def __init__(
        self, problem: str, status: int | str = 0, *, retry: bool = False, wait: float | None = None
    ):
        super().__init__(problem)
        self.status, self.retry, self.wait = status, retry, wait


def fetch_bytes(
    url: str, timeout: float, max_bytes: int, token: str = "", private: bool = False
) -> bytes:
    """Download a URL into memory, in one attempt.

    `timeout` is in seconds, from the name lookup to the last byte. See `get` for the others.
    """
    deadline = time.monotonic() + timeout + 1

    def read() -> bytes:
        body = bytearray()
        with get(url, token, {}, timeout + 1, private) as response:
            if response.status_code != 200:
                raise refusal(response)
            for chunk in chain([b""], chunks(response)):
                body += chunk
                if max(len(body), response.raw.length_remaining or 0) > max_bytes:
                    raise TransferError(f"it has more than max_bytes={max_bytes:,} bytes")
                if time.monotonic() > deadline:
                    raise TransferError("nobody waits for it any longer")
        return bytes(body)

    return _within(timeout, read, "no complete answer within")


def download(url: str, file: BinaryIO, name: str, size: int, sha256: str, token: str = "") -> None:
    """Download a file of known size and SHA-256; the server determines nothing but its bytes.

    `file` is open for reading and writing, at its end: what an interrupted download left in it is
    continued. After an error, it has what the next call continues, or nothing if that is known to
    be wrong. `name` is for messages. `token`: see `get`.
    """
    shown = False
    with suppress(AttributeError, ValueError):  # stderr may be closed or replaced
        shown = sys.stderr.isatty()
    with tqdm(total=size, desc=name, unit="B", unit_scale=True, disable=not shown) as bar:
        transfer = _Transfer(file, size, sha256, bar)
        try:
            persist(name, lambda: transfer.attempt(url, token), file.tell, size)
        except TransferError:
            if not transfer.sized:
                transfer.discard()
            raise


class _Transfer:
    """The part of a file that has arrived; `sized` if its server announced the right size."""

    def __init__(self, file: BinaryIO, size: int, sha256: str, bar: tqdm[Any]):
        self._file, self._size, self._sha256, self._bar = file, size, sha256, bar
        self._condition: dict[str, str] | None = {}  # header to request the rest; None: impossible
        self.sized = True

    def attempt(self, url: str, token: str) -> None:
        """Request what is missing; raise an error unless the file is right afterwards."""
        have, headers = self._file.tell(), {}
        joined = have > 0
        if have < self._size:
            if have and self._condition is not None:
                headers = {"Range": f"bytes={have}-", **self._condition}
            ask = partial(get, url, token, headers, READ_TIMEOUT)
            with _within(HEAD_TIMEOUT, ask, "no answer within") as response:
                joined = bool(headers) and response.status_code in (206, 416)
                if joined:
                    self._check_rest(response, have)
                elif response.status_code == 200:
                    self._begin(response)
                else:
                    raise refusal(response)
                self._receive(response)
        self._file.seek(0)
        if (found := sha256_of(self._file)) != self._sha256:
            message = f"its file has SHA-256 {found}, the released one has {self._sha256}"
            if not joined:
                self.discard()
                raise TransferError(message)
            raise self._cannot_resume(message)  # the parts may be of two versions

    def _begin(self, response: requests.Response) -> None:
        """Start again with the whole file, unless a response announces another size."""
        length = response.headers.get("Content-Length", "")
        if length.isdecimal() and length != str(self._size):
            offered = f"{length[:20]} bytes ({response.headers.get('Content-Type', '')[:40]!a})"
            raise TransferError(f"the server offers {offered}, the released file has {self._size}")
        self.discard()
        self.sized = bool(length)
        strong = re.fullmatch(r'"[!#-~]*"', response.headers.get("ETag", ""))
        if self._condition is not None:
            self._condition = {"If-Range": strong[0]} if strong else None

    def _check_rest(self, response: requests.Response, have: int) -> None:
        """Raise an error, and discard what has arrived, unless a response has the rest."""
        start, etag = f"bytes {have}-{self._size - 1}/", response.headers.get("ETag")
        same_file = etag in (None, (self._condition or {}).get("If-Range", etag))
        the_rest = response.headers.get("Content-Range") in (f"{start}{self._size}", f"{start}*")
        if not (response.status_code == 206 and same_file and the_rest):
            raise self._cannot_resume("the server did not continue where the connection broke")

    def _receive(self, response: requests.Response) -> None:
        """Write the body of a response; raise an error unless the file then has its size."""
        for chunk in chunks(response):
            if self._file.tell() + len(chunk) > self._size:
                self.discard()
                raise TransferError(f"the server sends more than the {self._size:,} bytes released")
            self._file.write(chunk)
            self._bar.update(self._file.tell() - self._bar.n)
        if self._file.tell() < self._size:
            raise TransferError("the body ended", retry=True)

    def _cannot_resume(self, problem: str) -> TransferError:
        """Discard what has arrived; the next attempts request the whole file."""
        self._condition = None
        self.discard()
        return TransferError(problem, retry=True)

    def discard(self) -> None:
        """Forget the part."""
        self._file.truncate(self._file.seek(0))


def persist(name: str, attempt: Callable[[], T], received: Callable[[], int], size: int) -> T:
    """Return the result of `attempt`, retried with back-off if that may help.

    MDAN_ZOO_RETRIES limits those without progress. `received` counts the bytes so far, of `size`.
    """
    retries = os.environ.get("MDAN_ZOO_RETRIES") or "4"
    if not retries.isdecimal():
        raise InputError(f"MDAN_ZOO_RETRIES must be a whole number, not {retries[:20]!r}")
    count = furthest = 0
    failures = -bool(received())  # what is there may be of another version, and be discarded
    with silence_logged(LOGGER, name, received):
        while True:
            try:
                return attempt()
            except TransferError as error:
                if not error.retry:
                    raise
                have, wait = received(), error.wait
                problem = f"{error} with {have:,} of {size:,} bytes" if have else str(error)
            count += 1
            failures = 1 if have - furthest >= PROGRESS_BYTES else failures + 1
            furthest = max(furthest, have)
            if failures > int(retries):
                raise TransferError(f"{problem}; given up after {count} attempts")
            if wait is None:  # at random, so that processes do not retry simultaneously
                wait = BACKOFF_SECONDS * 2 ** (failures - 1) * random.uniform(0.5, 1)
            LOGGER.warning("%s: %s; next attempt in %.1f s", name, problem, wait)
            time.sleep(wait)


def _within(seconds: float, work: Callable[[], T], late: str) -> T:
    """Return the result of `work` or raise its error; if it takes too long, one that says `late`.

    It runs in a thread, because a socket's timeout covers neither the name lookup nor a server that
    sends a byte now and then. An abandoned thread ends with its connection.
    """
    outcome: futures.Future[T] = futures.Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except Exception as error:
            outcome.set_exception(error)

    threading.Thread(target=run, name="mdan_zoo fetch", daemon=True).start()
    try:
        return outcome.result(seconds)
    except futures.TimeoutError:
        raise TransferError(f"{late} {seconds:g} s", retry=True) from None


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> None:
        """Follow no redirects: requests would read the body of each."""


def get(
    url: str, token: str, headers: Mapping[str, str], read_timeout: float, private: bool = False
) -> requests.Response:
    """Return the response to a GET after all redirects, with its body unread.

    The token is sent only to the host and port of `url`, and only over https or to this machine.
    A redirect to http is followed to this machine, and from http unless `private` is given.
    """
    ours = {"User-Agent": f"mdan_zoo/{__version__}", "Accept-Encoding": "identity"}
    with _Session() as session:
        session.headers.update({**headers, **ours})
        session.auth = partial(log_in, url, token)
        session.verify = ca_setting()[1] or True  # requests ignores SSL_CERT_FILE
        secure = private
        for _ in range(MAX_REDIRECTS + 1):
            try:
                response = session.get(url, timeout=(CONNECT_TIMEOUT, read_timeout), stream=True)
            except (OSError, ValueError, HTTPError) as error:
                raise _explained(error) from None  # its text has the whole URL
            try:
                target = requests.Session.get_redirect_target(session, response)
                if target is None:
                    return response
                response.close()
                old, new = urlsplit(url), urlsplit(url := urljoin(url, target))
                new.port  # noqa: B018 - raises ValueError if it is malformed
            except ValueError:
                raise TransferError("it redirects to a malformed address") from None
            to = f"to {without_secrets(url)[:100]!a}"
            if new.scheme not in ("http", "https"):
                raise TransferError(f"it redirects {to}, not to http or https")
            exposed = new.scheme == "http" and new.hostname not in _THIS_MACHINE
            secure |= old.scheme == "https"  # also before a redirect to this machine
            if exposed and secure:
                raise TransferError(f"it redirects from {old.scheme} {to}, which is not encrypted")
    raise TransferError(f"more than {MAX_REDIRECTS} redirects")


def log_in(home: str, token: str, request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Add the token to a request if it may be sent there, or else the user name in its URL.

    As the `auth` of a session, it replaces the logins of .netrc files.
    """
    here = str(request.url)
    if token and is_private(here) and connection_from_url(home).is_same_host(here):
        request.headers["Authorization"] = f"Bearer {token}"
    elif any(login := get_auth_from_url(here)):
        HTTPBasicAuth(*(word.encode() for word in login))(request)
    return request


def is_private(url: str) -> bool:
    """Return whether only the server sees a request: https, or this machine without a proxy."""
    return url.lower().startswith("https:") or (
        urlsplit(url).hostname in _THIS_MACHINE and not select_proxy(url, get_environ_proxies(url))
    )


def ca_setting() -> tuple[str, str]:
    """Return the first of `CA_VARIABLES` that is set, and its value; "" if none is."""
    return next(((n, v) for n in CA_VARIABLES if (v := os.environ.get(n))), (CA_VARIABLES[0], ""))


def chunks(response: requests.Response) -> Iterator[bytes]:
    """Yield the body of a response as it arrives, without decompression."""
    handled = sys.exc_info()[1]
    start, count = time.monotonic(), 0
    while True:
        try:
            chunk: bytes = response.raw.read1(CHUNK_BYTES, decode_content=False)
        except (HTTPError, HTTPException, OSError, ValueError) as error:  # ValueError: chunk size
            raise TransferError(_reason(_root_cause(error, handled)), retry=True) from None
        if not chunk:
            return
        yield chunk
        count += len(chunk)
        if (elapsed := time.monotonic() - start) >= PACE_SECONDS:
            if count < PACE_BYTES:
                raise TransferError(f"only {count:,} bytes received in {elapsed:.0f} s", retry=True)
            start, count = time.monotonic(), 0


def refusal(response: requests.Response) -> TransferError:
    """Return the error for a response without the file."""
    status, wait = response.status_code, None
    answer = f"the server answered {status} {responses.get(status, '')}".rstrip()
    if status in (408, 425, 429) or status >= 500:
        with suppress(HTTPError, ValueError, OverflowError):  # it is malformed
            wait = Retry().parse_retry_after(response.headers.get("Retry-After", ""))
        if wait is None or wait <= MAX_RETRY_AFTER:
            return TransferError(answer, status, retry=True, wait=wait)
        answer += f", and requests a wait of {min(wait, 1e9):,.0f} s"
    known = code if (code := response.headers.get("X-Error-Code", "")) in REASONS else status
    return TransferError(f"{answer}: {REASONS[known]}" if known in REASONS else answer, known)


def _explained(error: Exception) -> TransferError:
    """Return the error to raise for one that came before the end of the headers."""
    root, (name, value) = _root_cause(error), ca_setting()
    named = f"{name} is {value or 'not set'}"
    if isinstance(root, ssl.SSLCertVerificationError):
        return TransferError(
            f"its certificate is not trusted: {root.verify_message}; for a private certificate "
            f"authority set {CA_VARIABLES[0]} to the file with its certificate ({named})"
        )
    ours = isinstance(error, OSError) and not isinstance(error, requests.RequestException)
    if ours or (isinstance(root, ssl.SSLError) and root.library == "X509"):
        problem = f"{named}: {root}"
    elif isinstance(error, ValueError):
        problem = f"invalid URL or proxy ({type(error).__name__})"
    else:
        return TransferError(_reason(root), retry=True)
    return TransferError(f"cannot send the request: {problem}")


def _root_cause(error: BaseException, handled: BaseException | None = None) -> BaseException:
    """Return the error at the start of a chain of errors, of which the caller handled the last."""
    while (deeper := error.__cause__ or error.__context__) not in (None, handled):
        error = deeper
    return error


def _reason(root: BaseException) -> str:
    if isinstance(root, TimeoutError):
        return f"no answer within {CONNECT_TIMEOUT:g} s, or no byte within {READ_TIMEOUT:g} s"
    if isinstance(root, IncompleteRead):
        return "the body ended"
    said = root.strerror if isinstance(root, OSError) else None
    return f"the connection failed ({said or type(root).__name__})"
