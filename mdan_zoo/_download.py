"""One file over HTTP: whole and with the right content, or an error that says why not.

What the server sends decides nothing but the bytes: not a path, not a name, not whether the file is
right. Whether it is, its size and SHA-256 say, which the caller knows beforehand.
"""

from __future__ import annotations

import email.utils
import hashlib
import http
import ipaddress
import logging
import random
import re
import sys
import time
from dataclasses import dataclass
from http.client import IncompleteRead
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import SplitResult, urljoin, urlsplit

import requests
from requests.auth import AuthBase
from tqdm import tqdm
from urllib3.exceptions import HTTPError

from mdan_zoo import __version__
from mdan_zoo._http import MAX_REDIRECTS, Session, redirect_target
from mdan_zoo._manifest_checks import without_secrets
from mdan_zoo.errors import CheckpointError, WeightsUnavailableError

if TYPE_CHECKING:
    from typing_extensions import Never  # of a bar that is updated by hand

ATTEMPTS = 5
BACKOFF_SECONDS = 1.0
"""The wait before the second attempt; it doubles with each."""
MAX_WAIT_SECONDS = 60.0
"""A server that asks for a longer wait (Retry-After) is asked again after this one."""
CONNECT_TIMEOUT = 10.0
READ_TIMEOUT = 30.0
"""Seconds without a single byte."""
CHUNK_BYTES = 1 << 16
"""What is lost at most when a connection breaks."""

LOGGER = logging.getLogger("mdan_zoo.hub")

_USER_AGENT = f"mdan_zoo/{__version__}"
_STRONG_ETAG = re.compile(r'"[!#-~]*"')
_DEFAULT_PORTS = {"http": 80, "https": 443}
_REFUSALS = {
    401: "it wants a login",
    403: "it denies access",
    404: "it does not have the file",
    410: "it no longer has the file",
}
_HUB_CODES = {  # the header X-Error-Code
    "RepoNotFound": "it has no such repository",
    "RevisionNotFound": "it has no such commit",
    "EntryNotFound": "it has no such file",
    "GatedRepo": "the repository is gated",
}


@dataclass(frozen=True)
class Remote:
    """A file behind a URL, and what it must be.

    Attributes:
        url: Starts with http:// or https://.
        name: What the progress bar shows.
        size: Bytes.
        sha256: Full SHA-256, in hexadecimal.
        token: A bearer token, sent to the host and port of `url` alone, and only through https or
            to this machine.
        login_hint: What to do if the server wants a login.
    """

    url: str
    name: str
    size: int
    sha256: str
    token: str | None = None
    login_hint: str = ""


class _InterruptedError(Exception):
    """An attempt failed in a way that the next may not. `wait` is what the server asked for."""

    def __init__(self, problem: str, wait: float | None = None):
        super().__init__(problem)
        self.wait = wait


def download(remote: Remote, file: BinaryIO) -> None:
    """Write a file's content, verified, into an empty file that is open for writing.

    Args:
        remote: What to fetch.
        file: Where to put it. After an error it holds anything.

    Raises:
        WeightsUnavailableError: The server cannot be reached, or does not give the file.
        CheckpointError: The server gives another file.
        OSError: `file` cannot be written to.
    """
    with Session() as session, _progress_bar(remote) as bar:
        partial = _Partial(remote, file, bar)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                _transfer(session, remote, partial)
                return
            except _InterruptedError as problem:
                if attempt == ATTEMPTS:
                    raise WeightsUnavailableError(
                        f"{problem}; given up after {ATTEMPTS} attempts"
                    ) from None
                wait = _backoff(attempt) if problem.wait is None else problem.wait
                LOGGER.warning("%s: %s; next attempt in %.1f s", remote.name, problem, wait)
            time.sleep(wait)


def _backoff(attempt: int) -> float:
    spread = random.uniform(0.5, 1.0)  # so that many processes do not come back all at once
    return min(BACKOFF_SECONDS * 2.0 ** (attempt - 1), MAX_WAIT_SECONDS) * spread


def _progress_bar(remote: Remote) -> tqdm[Never]:
    quiet = sys.stderr is None or not sys.stderr.isatty()
    return tqdm(total=remote.size, desc=remote.name, unit="B", unit_scale=True, disable=quiet)


