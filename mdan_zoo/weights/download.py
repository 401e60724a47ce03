"""Download of one file over HTTP: complete and with the expected content, or an error.

The server determines the bytes and nothing else: neither a path nor a name, nor whether the file is
the right one. That is decided by size and SHA-256, which the caller knows beforehand.
"""

from __future__ import annotations

import hashlib
import re
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

import requests
from tqdm import tqdm

from mdan_zoo.errors import CheckpointError
from mdan_zoo.weights.transport import (
    InterruptedTransferError,
    Login,
    Session,
    chunks,
    open_url,
    persist,
    refusal,
)

if TYPE_CHECKING:
    from typing_extensions import Never  # of a bar that is updated by hand

PROGRESS_BYTES = 1 << 14
"""An attempt that came at least this much further than those before counts as progress."""

_STRONG_ETAG = re.compile(r'"[!#-~]*"')


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
    token: str | None = field(default=None, repr=False)
    login_hint: str = ""


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
    shown = _is_terminal(sys.stderr)
    progress = tqdm(
        total=remote.size, desc=remote.name, unit="B", unit_scale=True, disable=not shown
    )
    with Session() as session, progress as bar:
        partial = _Partial(remote, file, bar)
        persist(remote.name, lambda: _transfer(session, remote, partial), partial.has_come_further)


def _is_terminal(stream: object) -> bool:
    """Tell whether a stream, which somebody may have closed or replaced, is a terminal."""
    try:
        return bool(stream.isatty())  # type: ignore[attr-defined]
    except (AttributeError, ValueError):
        return False


class _Partial:
    """The part of the file that has arrived, hashed as it is written."""

    def __init__(self, remote: Remote, file: BinaryIO, bar: tqdm[Never]):
        self._remote = remote
        self._file = file
        self._bar = bar
        self._may_resume = True
        self._furthest = 0
        self.restart(etag=None)

    def restart(self, etag: str | None) -> None:
        """Drop what there is. `etag` names the version of the file that comes now."""
        self._file.seek(0)
        self._file.truncate()
        self._bar.reset()
        self._digest = hashlib.sha256()
        self.joined = False  # whether the file comes in parts
        self.received = 0
        self.etag = etag

    def give_up_resuming(self) -> None:
        """Drop what there is, and fetch the file in one piece from now on."""
        self._may_resume = False
        self.restart(etag=None)

    def has_come_further(self) -> bool:
        """Tell whether there is notably more than at the last call, or ever before."""
        gain = self.received - self._furthest
        self._furthest = max(self._furthest, self.received)
        return gain >= PROGRESS_BYTES

    def range_headers(self) -> dict[str, str]:
        """Return the headers that ask for the rest, if it can be asked for."""
        if not (self._may_resume and self.received and self.etag):
            return {}
        return {"Range": f"bytes={self.received}-", "If-Range": self.etag}

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
            raise InterruptedTransferError(
                f"the body ended with {self.received:,} of {self._remote.size:,} bytes"
            )
        found = self._digest.hexdigest()
        if found == self._remote.sha256:
            return
        problem = f"its file has SHA-256 {found}, the released one has {self._remote.sha256}"
        if self.joined:  # the parts may be of two versions
            self.give_up_resuming()
            raise InterruptedTransferError(problem)
        raise CheckpointError(problem)


def _transfer(session: Session, remote: Remote, partial: _Partial) -> None:
    """Make one attempt."""
    login = Login(remote.url, remote.token)
    with open_url(session, remote.url, login, partial.range_headers()) as response:
        _prepare(response, remote, partial)
        try:
            for chunk in chunks(response):
                partial.append(chunk)
        except InterruptedTransferError as problem:
            have = f"{partial.received:,} of {remote.size:,} bytes"
            raise InterruptedTransferError(f"{problem} with {have}") from None
    partial.check()


def _prepare(response: requests.Response, remote: Remote, partial: _Partial) -> None:
    """Decide by a response's head whether its body is the file, the rest of it, or neither."""
    asked_for_rest = "Range" in response.request.headers
    if response.status_code == 206 and asked_for_rest and _is_rest(response, remote, partial):
        partial.joined = True
    elif response.status_code in (206, 416) and asked_for_rest:
        partial.give_up_resuming()
        raise InterruptedTransferError("the server did not continue where the connection broke")
    elif response.status_code == 200:
        _check_length(response, remote)
        etag = response.headers.get("ETag", "")
        partial.restart(etag if _STRONG_ETAG.fullmatch(etag) else None)
    else:
        raise refusal(response, remote.login_hint)


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
