"""Search, download and verification of the checkpoints in the manifest. Needs no torch.

Unlike in `hf_hub_download`, size and SHA-256 are checked at every call, and no name comes from a
server. Files on this machine are verified and used in place.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TypeAlias
from urllib.request import url2pathname

from mdan_zoo.errors import CheckpointError, MdanZooError, WeightsUnavailableError
from mdan_zoo.weights.cache import CACHE_VARIABLE, cache_folder, cached_path, lock, replacing
from mdan_zoo.weights.contents import FileContents, check_header_size, read_contents
from mdan_zoo.weights.hub_api import Hub, check_repo, find_hub, with_advice
from mdan_zoo.weights.manifest import OFFLINE_VARIABLES, ManifestEntry, Source, is_offline

_PACKAGE = Path(__file__).parents[1]
_CACHE = Source("the cache")
_Place: TypeAlias = "tuple[Source, Path | None]"  # with its path on this machine


class DamagedWeightsWarning(UserWarning):
    """A checkpoint on this machine is damaged; another copy is used."""


def find_weights(entry: ManifestEntry, *, token: str | None = None) -> Path:
    """Return the path of a model's checkpoint, downloaded if necessary, and verified at every call.

    The package, the cache and the entry's other sources are searched in this order. A damaged file
    in the cache is downloaded again, with a `DamagedWeightsWarning`. Offline (`is_offline`), no
    connection is made. The default `token` is HF_TOKEN or that of `hf auth login`.

    Raises:
        WeightsUnavailableError: The file is not available; the message has every reason.
        CheckpointError: The same, and there is a damaged file on this machine.
    """
    return read_weights(entry, token=token).path


def read_weights(entry: ManifestEntry, *, token: str | None = None) -> FileContents:
    """Return the verified contents of a model's checkpoint; otherwise as `find_weights`."""
    return _search(entry, token, _places(entry))


def repair(entry: ManifestEntry, *, token: str | None = None) -> Path:
    """Verify a model's downloaded checkpoint, and download it again if it is damaged.

    As `find_weights`, but a file in the package does not count if there is a download.
    """
    places: Iterable[_Place] = _places(entry)
    if os.path.lexists(cached_path(entry)):
        places = (place for place in places if place[0].type != "package")
    return _search(entry, token, places).path


def find_local(entry: ManifestEntry) -> Path | None:
    """Return the path of a model's checkpoint on this machine, unverified, or None."""
    # Not Path.is_file, which raises an error for a folder that may not be read.
    return next((path for _, path in _places(entry) if path and os.path.isfile(path)), None)


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


def _places(entry: ManifestEntry) -> Iterator[_Place]:
    """Yield the places of a checkpoint in the order to try. The package needs no cache folder."""
    for source in entry.sources:
        if source.type == "package":
            yield source, _PACKAGE / source.path
    if os.path.lexists(cached := cached_path(entry)):
        yield _CACHE, cached
    for source in entry.sources:
        url = source.url or source.base + source.path
        if url.startswith("file://"):
            yield source, Path(url2pathname(url.removeprefix("file://")))
        elif source.type != "package":
            yield source, None


def _search(entry: ManifestEntry, token: str | None, places: Iterable[_Place]) -> FileContents:
    """Return the contents of the first right file, with a warning for each damaged one before."""
    failures: list[str] = []
    damaged: list[str] = []  # those where this machine has a wrong file
    for source, local in places:
        path = local
        try:
            with nullcontext(local) if local else _fetched(entry, source, token) as path:
                contents = verify_file(path, entry)
        except MdanZooError as error:  # network errors are never `OSError` here
            problem = with_advice(error) if source.repo else str(error)
        except (OSError, NotImplementedError) as error:  # some file systems have no locks
            problem = (
                f"{cache_folder()}: cannot be written to: {getattr(error, 'strerror', '') or error}"
                f"; free or repair that folder, or set {CACHE_VARIABLE} to another"
            )
        else:
            verb = "used" if local else "fetched"
            for failure in damaged:
                message = f"{failure}; {verb} instead: {path}"
                warnings.warn(message, DamagedWeightsWarning, stacklevel=4)
            return contents
        failures.append(f"{source}: {problem}")
        if path and os.path.lexists(path):
            damaged.append(failures[-1])
    raise (CheckpointError if damaged else WeightsUnavailableError)(
        "\n  ".join([f"the weights of {entry.name} ({entry.file}) are not available:", *failures])
        + f"\nPut the file ({entry.size:,} bytes, SHA-256 {entry.sha256}) at {cached_path(entry)}, "
        "or pass another file as checkpoint=."
    )


@contextmanager
def _fetched(entry: ManifestEntry, source: Source, token: str | None) -> Iterator[Path]:
    """Download a checkpoint to the cache, unless another process has just done so.

    It is locked until the end of the block, since a waiting process may then clear the cache.
    """
    if is_offline():
        raise WeightsUnavailableError(f"not asked: {' or '.join(OFFLINE_VARIABLES)} is set")
    from mdan_zoo._util.http import download  # imports requests, which few need

    path = cached_path(entry)
    with lock(path.parent):
        try:
            verify_file(path, entry)
        except CheckpointError:
            if source.type == "huggingface":
                check_repo(source.repo)
                hub = find_hub(token)
                url = f"{hub.endpoint}/{source.repo}/resolve/{source.revision}/{source.path}"
            else:
                hub, url = Hub(""), source.url or source.base + source.path
            with replacing(path) as file:
                download(url, file, entry.file, entry.size, entry.sha256, hub.token)
        yield path
