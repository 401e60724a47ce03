"""Hugging Face Hub API: endpoint, token, and the checkpoint of a revision.

A revision is looked up by one GET, with the time limits, retries and token rules of a download. The
files of a commit never change, so the answer for a commit is stored in the cache and reused.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from mdan_zoo._util.files import write_atomically
from mdan_zoo.errors import InputError, WeightsUnavailableError
from mdan_zoo.weights.cache import COMMITS, cache_folder
from mdan_zoo.weights.manifest import OFFLINE_VARIABLES, is_offline
from mdan_zoo.weights.manifest_fields import without_secrets

ADVICE = {
    401: (
        "it asks for a login (401). Run `hf auth login`, or set HF_TOKEN to a token that may see "
        "the repository, and write to it for publishing"
    ),
    403: (
        "the token is not allowed to do this (403). Give it the right to write to repositories of "
        "that owner, at https://huggingface.co/settings/tokens, or use another OWNER/REPO"
    ),
    404: (
        "there is no such repository or revision, or the token may not see it (404). Check the "
        "name; for a private repository run `hf auth login` or set HF_TOKEN"
    ),
}
"""Advice for the user by HTTP status."""

WEIGHTS_FILE = "model.safetensors"
"""Name of the checkpoint in every repository."""
LOOKUP_TIMEOUT = 30.0
"""Seconds for one attempt to look up a revision."""

_ENDPOINT = "https://huggingface.co"
_MAX_ANSWER_BYTES = 16 << 20  # a repository with some 50,000 files
_MAX_RECORD_BYTES = 10_000
_COMMIT = re.compile("[0-9a-f]{40}")
_SHA256 = re.compile("[0-9a-f]{64}")
_REPO = re.compile("[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
_REVISION = re.compile(r"(?!.*\.\.)[^\s\x00-\x1f\x7f.][^\s\x00-\x1f\x7f]*")
OFFLINE_REASON = f"{' or '.join(OFFLINE_VARIABLES)} forbids connections"


@dataclass(frozen=True)
class Hub:
    """The hub that HF_ENDPOINT names, and the login for it.

    Attributes:
        endpoint: Its address, without a final slash.
        token: An access token.
    """

    endpoint: str
    token: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return without_secrets(self.endpoint)

    @property
    def may_see_token(self) -> bool:
        """Whether a token may be sent: over https, or to this machine."""
        from mdan_zoo.weights.transport import sees_only_server

        return sees_only_server(self.endpoint)


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


def find_hub(token: str | None = None) -> Hub:
    """Return the hub that HF_ENDPOINT names; huggingface.co by default.

    huggingface_hub itself reads that variable only when it is imported.

    Args:
        token: An access token; by default `HF_TOKEN` or that of `hf auth login`.

    Raises:
        InputError: HF_ENDPOINT is not an address, or the token has invalid characters.
    """
    endpoint = (os.environ.get("HF_ENDPOINT") or _ENDPOINT).strip().rstrip("/")
    try:
        parts = urlsplit(endpoint)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise InputError(
            f"HF_ENDPOINT is {without_secrets(endpoint)!r}; it must begin with https:// and name a "
            "host"
        )
    return Hub(endpoint, _checked(_implicit_token() if token is None else token))


def _implicit_token() -> str | None:
    from huggingface_hub import constants, get_token

    if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN:
        return None
    try:
        return get_token()
    except Exception as error:  # those of its login have no class in common
        raise InputError(f"huggingface_hub has no token: {type(error).__name__}") from None


def _checked(token: object) -> str | None:
    """Return a token without surrounding space; None if empty. Messages never contain it."""
    if token is None:
        return None
    if not isinstance(token, str) or not re.fullmatch("[!-~]*", token.strip()):
        raise InputError(
            "the access token (HF_TOKEN or token=) must be one word of plain letters, digits and "
            "signs; copy it again from where it was made"
        )
    return token.strip() or None


def check_repo(repo: str) -> None:
    """Raise `InputError` unless `repo` has the form of a repository's name."""
    if not _REPO.fullmatch(repo):
        raise InputError(
            f"a repository is named OWNER/REPO, both of letters, digits, '-', '_' and '.', "
            f"not {repo!r}"
        )


def find_remote(
    repo: str, revision: str | None = None, *, token: str | None = None
) -> RemoteWeights:
    """Return the commit of a revision, and size and hash of its checkpoint.

    The hub is queried unless the revision is a commit whose record is in the cache.

    Args:
        repo: Owner and name.
        revision: A branch, tag or commit; by default the main branch.
        token: An access token; by default `HF_TOKEN` or that of `hf auth login`.

    Raises:
        InputError: `repo`, `revision`, HF_ENDPOINT or the token is malformed.
        WeightsUnavailableError: There is no such repository, revision or file, or no connection.
    """
    check_repo(repo)
    if revision is not None and not _REVISION.fullmatch(revision):
        raise InputError(f"a revision is a branch, a tag or a commit, not {revision!r}")
    if revision is not None and _COMMIT.fullmatch(revision):
        known = _recall(repo, revision)
        if known is not None:
            return known
    return ask_for_remote(repo, revision, token=token)


