"""Published networks: load them from a Hugging Face repository or a folder.

    network = from_pretrained("OWNER/REPO")
    predictor = mdan_zoo.Predictor(checkpoint=find_pretrained("OWNER/REPO"))

The hub is asked for the commit of the revision and the SHA-256 of its checkpoint, and only a file
with that hash is loaded, from the cache if possible. A branch is looked up every time; a commit
that was loaded before can be loaded offline.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from mdan_zoo.errors import InputError, WeightsUnavailableError
from mdan_zoo.weights import fetch
from mdan_zoo.weights.hub_api import WEIGHTS_FILE, find_remote

if TYPE_CHECKING:
    from mdan_zoo.models.base import EmotionModel


def from_pretrained(
    repo_or_folder: str | os.PathLike[str],
    *,
    revision: str | None = None,
    token: str | None = None,
) -> EmotionModel:
    """Load a network that was published in a Hugging Face repository or a folder.

    The checkpoint defines the architecture and the hierarchy.

    Args:
        repo_or_folder: OWNER/REPO, or a folder with a model.safetensors.
        revision: A branch, tag or commit of the repository; by default its main branch. Only a
            commit is guaranteed not to change.
        token: An access token for the hub; by default `HF_TOKEN` or that of `hf auth login`.

    Returns:
        The network in evaluation mode.

    Raises:
        InputError: It is neither a folder nor OWNER/REPO, or the token or HF_ENDPOINT is malformed.
        WeightsUnavailableError: There is no such repository, revision or file, or no connection.
        CheckpointError: The file is damaged, or not one of mdan_zoo.
    """
    path = find_pretrained(repo_or_folder, revision=revision, token=token)
    from mdan_zoo.zoo.factory import load_network

    _, network = load_network(path)
    return network.eval()


def find_pretrained(
    repo_or_folder: str | os.PathLike[str],
    *,
    revision: str | None = None,
    token: str | None = None,
) -> Path:
    """Return the path of the checkpoint that `from_pretrained` loads, downloaded and verified.

    Arguments and errors are those of `from_pretrained`.
    """
    if not os.path.isdir(repo_or_folder):
        entry = find_remote(os.fspath(repo_or_folder), revision, token=token)
        return fetch.find_weights(entry, token=token)
    folder = Path(repo_or_folder)
    if revision is not None:
        raise InputError(f"{folder} is a folder, which has no revisions; leave out {revision!r}")
    if not (folder / WEIGHTS_FILE).is_file():
        raise WeightsUnavailableError(f"the folder {folder} has no {WEIGHTS_FILE}")
    return folder / WEIGHTS_FILE
