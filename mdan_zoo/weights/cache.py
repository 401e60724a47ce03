"""Cache of downloaded checkpoints on disk: MODEL/START_OF_SHA256/FILE in the cache folder.

A file appears there whole or not at all. Its names come from the manifest, none from a server. Each
version of a model has its own folder, so a file is never replaced by a different one.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import secrets
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from mdan_zoo.errors import InputError, ManifestError, WeightsUnavailableError
from mdan_zoo.weights.manifest import ManifestEntry

CACHE_VARIABLE = "MDAN_ZOO_CACHE"
PATIENCE_SECONDS = 5.0
"""How long to wait for another process before a message is logged."""

LOGGER = logging.getLogger("mdan_zoo.weights.fetch")

_PREFIX_LENGTH = 16  # 64 bits of the SHA-256 tell the versions of a model apart
_VERSION = re.compile(f"[0-9a-f]{{{_PREFIX_LENGTH}}}")
_NAME = re.compile("[A-Za-z0-9_][A-Za-z0-9._-]{0,254}")
_WEIGHTS_SUFFIX = ".safetensors"
_PART_SUFFIX = ".part"
# Lock files are empty and never removed: waiting processes would then hold different files.
_LOCKS = ".locks"
COMMITS = ".commits"
"""The folder of known commits: a folder for each model, a JSON file for each commit."""


@dataclass(frozen=True)
class CachedFile:
    """A file in the cache.

    Attributes:
        model: The model that it was downloaded for.
        path: Its path.
        size: Its size in bytes.
        sha256_prefix: The first 16 digits of the expected SHA-256.
        state: "whole", "damaged" (its SHA-256 differs), "unreadable" (also a broken link, or a
            folder instead of the file), or "partial" (of a download that is running or was
            killed).
    """

    model: str
    path: Path
    size: int
    sha256_prefix: str
    state: Literal["whole", "damaged", "unreadable", "partial"]


def cache_folder() -> Path:
    """Return the folder of downloaded weights, which need not exist.

    It is what MDAN_ZOO_CACHE names, else mdan_zoo in XDG_CACHE_HOME, else ~/.cache/mdan_zoo.

    Raises:
        WeightsUnavailableError: The user has no home folder, and no variable names another.
    """
    try:
        if chosen := os.environ.get(CACHE_VARIABLE):
            return Path(chosen).expanduser().absolute()
        # Its specification requires that a relative path is ignored.
        shared = os.environ.get("XDG_CACHE_HOME", "")
        base = Path(shared) if os.path.isabs(shared) else Path.home() / ".cache"
    except RuntimeError as error:
        raise WeightsUnavailableError(
            f"there is no folder for downloaded weights ({error}); set {CACHE_VARIABLE} to one"
        ) from error
    return base / "mdan_zoo"


def cached_path(entry: ManifestEntry) -> Path:
    """Return the path of the checkpoint of an entry in the cache, whether it exists or not.

    Raises:
        WeightsUnavailableError: The entry has no released weights.
        ManifestError: Its name, file or SHA-256 could lead out of the cache.
    """
    if not entry.released:
        raise WeightsUnavailableError(f"{entry.name} has no released weights: {entry.reason}")
    names = (*entry.name.split("/"), entry.file)  # a model of a repository is called OWNER/REPO
    if not all(_NAME.fullmatch(name) for name in names):
        raise ManifestError(f"{entry.name!r} and {entry.file!r} must be plain names")
    if not re.fullmatch("[0-9a-f]{64}", entry.sha256):
        raise ManifestError(f"{entry.sha256!r} must be 64 lowercase hexadecimal digits")
    return cache_folder() / entry.name / entry.sha256[:_PREFIX_LENGTH] / entry.file


@contextmanager
def lock(version: Path) -> Iterator[None]:
    """Lock the folder of a version. A killed process releases its lock."""
    with named_lock(version.name, f"fetches or deletes {version.parent.name}"):
        yield


@contextmanager
def named_lock(name: str, what: str) -> Iterator[None]:
    """Hold a lock that is shared by all processes with this cache.

    Args:
        name: Name of the lock.
        what: Activity of the process that holds it, for the message to waiting processes.
    """
    from filelock import FileLock, Timeout

    folder = cache_folder() / _LOCKS
    folder.mkdir(parents=True, exist_ok=True)
    held = FileLock(folder / f"{name}.lock")
    try:
        held.acquire(timeout=PATIENCE_SECONDS)
    except Timeout:
        LOGGER.warning("waiting for another process that %s", what)
        held.acquire()
    try:
        yield
    finally:
        held.release()


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a new file, which gets the name `path` if the block ends without an error.

    The caller holds the lock of `path.parent`, so any partial files there are leftovers.
    """
    _make_folder(path.parent)
    for leftover in path.parent.glob(f"*{_PART_SUFFIX}"):
        if leftover.is_symlink() or not leftover.is_dir():  # a folder is not ours
            leftover.unlink()
    part = path.with_name(f"{os.getpid()}-{secrets.token_hex(4)}{_PART_SUFFIX}")
    try:
        with part.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        _move_folder_aside(path)
        os.replace(part, path)  # a link is replaced, not written through
    except BaseException:
        part.unlink(missing_ok=True)
        _remove_empty(path.parent)
        raise
    _sync_folder(path.parent)


