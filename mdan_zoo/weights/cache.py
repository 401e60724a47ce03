"""Cache of downloaded checkpoints on disk: MODEL/START_OF_SHA256/FILE in the cache folder.

A file appears there complete or not at all. Its names come from the manifest, none from a server.
Each version of a model has its own folder, so a file is never replaced by a different one.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from mdan_zoo._util.files import replace_by, sha256_of
from mdan_zoo._util.locks import process_lock
from mdan_zoo.errors import InputError, ManifestError, WeightsUnavailableError
from mdan_zoo.weights.manifest import ManifestEntry
from mdan_zoo.weights.manifest_fields import NAME

CACHE_VARIABLE = "MDAN_ZOO_CACHE"
COMMITS = ".commits"  # folder of known commits, with a file MODEL/COMMIT.json for each

_PREFIX_LENGTH = 16  # 64 bits of the SHA-256 tell the versions of a model apart
_VERSION = re.compile(f"[0-9a-f]{{{_PREFIX_LENGTH}}}")
_WEIGHTS_SUFFIX = ".safetensors"
_PART_SUFFIX = ".part"
# Lock files are empty and never removed: waiting processes would then hold different files.
_LOCKS = ".locks"


@dataclass(frozen=True)
class CachedFile:
    """A file in the cache.

    `state` is "complete", "damaged" (its SHA-256 differs), "unreadable" (also a broken link, or a
    folder instead of the file), or "partial" (of a download that is running or was interrupted).
    """

    model: str
    path: Path
    size: int  # in bytes
    sha256_prefix: str  # the first 16 digits of the expected SHA-256
    state: Literal["complete", "damaged", "unreadable", "partial"]


def cache_folder() -> Path:
    """Return MDAN_ZOO_CACHE, else mdan_zoo in XDG_CACHE_HOME, else ~/.cache/mdan_zoo.

    The folder need not exist. `WeightsUnavailableError` if the user has no home folder.
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
    """Return the path of a checkpoint in the cache, whether it exists or not.

    `WeightsUnavailableError` if it is not released, `ManifestError` if it could be elsewhere.
    """
    if not entry.released:
        raise WeightsUnavailableError(f"{entry.name} has no released weights: {entry.reason}")
    names = (*entry.name.split("/"), entry.file)  # a model of a repository is called OWNER/REPO
    if not all(re.fullmatch(NAME, name) for name in names):
        raise ManifestError(f"{entry.name!r} and {entry.file!r} must be plain names")
    if not re.fullmatch("[0-9a-f]{64}", entry.sha256):
        raise ManifestError(f"{entry.sha256!r} must be 64 lowercase hexadecimal digits")
    return cache_folder() / entry.name / entry.sha256[:_PREFIX_LENGTH] / entry.file


def lock_file(name: str) -> Path:
    """Return the path of a lock of all processes with this cache."""
    return cache_folder() / _LOCKS / f"{name}.lock"


def lock(version: Path) -> AbstractContextManager[None]:
    """Lock the folder of a version."""
    return process_lock(lock_file(version.name), f"fetches or deletes {version.parent.name}")


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open the partial file of a download, which is called `path` after a block without an error.

    The caller holds the lock of `path.parent`, so a partial file is that of a process that ended.
    """
    folder, part = path.parent, path.with_name(f"{path.name}{_PART_SUFFIX}")
    for _ in range(10):  # other processes may just be removing the model's empty folder
        with suppress(FileNotFoundError):
            folder.mkdir(parents=True, exist_ok=True)
            break
    for leftover in folder.glob(f"*{_PART_SUFFIX}"):
        single = leftover.lstat().st_nlink == 1  # a hard link shares its content with another file
        if leftover.is_symlink() or not (leftover.is_dir() or (leftover == part and single)):
            leftover.unlink()  # a folder is not ours
    try:
        with replace_by(part, path, resume=True) as file:  # a link is replaced, not written through
            yield file
            if path.is_dir() and not path.is_symlink():  # mounting a missing file creates a folder
                try:
                    path.rmdir()
                except OSError:  # what is in it is not ours to delete
                    path.rename(path.with_name(f"{path.name}.{secrets.token_hex(4)}"))
    except BaseException:
        _remove_empty(folder)
        raise
    if os.name == "posix":  # make the rename durable; Windows cannot open folders
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _remove_empty(version: Path) -> None:
    depth = len(version.relative_to(cache_folder()).parts)
    with suppress(OSError):  # a folder that holds anything else stays
        for folder in (version, *version.parents[: depth - 1]):
            folder.rmdir()


def list_cache() -> list[CachedFile]:
    """Return the files in the cache, each read to compare its SHA-256; errors of `clear_cache`."""
    found = []
    for model, version in _versions():
        # Without files, a folder that has the name of one.
        for path in _files(version) or sorted(version.glob(f"*{_WEIGHTS_SUFFIX}")):
            with suppress(FileNotFoundError):  # a download has ended, or was cleared
                size = path.lstat().st_size
                found.append(CachedFile(model, path, size, version.name, _state(path)))
    return found


def clear_cache(models: Collection[str] | None = None) -> int:
    """Delete the downloads of some models, by default all; return the number of bytes freed.

    Waits for running downloads. Only files that this library stores are deleted, and folders only
    if they are empty afterwards; links are removed, not followed. `WeightsUnavailableError` if a
    folder cannot be read.
    """
    if isinstance(models, str):
        raise InputError(f"models must be a list of names, such as [{models!r}], not {models!r}")
    freed = 0
    for model, version in _versions():
        if models is None or model in models:
            with lock(version):
                for path in _files(version):
                    freed += path.lstat().st_size
                    path.unlink()
                _remove_empty(version)
    commits = cache_folder() / COMMITS
    for record in list(commits.glob("*/*.json")):
        if models is None or record.parent.name in models:
            record.unlink(missing_ok=True)
            with suppress(OSError):  # a folder that holds anything else stays
                record.parent.rmdir()
                commits.rmdir()
    return freed


def _versions() -> list[tuple[str, Path]]:
    """Return every model and folder of a version of it. Links are not followed."""

    def fail(error: OSError) -> None:
        if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
            folder = error.filename
            raise WeightsUnavailableError(f"the cache {folder} cannot be read: {error}") from error

    found = []
    root = cache_folder()
    for folder, children, _ in os.walk(root, onerror=fail):
        names = Path(folder).relative_to(root).parts
        children[:] = [name for name in children if len(names) < 3 and re.fullmatch(NAME, name)]
        if len(names) in (2, 3) and _VERSION.fullmatch(names[-1]):
            found.append(("/".join(names[:-1]), Path(folder)))
            children.clear()  # what else is in it is not ours
    return sorted(found)


def _files(version: Path) -> list[Path]:
    return [
        path
        for path in sorted(version.glob("*"))
        if path.suffix in (_WEIGHTS_SUFFIX, _PART_SUFFIX) and (path.is_symlink() or path.is_file())
    ]


def _state(path: Path) -> Literal["complete", "damaged", "unreadable", "partial"]:
    if path.suffix == _PART_SUFFIX:
        return "partial"
    try:
        if not path.is_file():  # a pipe has no end
            return "unreadable"
        with path.open("rb") as file:
            return "complete" if sha256_of(file).startswith(path.parent.name) else "damaged"
    except OSError:
        return "unreadable"
