"""Hugging Face Hub: endpoint, token, the checkpoint of a revision, and the client for publishing.

A revision is looked up by one GET, with the time limits, retries and token rules of a download. The
files of a commit never change, so the answer for a commit is stored in the cache and reused.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from mdan_zoo._util.files import write_atomically
from mdan_zoo.errors import (
    InputError,
    MdanZooError,
    PublishingError,
    WeightsUnavailableError,
    without_secrets,
)
from mdan_zoo.weights.cache import COMMITS, cache_folder
from mdan_zoo.weights.manifest import OFFLINE_VARIABLES, Licences, ManifestEntry, Source, is_offline
from mdan_zoo.weights.manifest_fields import NAME

if TYPE_CHECKING:
    from huggingface_hub import HfApi

WEIGHTS_FILE = "model.safetensors"  # in every repository
LOOKUP_TIMEOUT = 30.0  # seconds for one attempt to look up a revision
PUBLISHING_TIMEOUT = 60.0  # seconds without a byte

_LOGIN = "run `hf auth login`, or set HF_TOKEN to a token that may"
_WRITING = {  # what to do if the hub refuses, by HTTP status
    401: f"login required (401): {_LOGIN} write to repositories of that owner",
    403: "the token may not write there (403): give it the right to write to repositories of that "
    "owner, at https://huggingface.co/settings/tokens, or use another OWNER/REPO",
}
_OFFLINE = f"{' or '.join(OFFLINE_VARIABLES)} forbids connections"
_MAX_BYTES = 16 << 20  # of an answer: a repository with some 50,000 files
_COMMIT = "[0-9a-f]{40}"
_REVISION = r"(?!.*\.\.)[^\s\x00-\x1f\x7f.][^\s\x00-\x1f\x7f]*"


@dataclass(frozen=True)
class Hub:
    """Address of a hub, without a final slash, and an access token for it or ""."""

    endpoint: str
    token: str = field(default="", repr=False)

    def __str__(self) -> str:
        return without_secrets(self.endpoint)


def find_hub(token: str | None = None) -> Hub:
    """Return the hub that HF_ENDPOINT names, by default huggingface.co, with a token for it.

    The default token is `HF_TOKEN` or that of `hf auth login`. `InputError` if either is malformed.
    """
    endpoint = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").strip().rstrip("/")
    valid = False
    with suppress(ValueError):
        parts = urlsplit(endpoint)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    if not valid:
        shown = repr(without_secrets(endpoint))
        raise InputError(f"HF_ENDPOINT is {shown}; it must begin with https:// and name a host")
    if token is None:
        from huggingface_hub import constants, get_token

        try:
            token = "" if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token() or ""
        except Exception as error:  # those of its login have no common class
            raise InputError(f"huggingface_hub has no token: {type(error).__name__}") from None
    if not isinstance(token, str) or not re.fullmatch("[!-~]*", token.strip()):
        raise InputError(
            "the access token (HF_TOKEN or token=) must be one word of ASCII letters, digits and "
            "punctuation; copy it again from where it was created"
        )
    return Hub(endpoint, token.strip())


def check_repo(repo: str) -> None:
    """Raise `InputError` unless `repo` has the form of a repository name."""
    if not re.fullmatch(f"{NAME}/{NAME}", repo):
        raise InputError(
            f"a repository is named OWNER/REPO, of letters, digits, '-', '_' and '.', not {repo!r}"
        )


def find_remote(
    repo: str, revision: str | None = None, *, token: str | None = None, use_cache: bool = True
) -> ManifestEntry:
    """Return an entry that describes the checkpoint of a revision, pinned to its commit.

    The revision is a branch, tag or commit, by default the main branch. With `use_cache`, the hub
    is not asked for a commit whose record is in the cache.

    Raises:
        InputError: An argument or HF_ENDPOINT is malformed.
        WeightsUnavailableError: There is no such repository, revision or file, or no connection.
    """
    check_repo(repo)
    if revision is not None and not re.fullmatch(_REVISION, revision):
        raise InputError(f"a revision is a branch, a tag or a commit, not {revision!r}")
    if use_cache and (known := _recall(repo, revision or "")):
        return known
    if is_offline():
        raise WeightsUnavailableError(
            f"cannot look up {repo}: {_OFFLINE}; offline, give a commit (revision=) that was "
            f"loaded before with this cache ({_record(repo, '').parent}), or a folder with its "
            f"{WEIGHTS_FILE}"
        )
    from mdan_zoo._util.http import TransferError, fetch_bytes, persist

    hub = find_hub(token)
    part = "" if revision is None else f"/revision/{quote(revision, safe='')}"
    url = f"{hub.endpoint}/api/models/{repo}{part}?blobs=true"
    ask = partial(fetch_bytes, url, LOOKUP_TIMEOUT, _MAX_BYTES, hub.token)
    try:
        entry = _entry_of_answer(repo, persist(f"the look-up of {repo}", ask, lambda: 0, 0))
    except (TransferError, WeightsUnavailableError) as error:
        problem = with_advice(error)
        raise WeightsUnavailableError(f"cannot look up {repo} at {hub}: {problem}") from None
    _remember(repo, entry)
    return entry


def with_advice(error: Exception) -> str:
    """Return the message of an error, with advice for a reader whom the hub denies access."""
    denied = getattr(error, "status", 0) in (401, 403, "RepoNotFound", "GatedRepo")
    return f"{error}; {_LOGIN} read it (it is sent through https only)" if denied else str(error)


def _entry_of_answer(repo: str, answer: bytes) -> ManifestEntry:
    """Return the checkpoint that an answer, which may be malformed, describes."""
    try:
        info = json.loads(answer)
        listed = (file for file in info["siblings"] if isinstance(file, dict))
        files: dict[str, Any] = {str(file.get("rfilename")): file.get("lfs") for file in listed}
        commit = info["sha"]
        if not re.fullmatch(_COMMIT, commit):
            raise LookupError
    except (ValueError, RecursionError):
        raise WeightsUnavailableError("its answer is not JSON") from None
    except (LookupError, TypeError):
        raise WeightsUnavailableError(f"its answer gives no commit or no files of {repo}") from None
    if WEIGHTS_FILE not in files:
        raise WeightsUnavailableError(
            f"{repo} at {commit} has no {WEIGHTS_FILE}, so it was not published by mdan-zoo; it "
            "has: " + (", ".join(list(files)[:20]) or "no files")
        )
    try:
        return _entry(repo, commit, files[WEIGHTS_FILE]["size"], files[WEIGHTS_FILE]["sha256"])
    except (LookupError, TypeError, ValueError):
        raise WeightsUnavailableError(
            f"{repo} at {commit}: the hub has no SHA-256 of {WEIGHTS_FILE}, because it is not "
            "stored with Git LFS; publish it with `mdan-zoo publish`"
        ) from None


def _entry(repo: str, commit: str, size: int, sha256: str) -> ManifestEntry:
    """Return an entry of exactly this file. Malformed values raise a TypeError or ValueError."""
    if type(size) is not int or size < 1 or not re.fullmatch("[0-9a-f]{64}", sha256):
        raise ValueError
    source = Source("huggingface", WEIGHTS_FILE, repo, commit)
    name = repo.replace("/", "--")  # of a folder in the cache
    entry = ManifestEntry(name, "released", 0, Licences("", "", ""), command="")
    return replace(entry, file=WEIGHTS_FILE, size=size, sha256=sha256, sources=(source,))


def _record(repo: str, commit: str) -> Path:
    return cache_folder() / COMMITS / repo.replace("/", "--") / f"{commit}.json"


def _remember(repo: str, entry: ManifestEntry) -> None:
    """Store the record of a commit, if the cache is writable."""
    commit = entry.sources[0].revision
    known = {"repo": repo, "commit": commit, "size": entry.size, "sha256": entry.sha256}
    with suppress(OSError, InputError, WeightsUnavailableError):
        path = _record(repo, commit)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(known).encode())


def _recall(repo: str, commit: str) -> ManifestEntry | None:
    """Return the stored checkpoint of a commit; None if it is not a commit, unknown or damaged."""
    if not re.fullmatch(_COMMIT, commit):
        return None
    with suppress(OSError, ValueError, TypeError, LookupError, RecursionError, MdanZooError):
        known = json.loads(_record(repo, commit).read_bytes())
        if (known["repo"], known["commit"]) == (repo, commit):
            return _entry(**known)
    return None


@contextmanager
def hub_client(hub: Hub, failure: str) -> Iterator[HfApi]:
    """Provide the hub's client; its errors become `PublishingError`s that begin with `failure`.

    Timeout and certificate authorities of the process's client are set meanwhile.
    """
    from huggingface_hub import HfApi, close_session, get_session
    from huggingface_hub.errors import HfHubHTTPError

    from mdan_zoo._util.http import REASONS, ca_setting, is_private

    if is_offline():
        raise PublishingError(f"{failure}: {_OFFLINE}")
    if not is_private(hub.endpoint):
        raise PublishingError(
            f"{failure} at {hub}: it needs https, so that the token is not sent unencrypted; set "
            "HF_ENDPOINT to an address that begins with https://"
        )
    bundle, before = ca_setting()[1], os.environ.get("SSL_CERT_FILE", "")
    try:
        if bundle != before:
            os.environ["SSL_CERT_FILE"] = bundle
            close_session()  # the next one reads the variable
        client = get_session()
        timeout, client.timeout = client.timeout, PUBLISHING_TIMEOUT
        try:
            yield HfApi(endpoint=hub.endpoint, token=hub.token or False)
        finally:
            client.timeout = timeout
    except MdanZooError:
        raise
    except Exception as error:  # its errors, those of connections and of answers share no class
        cause: BaseException = error
        while not isinstance(cause, HfHubHTTPError) and cause.__cause__ is not None:
            cause = cause.__cause__  # the error of an upload is wrapped
        said = re.sub(r"//[^/\s]*@", "//", " ".join(str(cause).split())) or type(cause).__name__
        if isinstance(cause, HfHubHTTPError):
            code = cause.response.headers.get("X-Error-Code", "")
            said = REASONS.get(code) or _WRITING.get(cause.response.status_code) or said
        raise PublishingError(f"{failure} at {hub}: {said}") from error
    finally:
        if bundle != before:
            close_session()
            del os.environ["SSL_CERT_FILE"]
            os.environ.update({"SSL_CERT_FILE": before} if before else {})