def _make_folder(folder: Path) -> None:
    for _ in range(10):  # another version's empty folders may just be removed
        with contextlib.suppress(FileNotFoundError):
            folder.mkdir(parents=True, exist_ok=True)
            return
    folder.mkdir(parents=True, exist_ok=True)


def _remove_empty(version: Path) -> None:
    """Remove the folders of a version and of its model, if they are empty."""
    with contextlib.suppress(OSError):  # a folder that holds anything else stays
        version.rmdir()
        for folder in version.parents[: len(version.relative_to(cache_folder()).parts) - 1]:
            folder.rmdir()


def _move_folder_aside(path: Path) -> None:
    """Rename a folder with the name of the file; mounting a missing file creates one."""
    if path.is_dir() and not path.is_symlink():
        aside = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        path.rename(aside)
        with contextlib.suppress(OSError):  # what is in it is not ours to delete
            aside.rmdir()


def _sync_folder(folder: Path) -> None:
    """Make a rename durable. Windows does not need it, and cannot open folders."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def list_cache() -> list[CachedFile]:
    """Return the files in the cache. Each is read, to compare its SHA-256.

    Raises:
        WeightsUnavailableError: A folder of the cache cannot be read.
    """
    found = []
    for model, version in _versions(cache_folder()):
        for path in _files(version) or _blocking(version):
            with contextlib.suppress(FileNotFoundError):  # a download has ended, or was cleared
                size = path.lstat().st_size
                found.append(CachedFile(model, path, size, path.parent.name, _state(path)))
    return found


def clear_cache(models: Collection[str] | None = None) -> int:
    """Delete downloaded weights and the leftovers of killed downloads.

    Waits for running downloads. Only files that this library stores are deleted, and folders only
    if they are empty afterwards; links are removed, not followed.

    Args:
        models: Names of models; by default all.

    Returns:
        The number of bytes that were freed.

    Raises:
        InputError: `models` is one text instead of a collection.
        WeightsUnavailableError: A folder of the cache cannot be read.
        OSError: A file cannot be deleted.
    """
    if isinstance(models, str):
        raise InputError(f"models must be a list of names, such as [{models!r}], not {models!r}")
    _forget_commits(models)
    return sum(
        _clear_version(version)
        for model, version in list(_versions(cache_folder()))
        if models is None or model in models
    )


def _forget_commits(models: Collection[str] | None) -> None:
    for folder in _children(cache_folder() / COMMITS):
        if models is None or folder.name in models:
            for path in folder.glob("*.json"):
                path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # a folder that holds anything else stays
                folder.rmdir()
    with contextlib.suppress(OSError):
        (cache_folder() / COMMITS).rmdir()


def _clear_version(version: Path) -> int:
    freed = 0
    with lock(version):
        for path in _files(version):
            freed += path.lstat().st_size
            path.unlink()
        _remove_empty(version)
    return freed


def _versions(folder: Path, model: str = "") -> Iterator[tuple[str, Path]]:
    """Yield every model and folder of a version of it. Links are not followed."""
    for child in _children(folder):
        if child.is_symlink() or not child.is_dir() or not _NAME.fullmatch(child.name):
            continue
        if model and _VERSION.fullmatch(child.name):
            yield model, child
        elif "/" not in model:
            yield from _versions(child, f"{model}/{child.name}".lstrip("/"))


def _files(version: Path) -> list[Path]:
    return [
        path
        for path in _children(version)
        if path.suffix in (_WEIGHTS_SUFFIX, _PART_SUFFIX) and (path.is_symlink() or path.is_file())
    ]


def _blocking(version: Path) -> list[Path]:
    """Return folders that have the name of the checkpoint of a version."""
    return [path for path in _children(version) if path.suffix == _WEIGHTS_SUFFIX]


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise WeightsUnavailableError(f"the cache {folder} cannot be read: {error}") from error


def _state(path: Path) -> Literal["whole", "damaged", "unreadable", "partial"]:
    if path.suffix == _PART_SUFFIX:
        return "partial"
    try:
        return "whole" if _sha256_of(path).startswith(path.parent.name) else "damaged"
    except OSError:
        return "unreadable"
