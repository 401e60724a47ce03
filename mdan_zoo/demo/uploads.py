"""The folder of the uploads: swept while the server runs, deleted when it ends.

Gradio deletes the uploads that it took note of. An upload that was broken off, and one in a field
that it does not know, stay in the folder; so everything there is deleted by its age alone.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

_PREFIX = "mdan_zoo_demo_"
_LOCK = "lock"
_STARTING = 60  # seconds within which a server has surely locked its new folder


@contextmanager
def upload_folder(keep_seconds: float) -> Iterator[Path]:
    """Make a folder for uploads, keep what is old out of it, and delete it in the end.

    Folders that earlier servers of this user left, because they were killed, are deleted first.

    Args:
        keep_seconds: How long uploads are kept at least; at most `sweep_seconds` longer.
    """
    remove_abandoned(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as folder, FileLock(Path(folder) / _LOCK):
        uploads = Path(folder) / "uploads"
        uploads.mkdir()
        stop = threading.Event()
        sweeper = threading.Thread(target=_sweep_until, args=(stop, uploads, keep_seconds))
        sweeper.start()
        try:
            yield uploads
        finally:
            stop.set()
            sweeper.join()


def sweep_seconds(keep_seconds: float) -> float:
    """Return the time between two looks for what is too old."""
    return max(1, keep_seconds / 20)


def _sweep_until(stop: threading.Event, folder: Path, keep_seconds: float) -> None:
    while not stop.wait(sweep_seconds(keep_seconds)):
        sweep(folder, keep_seconds)


def sweep(folder: Path, keep_seconds: float) -> None:
    """Delete every file below a folder that was last written longer ago."""
    for path in folder.rglob("*"):
        with suppress(OSError):  # moved meanwhile, or open where open files cannot be deleted
            if path.is_file() and time.time() - path.stat().st_mtime > keep_seconds:
                path.unlink()


def remove_abandoned(parent: Path) -> None:
    """Delete the folders of this user's servers that no longer run: nobody holds their lock."""
    for folder in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError, Timeout):
            status = folder.lstat()
            mine = not hasattr(os, "getuid") or status.st_uid == os.getuid()
            starting = time.time() - status.st_mtime < _STARTING
            if mine and not starting and (folder / _LOCK).is_file():
                with FileLock(folder / _LOCK, blocking=False):
                    shutil.rmtree(folder)