def ask_for_remote(
    repo: str, revision: str | None = None, *, token: str | None = None
) -> RemoteWeights:
    """As `find_remote`, but always query the hub."""
    if is_offline():
        raise WeightsUnavailableError(
            f"cannot look up {repo}: {OFFLINE_REASON}; offline, give a commit (revision=) that was "
            f"loaded before with this cache ({_folder_of(repo)}), or a folder with its "
            f"{WEIGHTS_FILE}"
        )
    hub = find_hub(token)
    try:
        remote = _weights_of(repo, _ask(hub, repo, revision))
    except WeightsUnavailableError as error:
        raise WeightsUnavailableError(f"cannot look up {repo} at {hub}: {error}") from None
    _remember(remote)
    return remote


def _ask(hub: Hub, repo: str, revision: str | None) -> object:
    """Return the hub's description of a revision."""
    from mdan_zoo._util.http import within
    from mdan_zoo.weights import transport

    url = f"{hub.endpoint}/api/models/{repo}"
    if revision is not None:
        url += f"/revision/{quote(revision, safe='')}"

    def attempt() -> bytes:
        answer = within(LOOKUP_TIMEOUT, lambda: _answer(f"{url}?blobs=true", hub.token))
        if isinstance(answer, bytes):
            return answer
        if isinstance(answer, TimeoutError):
            raise transport.InterruptedTransferError(f"no whole answer within {LOOKUP_TIMEOUT:g} s")
        raise answer

    content = transport.persist(f"the look-up of {repo}", attempt)
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise WeightsUnavailableError("its answer is not JSON") from None


def _answer(url: str, token: str | None) -> bytes:
    """Return the body of an answer, or raise an error for its status."""
    from mdan_zoo.weights import transport

    login = transport.Login(url, token)
    with transport.Session() as session, transport.open_url(session, url, login) as response:
        status = response.status_code
        if status != 200:
            if status in ADVICE:
                raise WeightsUnavailableError(ADVICE[status])
            raise transport.refusal(response)
        content = bytearray()
        for chunk in transport.chunks(response):
            content += chunk
            if len(content) > _MAX_ANSWER_BYTES:
                raise WeightsUnavailableError(
                    f"its answer has more than {_MAX_ANSWER_BYTES:,} bytes"
                )
        return bytes(content)


def _weights_of(repo: str, info: object) -> RemoteWeights:
    """Return the checkpoint that an answer, which may be malformed, describes."""
    about = _object(info)
    commit, siblings = about.get("sha"), about.get("siblings")
    if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
        raise WeightsUnavailableError(f"it gives no commit for {repo}: {str(commit)[:100]!r}")
    listed = [_object(file) for file in (siblings if isinstance(siblings, list) else ())]
    files = {str(file.get("rfilename")): _object(file.get("lfs")) for file in listed}
    if WEIGHTS_FILE not in files:
        raise WeightsUnavailableError(
            f"{repo} at {commit} has no {WEIGHTS_FILE}, so it was not published by mdan-zoo; it "
            "has: " + (", ".join(list(files)[:20]) or "nothing")
        )
    size, sha256 = files[WEIGHTS_FILE].get("size"), files[WEIGHTS_FILE].get("sha256")
    remote = RemoteWeights.checked(repo, commit, size, sha256)
    if remote is None:
        raise WeightsUnavailableError(
            f"{repo} at {commit}: the hub has no SHA-256 of {WEIGHTS_FILE}, because it is not "
            "stored with Git LFS; publish it with `mdan-zoo publish`"
        )
    return remote


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _folder_of(repo: str) -> Path:
    """Return the folder of the known commits of a repository in the cache."""
    return cache_folder() / COMMITS / repo.replace("/", "--")


def _remember(remote: RemoteWeights) -> None:
    """Store a record, if the cache is writable."""
    with contextlib.suppress(OSError, InputError, WeightsUnavailableError):
        folder = _folder_of(remote.repo)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / f"{remote.commit}.json", json.dumps(asdict(remote)).encode())


def _recall(repo: str, commit: str) -> RemoteWeights | None:
    """Return the stored record of a commit; None if it is missing or damaged."""
    try:
        with (_folder_of(repo) / f"{commit}.json").open("rb") as file:
            known = json.loads(file.read(_MAX_RECORD_BYTES))
        found = RemoteWeights.checked(repo, commit, known["size"], known["sha256"])
        same = (known["repo"], known["commit"]) == (repo, commit)
    except (OSError, ValueError, TypeError, LookupError, RecursionError, WeightsUnavailableError):
        return None
    return found if same else None
