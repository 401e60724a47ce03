"""Known commits: size and hash of a commit's checkpoint, stored in the cache.

The files of a commit never change, so one that was loaded before needs no look-up, and no network.
"""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from mdan_zoo._util.files import write_atomically
from mdan_zoo.errors import InputError, WeightsUnavailableError
from mdan_zoo.weights.cache import COMMITS, cache_folder

_MAX_BYTES = 10_000
_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class RemoteWeights:
    """The checkpoint of a repository at a commit.

    Attributes:
        repo: Owner and name.
        commit: 40 hexadecimal digits.
        size: Of the file, in bytes.
        sha256: Of the file, in hexadecimal.
    """

    repo: str
    commit: str
    size: int
    sha256: str

    @classmethod
    def checked(cls, repo: str, commit: str, size: object, sha256: object) -> RemoteWeights | None:
        """Return the record of a file, or None if size or hash are malformed."""
        if type(size) is not int or size < 1:
            return None
        if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
            return None
        return cls(repo, commit, size, sha256)


def folder_of(repo: str) -> Path:
    """Return the folder of the known commits of a repository."""
    return cache_folder() / COMMITS / repo.replace("/", "--")


def remember(remote: RemoteWeights) -> None:
    """Store a record, if the cache can be written to."""
    with contextlib.suppress(OSError, InputError, WeightsUnavailableError):
        folder = folder_of(remote.repo)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / f"{remote.commit}.json", json.dumps(asdict(remote)).encode())


def recall(repo: str, commit: str) -> RemoteWeights | None:
    """Return the stored record of a commit; None if there is none, or it cannot be read."""
    try:
        with (folder_of(repo) / f"{commit}.json").open("rb") as file:
            known = json.loads(file.read(_MAX_BYTES))
        found = RemoteWeights.checked(repo, commit, known["size"], known["sha256"])
        same = (known["repo"], known["commit"]) == (repo, commit)
    except (OSError, ValueError, TypeError, LookupError, RecursionError, WeightsUnavailableError):
        return None
    return found if same else None
