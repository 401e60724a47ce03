"""Download of one checkpoint over HTTP: complete and with the expected content, or an error.

The server determines nothing but the bytes, and these must have the size and SHA-256 of the entry.
"""

from __future__ import annotations

import hashlib
import re
import sys
from typing import TYPE_CHECKING, BinaryIO

import requests
from tqdm import tqdm

from mdan_zoo.errors import CheckpointError
from mdan_zoo.weights.manifest import ManifestEntry
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
"""An attempt that got at least this much further than all before counts as progress."""

_STRONG_ETAG = re.compile(r'"[!#-~]*"')


def download(
    entry: ManifestEntry, url: str, file: BinaryIO, *, token: str | None = None, login_hint: str
) -> None:
    """Write a verified checkpoint into an empty file that is open for writing.

    Args:
        entry: The expected file.
        url: Starts with http:// or https://.
        file: The file to write. After an error its content is undefined.
        token: A bearer token, sent only to the host and port of `url`, and only over https or to
            this machine.
        login_hint: Advice for the user if the server requires a login; may be empty.

    Raises:
        WeightsUnavailableError: The server cannot be reached, or does not provide the file.
        CheckpointError: The server provides another file.
        OSError: `file` cannot be written.
    """
    shown = _is_terminal(sys.stderr)
    progress = tqdm(total=entry.size, desc=entry.file, unit="B", unit_scale=True, disable=not shown)
    with Session() as session, progress as bar:
        transfer = _Transfer(entry, file, bar)

        def attempt() -> None:
            headers = transfer.range_headers()
            with open_url(session, url, Login(url, token), headers) as response:
                transfer.receive(response, login_hint)

        persist(entry.file, attempt, transfer.has_progressed)


def _is_terminal(stream: object) -> bool:
    try:
        return bool(stream.isatty())  # type: ignore[attr-defined]
    except (AttributeError, ValueError):  # stderr may be closed or replaced
        return False


class _Transfer:
    """The part of the file that has arrived, hashed as it is written."""

    def __init__(self, entry: ManifestEntry, file: BinaryIO, bar: tqdm[Never]):
        self._entry = entry
        self._file = file
        self._bar = bar
        self._may_resume = True
        self._furthest = 0
        self._restart()

    def _restart(self, etag: str | None = None) -> None:
        """Discard what has arrived. `etag` identifies the version of the file that follows."""
        self._file.seek(0)
        self._file.truncate()
        self._bar.reset()
        self._digest = hashlib.sha256()
        self._received = 0
        self._joined = False  # whether the file arrives in parts
        self._etag = etag

    def _cannot_resume(self, problem: str) -> InterruptedTransferError:
        """Discard what has arrived; the next attempts request the whole file."""
        self._may_resume = False
        self._restart()
        return InterruptedTransferError(problem)

    def has_progressed(self) -> bool:
        """Whether notably more has arrived than at the last call, or ever before."""
        gain = self._received - self._furthest
        self._furthest = max(self._furthest, self._received)
        return gain >= PROGRESS_BYTES

    def range_headers(self) -> dict[str, str]:
        """Return the headers that request the rest, if it can be requested."""
        if not (self._may_resume and self._received and self._etag):
            return {}
        return {"Range": f"bytes={self._received}-", "If-Range": self._etag}

    def receive(self, response: requests.Response, login_hint: str) -> None:
        """Write the body of a response; raise an error unless the file is then complete."""
        self._check_head(response, login_hint)
        try:
            for chunk in chunks(response):
                self._append(chunk)
        except InterruptedTransferError as problem:
            have = f"{self._received:,} of {self._entry.size:,} bytes"
            raise InterruptedTransferError(f"{problem} with {have}") from None
        self._check_content()

    def _check_head(self, response: requests.Response, login_hint: str) -> None:
        """Decide from the head of a response whether its body is the file or the rest of it."""
        partial = "Range" in response.request.headers and response.status_code in (206, 416)
        if partial and self._is_rest(response):
            self._joined = True
        elif partial:
            raise self._cannot_resume("the server did not continue where the connection broke")
        elif response.status_code == 200:
            self._check_length(response)
            etag = response.headers.get("ETag", "")
            self._restart(etag if _STRONG_ETAG.fullmatch(etag) else None)
        else:
            raise refusal(response, login_hint)

    def _is_rest(self, response: requests.Response) -> bool:
        size = self._entry.size
        expected = f"bytes {self._received}-{size - 1}/"
        return (
            response.status_code == 206
            and response.headers.get("ETag", self._etag) == self._etag
            and response.headers.get("Content-Range") in (f"{expected}{size}", f"{expected}*")
        )

    def _check_length(self, response: requests.Response) -> None:
        size, length = self._entry.size, response.headers.get("Content-Length", "")
        if length.isdecimal() and length != str(size):
            kind = response.headers.get("Content-Type", "no type")[:40]
            raise CheckpointError(
                f"the server offers {length[:20]} bytes ({kind!a}), the released file has {size}"
            )

    def _append(self, chunk: bytes) -> None:
        self._received += len(chunk)
        if self._received > self._entry.size:
            raise CheckpointError(
                f"the server sends more than the {self._entry.size:,} bytes of the released file"
            )
        self._file.write(chunk)
        self._digest.update(chunk)
        self._bar.update(len(chunk))

    def _check_content(self) -> None:
        size, found = self._entry.size, self._digest.hexdigest()
        if self._received < size:
            raise InterruptedTransferError(
                f"the body ended with {self._received:,} of {size:,} bytes"
            )
        if found != self._entry.sha256:
            problem = f"its file has SHA-256 {found}, the released one has {self._entry.sha256}"
            if self._joined:  # the parts may be of two versions
                raise self._cannot_resume(problem)
            raise CheckpointError(problem)
