"""Search, download and verification of the checkpoints in the manifest. Needs no torch.

huggingface_hub provides only the URL of a file and the user's token. `hf_hub_download` is not used,
because it checks the number of bytes only, also of files in its cache, and writes to a path with
the server's ETag. Here size and SHA-256 are checked at every call, for the hub and for mirrors, and
no name comes from a server.

A `file` source, and a `relative` one of a manifest on disk, is verified and used in place, so a
shared or read-only folder of weights is not copied to the cache.
"""

from __future__ import annotations

import os
import warnings
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.request import url2pathname

from mdan_zoo.errors import CheckpointError, InputError, WeightsUnavailableError
from mdan_zoo.weights import cache
from mdan_zoo.weights.cache import (
    CACHE_VARIABLE,
    CachedFile,
    cache_folder,
    cached_path,
    clear_cache,
    list_cache,
)
from mdan_zoo.weights.contents import FileContents, check_header_size, read_contents
from mdan_zoo.weights.hub_api import find_hub
from mdan_zoo.weights.manifest import OFFLINE_VARIABLES, ManifestEntry, Source, is_offline
from mdan_zoo.weights.manifest_fields import without_secrets

__all__ = [
    "CachedFile",
    "DamagedWeightsWarning",
    "cache_folder",
    "cached_path",
    "clear_cache",
    "find_local",
    "find_weights",
    "list_cache",
    "read_weights",
    "repair",
    "verify_file",
]

_PACKAGE = Path(__file__).parents[1]
_LOGIN_HINT = (
    "for a private or gated repository accept its conditions on its page, if it has any, and set "
    "HF_TOKEN to a token that may read it (it is sent through https only)"
)


class DamagedWeightsWarning(UserWarning):
    """A checkpoint on this machine is damaged; another copy is used."""


def find_weights(entry: ManifestEntry, *, token: str | None = None) -> Path:
    """Return the path of a model's checkpoint, downloaded if necessary, and verified at every call.

    The package, the cache and the entry's other sources are searched in this order. A damaged file
    in the cache is downloaded again. Offline (`manifest.is_offline`), no connection is made.

    Args:
        entry: A released entry of the manifest.
        token: An access token for the hub; by default HF_TOKEN or that of `hf auth login`.

    Raises:
        WeightsUnavailableError: The file is not available; the message has every reason.
        CheckpointError: The same, and there is a damaged file on this machine.

    Warns:
        DamagedWeightsWarning: A damaged file was skipped or replaced.
    """
    return read_weights(entry, token=token).path


def read_weights(entry: ManifestEntry, *, token: str | None = None) -> FileContents:
    """Return the verified contents of a model's checkpoint; otherwise as `find_weights`.

    The file need not be opened again to load it: `mdan_zoo.weights.checkpoint.open_checkpoint`
    takes these contents, so exactly the bytes that were verified are loaded.
    """
    search = _Search(entry, token)
    return search.finish(search.in_package() or search.in_cache() or search.in_sources())


def repair(entry: ManifestEntry, *, token: str | None = None) -> Path:
    """Verify a model's downloaded checkpoint, and download it again if it is damaged.

    Unlike `find_weights`, it does so even if the package has the file too. Without a download it
    is the same as `find_weights`.

    Args:
        entry: A released entry of the manifest.
        token: An access token for the hub.
    """
    if not os.path.lexists(cached_path(entry)):
        return find_weights(entry, token=token)
    search = _Search(entry, token)
    return search.finish(search.in_cache() or search.in_sources()).path


def find_local(entry: ManifestEntry) -> Path | None:
    """Return the path of a model's checkpoint on this machine, or None.

    The file is not verified, and no connection is made.
    """
    places = [cached_path(entry)]
    for source in entry.sources:
        if source.type == "package":
            places.insert(0, _PACKAGE / source.path)
        elif (source.url or source.base).startswith("file://"):
            places.append(_path_of(source))
    # Not Path.is_file, which raises an error for a folder that may not be read.
    return next((path for path in places if os.path.isfile(path)), None)


def verify_file(path: Path, entry: ManifestEntry) -> FileContents:
    """Return the contents of a file, or raise `CheckpointError` unless it is the released one."""
    try:
        if not path.is_file():  # a pipe has no end
            raise CheckpointError(f"{path} is not a file")
        size = path.stat().st_size
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from error
    if size != entry.size:
        raise CheckpointError(
            f"{path} has {size:,} bytes, the released {entry.file} has {entry.size:,}"
        )
    contents = read_contents(path)
    if contents.sha256 != entry.sha256:
        raise CheckpointError(
            f"{path} has SHA-256 {contents.sha256}, the released {entry.file} has {entry.sha256}"
        )
    check_header_size(path, contents.data[:8])
    return contents


