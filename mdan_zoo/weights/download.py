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
from mdan_zoo.weights.transport import InterruptedTransferError, chunks, opened, persist, refusal

if TYPE_CHECKING:
    from typing_extensions import Never  # of a bar that is updated by hand

_STRONG_ETAG = re.compile(r'"[!#-~]*"')


def download(
    entry: ManifestEntry, url: str, file: BinaryIO, *, token: str | None = None, login_hint: str
) -> None:
    """Write a verified checkpoint into an empty file that is open for writing.

    After an error, the content of the file is undefined. The token is sent only to the host and
    port of `url`, and only over https or to this machine. `login_hint` is advice for the user.

    Raises:
        WeightsUnavailableError: The server cannot be reached, or does not provide the file.
        CheckpointError: The server provides another file.
        OSError: `file` cannot be written.
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