class _Partial:
    """As much of the file as has arrived, hashed as it is written."""

    def __init__(self, remote: Remote, file: BinaryIO, bar: tqdm[Never]):
        self._remote = remote
        self._file = file
        self._bar = bar
        self._may_resume = True
        self.restart(etag=None)

    def restart(self, etag: str | None) -> None:
        """Drop what there is. `etag` names the version of the file that comes now."""
        self._file.seek(0)
        self._file.truncate()
        self._bar.reset()
        self._digest = hashlib.sha256()
        self._joined = False
        self.received = 0
        self.etag = etag

    def give_up_resuming(self) -> None:
        """Drop what there is, and fetch the file in one piece from now on."""
        self._may_resume = False
        self.restart(etag=None)

    def range_headers(self) -> dict[str, str]:
        """Return the headers that ask for the rest, if it can be asked for."""
        if not (self._may_resume and self.received and self.etag):
            return {}
        return {"Range": f"bytes={self.received}-", "If-Range": self.etag}

    def join(self) -> None:
        """Note that what comes next is the rest."""
        self._joined = True

    def append(self, chunk: bytes) -> None:
        """Write the next bytes, unless they are more than the file has."""
        self.received += len(chunk)
        if self.received > self._remote.size:
            raise CheckpointError(
                f"the server sends more than the {self._remote.size:,} bytes of the released file"
            )
        self._file.write(chunk)
        self._digest.update(chunk)
        self._bar.update(len(chunk))

    def check(self) -> None:
        """Raise an error unless this is the whole file, and the right one."""
        if self.received < self._remote.size:
            raise _InterruptedError(
                f"the body ended with {self.received:,} of {self._remote.size:,} bytes"
            )
        found = self._digest.hexdigest()
        if found == self._remote.sha256:
            return
        problem = f"its file has SHA-256 {found}, the released one has {self._remote.sha256}"
        if self._joined:  # the parts may be of two versions
            self.give_up_resuming()
            raise _InterruptedError(problem)
        raise CheckpointError(problem)


def _transfer(session: Session, remote: Remote, partial: _Partial) -> None:
    """Make one attempt."""
    with _open(session, remote, partial.range_headers()) as response:
        _prepare(response, remote, partial)
        try:
            # Undecoded: a compressed body would not be the file that was asked for.
            for chunk in response.raw.stream(CHUNK_BYTES, decode_content=False):
                partial.append(chunk)
        except HTTPError as error:
            have = f"{partial.received:,} of {remote.size:,} bytes"
            raise _InterruptedError(f"{_reason(error)} with {have}") from None
    partial.check()


def _prepare(response: requests.Response, remote: Remote, partial: _Partial) -> None:
    """Decide by a response's head whether its body is the file, the rest of it, or neither."""
    asked_for_rest = "Range" in response.request.headers
    if response.status_code == 206 and asked_for_rest and _is_rest(response, remote, partial):
        partial.join()
    elif response.status_code in (206, 416) and asked_for_rest:
        partial.give_up_resuming()
        raise _InterruptedError("the server did not continue where the connection broke")
    elif response.status_code == 200:
        _check_length(response, remote)
        etag = response.headers.get("ETag", "")
        partial.restart(etag if _STRONG_ETAG.fullmatch(etag) else None)
    else:
        raise _refusal(response, remote)


def _is_rest(response: requests.Response, remote: Remote, partial: _Partial) -> bool:
    sent = response.headers.get("Content-Range", "")
    expected = f"bytes {partial.received}-{remote.size - 1}/"
    same_version = response.headers.get("ETag", partial.etag) == partial.etag
    return same_version and sent in (f"{expected}{remote.size}", f"{expected}*")


def _check_length(response: requests.Response, remote: Remote) -> None:
    length = response.headers.get("Content-Length", "")
    if length.isdecimal() and length != str(remote.size):
        kind = response.headers.get("Content-Type", "no type")[:40]
        raise CheckpointError(
            f"the server offers {length[:20]} bytes ({kind!a}), the released file has {remote.size}"
        )