class _Search:
    """The search for one checkpoint. Each method returns verified contents, or None."""

    def __init__(self, entry: ManifestEntry, token: str | None):
        self._entry = entry
        self._token = token
        self._locked = False
        self._failures: list[str] = []
        self._damaged: list[str] = []  # those where this machine has a wrong file

    def in_package(self) -> FileContents | None:
        for source in self._entry.sources:
            if source.type == "package":
                contents = self._accept(_PACKAGE / source.path, str(source))
                if contents is not None:
                    return contents
        return None

    def in_cache(self) -> FileContents | None:
        path = cached_path(self._entry)
        return self._accept(path, "the cache") if os.path.lexists(path) else None

    def in_sources(self) -> FileContents | None:
        """Try the other sources in order, with the lock held from the first remote one on."""
        with ExitStack() as stack:
            for source in self._entry.sources:
                try:
                    contents = self._in_source(source, stack)
                except (OSError, NotImplementedError) as error:  # some file systems have no locks
                    self._note(str(source), _about_cache(error))
                    continue
                if contents is not None:
                    return contents
        return None

    def finish(self, contents: FileContents | None) -> FileContents:
        """Return the contents, with a warning if a damaged file was skipped."""
        if contents is None:
            kind = CheckpointError if self._damaged else WeightsUnavailableError
            raise kind(self._explanation())
        verb = "fetched" if self._locked else "used"
        for failure in self._damaged:
            message = f"{failure}; {verb} instead: {contents.path}"
            warnings.warn(message, DamagedWeightsWarning, stacklevel=4)
        return contents

    def _in_source(self, source: Source, stack: ExitStack) -> FileContents | None:
        """Try a source; `stack` holds the lock once it has been taken."""
        if source.type == "package":
            return None
        url = source.url or source.base + source.path
        if url.startswith("file://"):
            return self._accept(_path_of(source), str(source))
        if is_offline():
            self._note(str(source), f"not asked: {' or '.join(OFFLINE_VARIABLES)} is set")
            return None
        if not self._locked:
            path = cached_path(self._entry)
            stack.enter_context(cache.lock(path.parent))
            self._locked = True
            with suppress(CheckpointError):  # fetched by the process that had the lock
                return verify_file(path, self._entry)
        return self._fetch(source, url)

    def _fetch(self, source: Source, url: str) -> FileContents | None:
        from mdan_zoo.weights.download import download  # imports requests, which few need

        path, token, hint = cached_path(self._entry), None, ""
        try:
            if source.type == "huggingface":
                hub = find_hub(self._token)
                url, token, hint = _hub_url(source, hub.endpoint), hub.token, _LOGIN_HINT
            with cache.replacing(path) as file:
                download(self._entry, url, file, token=token, login_hint=hint)
        except (CheckpointError, InputError, WeightsUnavailableError) as error:
            self._note(str(source), str(error))
            return None
        return self._accept(path, str(source))

    def _accept(self, path: Path, place: str) -> FileContents | None:
        """Return the contents of the right file, or note why it is not the right one."""
        try:
            return verify_file(path, self._entry)
        except CheckpointError as error:
            self._note(place, str(error), damaged=os.path.lexists(path))
            return None

    def _note(self, place: str, problem: str, damaged: bool = False) -> None:
        failure = f"{without_secrets(place)}: {problem}"
        self._failures.append(failure)
        if damaged:
            self._damaged.append(failure)

    def _explanation(self) -> str:
        entry = self._entry
        return "\n".join(
            [
                f"the weights of {entry.name} ({entry.file}) are not available:",
                *(f"  {failure}" for failure in self._failures),
                f"Put the file ({entry.size:,} bytes, SHA-256 {entry.sha256}) at "
                f"{cached_path(entry)}, or pass another file as checkpoint=.",
            ]
        )


def _about_cache(error: OSError | NotImplementedError) -> str:
    """Return why the cache cannot be used. Network errors are never `OSError` here."""
    return (
        f"{cache_folder()}: cannot be written to: {getattr(error, 'strerror', None) or error}; "
        f"free or repair that folder, or set {CACHE_VARIABLE} to another"
    )


def _path_of(source: Source) -> Path:
    """Return the path of a source whose URL is a file's."""
    url = source.url or source.base + source.path
    return Path(url2pathname(url.removeprefix("file://")))


def _hub_url(source: Source, endpoint: str) -> str:
    from huggingface_hub import hf_hub_url

    try:
        return hf_hub_url(source.repo, source.path, revision=source.revision, endpoint=endpoint)
    except Exception as error:  # its class is not documented
        raise WeightsUnavailableError(f"huggingface_hub: {error}") from error
