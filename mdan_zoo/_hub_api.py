"""The Hugging Face Hub's API: which file a revision has, and what its client's errors mean."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mdan_zoo.errors import InputError, MdanZooError, WeightsUnavailableError
from mdan_zoo.manifest import OFFLINE_VARIABLES, is_offline

if TYPE_CHECKING:
    from huggingface_hub import HfApi

WEIGHTS_FILE = "model.safetensors"
"""Name of the weight file in every repository."""

_ENDPOINT = "https://huggingface.co"
_COMMIT = re.compile("[0-9a-f]{40}")
_REPO = re.compile("[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")


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


def hub_api(token: str | None = None) -> HfApi:
    """Return a client of the hub that `HF_ENDPOINT` names now; huggingface.co by default.

    The client itself reads that variable only when it is imported.
    """
    from huggingface_hub import HfApi

    endpoint = os.environ.get("HF_ENDPOINT") or _ENDPOINT
    return HfApi(endpoint=endpoint.rstrip("/"), token=token)


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
    """Ask the hub for the commit of a revision, and for the hash of its weight file.

    Args:
        repo: Owner and name.
        revision: A branch, tag or commit; by default the main branch.
        token: An access token; by default `HF_TOKEN` or that of `hf auth login`.

    Raises:
        InputError: `repo` is not the name of a repository.
        WeightsUnavailableError: There is no such repository, revision or file, or no connection.
    """
    check_repo(repo)
    api = hub_api(token)
    with translated(WeightsUnavailableError, f"cannot look up {repo}", api):
        info = api.model_info(repo, revision=revision, files_metadata=True)
    place = f"{repo} at {info.sha}"
    if not _COMMIT.fullmatch(info.sha or ""):
        raise WeightsUnavailableError(f"{api.endpoint} gives no commit for {repo}: {info.sha!r}")
    files = {file.rfilename: file for file in info.siblings or ()}
    if WEIGHTS_FILE not in files:
        raise WeightsUnavailableError(
            f"{place} has no {WEIGHTS_FILE}, so it was not published by mdan-zoo; it has: "
            + (", ".join(files) or "nothing")
        )
    lfs = files[WEIGHTS_FILE].lfs
    if lfs is None:
        raise WeightsUnavailableError(
            f"{place}: the hub tells no SHA-256 of {WEIGHTS_FILE}, because it is not stored with "
            "Git LFS; publish it with `mdan-zoo publish`"
        )
    return RemoteWeights(repo, str(info.sha), lfs.size, lfs.sha256)


@contextmanager
def translated(error_type: type[MdanZooError], failure: str, api: HfApi) -> Iterator[None]:
    """Raise `error_type` for whatever the hub's client raises, and say what can be done.

    Offline it is raised at once.

    Args:
        error_type: The class to raise.
        failure: Beginning of the message, such as "cannot look up owner/name".
        api: The client, whose endpoint is told.
    """
    if is_offline():
        raise error_type(f"{failure}: {' or '.join(OFFLINE_VARIABLES)} forbids connections")
    from huggingface_hub import errors

    # The client's connection errors are no OSErrors; uploads and bad answers end in the other two.
    client_errors = (OSError, ValueError, RuntimeError, errors.HTTPError)  # type: ignore[attr-defined]
    try:
        yield
    except MdanZooError:
        raise
    except client_errors as error:
        raise error_type(f"{failure} at {api.endpoint}: {_explain(error)}") from error


def _explain(error: BaseException) -> str:
    from huggingface_hub.errors import HfHubHTTPError

    while not isinstance(error, HfHubHTTPError) and error.__cause__ is not None:
        error = error.__cause__  # the error of an upload is wrapped
    if not isinstance(error, HfHubHTTPError):
        return " ".join(str(error).split()) or type(error).__name__
    status = error.response.status_code
    return _ADVICE.get(status) or " ".join(str(error).split())


_ADVICE = {
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