def _refusal(response: requests.Response, remote: Remote) -> Exception:
    status = response.status_code
    known = {s.value: s.phrase for s in http.HTTPStatus}
    answer = f"the server answered {status} {known.get(status, '')}".rstrip()
    if status in (408, 425, 429) or status >= 500:
        return _InterruptedError(answer, _seconds_to_wait(response.headers.get("Retry-After")))
    code = response.headers.get("X-Error-Code", "")
    if reason := _HUB_CODES.get(code) or _REFUSALS.get(status):
        answer += f": {reason}"
    if status in (401, 403, 404) and remote.login_hint:
        answer += f"; {remote.login_hint}"
    return WeightsUnavailableError(answer)


def _seconds_to_wait(retry_after: str | None) -> float | None:
    """Return the seconds that a Retry-After header, a number or a date, asks for."""
    if retry_after is None:
        return None
    try:
        if retry_after.strip().isdecimal():
            seconds = float(retry_after)
        else:
            seconds = email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):  # the header is the server's: it may be anything
        return None
    return min(max(seconds, 0.0), MAX_WAIT_SECONDS)


# Addresses


class _Login(AuthBase):
    """Sends the token to the host that it is for.

    It also keeps requests from adding what a .netrc file holds for the host.
    """

    def __init__(self, remote: Remote):
        self._remote = remote

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        here, home = _parse(str(request.url)), _parse(self._remote.url)
        if self._remote.token and is_private(here) and _origin(here) == _origin(home):
            request.headers["Authorization"] = f"Bearer {self._remote.token}"
        return request


def is_private(url: SplitResult) -> bool:
    """Tell whether nobody can listen on the way to an address: https, or this machine."""
    return url.scheme == "https" or _is_loopback(url.hostname or "")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _origin(url: SplitResult) -> tuple[str, str | None, int | None]:
    return url.scheme, url.hostname, url.port or _DEFAULT_PORTS.get(url.scheme)


def _open(session: Session, remote: Remote, headers: dict[str, str]) -> requests.Response:
    """Return the response at the end of the redirects, its body unread."""
    headers = {**headers, "User-Agent": _USER_AGENT, "Accept-Encoding": "identity"}
    url = remote.url
    for _ in range(MAX_REDIRECTS + 1):
        response = _get(session, url, headers, _Login(remote))
        target = redirect_target(session, response)
        if target is None:
            return response
        response.close()
        url = _redirect(url, target)
    raise WeightsUnavailableError(f"more than {MAX_REDIRECTS} redirects")


def _get(session: Session, url: str, headers: dict[str, str], login: AuthBase) -> requests.Response:
    try:
        return session.get(
            url, headers=headers, auth=login, stream=True, timeout=(CONNECT_TIMEOUT, READ_TIMEOUT)
        )
    except requests.RequestException as error:
        # Not chained: the texts of these errors hold the whole URL.
        if isinstance(error, ValueError):  # the address of the server or of a proxy is malformed
            raise WeightsUnavailableError(f"it cannot be asked: {type(error).__name__}") from None
        raise _InterruptedError(_reason(error)) from None


def _redirect(url: str, target: str) -> str:
    """Return the address that a redirect leads to, if it may be followed."""
    _parse(target)
    address = urljoin(url, target)
    new = _parse(address)
    if new.scheme not in _DEFAULT_PORTS:
        raise WeightsUnavailableError(f"it redirects to {_shown(address)}, not to http or https")
    if urlsplit(url).scheme == "https" and not is_private(new):
        raise WeightsUnavailableError(
            f"it redirects from https to {_shown(address)}, which is not encrypted"
        )
    return address


def _parse(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - it is checked when it is read
    except ValueError:
        raise WeightsUnavailableError(f"{_shown(url)} is not a valid address") from None
    return parts


def _shown(url: str) -> str:
    return ascii(without_secrets(url)[:100])


def _reason(error: BaseException) -> str:
    root = error
    while (deeper := root.__cause__ or root.__context__) is not None:
        root = deeper
    if isinstance(root, TimeoutError) or isinstance(error, requests.Timeout):
        return f"no answer within {CONNECT_TIMEOUT:g} s, or no byte within {READ_TIMEOUT:g} s"
    if isinstance(root, IncompleteRead):
        return "the body ended"
    said = root.strerror if isinstance(root, OSError) else None
    return f"the connection failed ({said or type(root).__name__})"
