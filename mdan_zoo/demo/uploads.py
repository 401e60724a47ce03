"""Upload folder: old files are deleted while the server runs, all files when it ends.

Gradio only deletes the uploads that it has registered, not aborted uploads or uploads in unknown
fields. So here every file is deleted by its age.
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
_STARTING = 60  # seconds after which a running server has certainly locked its folder


@contextmanager
def upload_folder(keep_seconds: float) -> Iterator[Path]:
    """Create an upload folder, delete old files from it, and delete it at the end.

    Folders left behind by killed servers of this user are deleted first.

    Args:
        keep_seconds: Minimum time that uploads are kept; at most `sweep_seconds` longer.
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
    """Return the time between two deletions of old files."""
    return max(1, keep_seconds / 20)


def _sweep_until(stop: threading.Event, folder: Path, keep_seconds: float) -> None:
    while not stop.wait(sweep_seconds(keep_seconds)):
        sweep(folder, keep_seconds)


def sweep(folder: Path, keep_seconds: float) -> None:
    """Delete every file below a folder that was last written more than `keep_seconds` ago."""
    for path in folder.rglob("*"):
        with suppress(OSError):  # moved in the meantime, or open on Windows
            if path.is_file() and time.time() - path.stat().st_mtime > keep_seconds:
                path.unlink()


def remove_abandoned(parent: Path) -> None:
    """Delete the folders of this user's stopped servers, which hold no lock."""
    for folder in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError, Timeout):
            status = folder.lstat()
            mine = not hasattr(os, "getuid") or status.st_uid == os.getuid()
            starting = time.time() - status.st_mtime < _STARTING
            if mine and not starting and (folder / _LOCK).is_file():
                with FileLock(folder / _LOCK, blocking=False):
                    shutil.rmtree(folder)
