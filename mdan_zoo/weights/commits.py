"""What the hub told of commits, kept in the cache: the weight file of a commit never changes.

A commit that was loaded once is then loaded without a question, also without a network.
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
    """The weight file of a repository at a commit.

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
        """Return what somebody tells of a file; None if it cannot be true."""
        if type(size) is not int or size < 1:
            return None
        if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
            return None
        return cls(repo, commit, size, sha256)


def folder_of(repo: str) -> Path:
    """Return where the commits of a repository are kept."""
    return cache_folder() / COMMITS / repo.replace("/", "--")


def remember(remote: RemoteWeights) -> None:
    """Keep what was told, if the cache can be written to."""
    with contextlib.suppress(OSError, InputError, WeightsUnavailableError):
        folder = folder_of(remote.repo)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / f"{remote.commit}.json", json.dumps(asdict(remote)).encode())


def recall(repo: str, commit: str) -> RemoteWeights | None:
    """Return what was told of a commit; None if nothing was, or it is not readable now."""
    try:
        with (folder_of(repo) / f"{commit}.json").open("rb") as file:
            known = json.loads(file.read(_MAX_BYTES))
        found = RemoteWeights.checked(repo, commit, known["size"], known["sha256"])
        same = (known["repo"], known["commit"]) == (repo, commit)
    except (OSError, ValueError, TypeError, LookupError, RecursionError, WeightsUnavailableError):
        return None
    return found if same else None
