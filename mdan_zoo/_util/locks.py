"""Locks between threads, which a forked child process does not inherit, and between processes."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PATIENCE_SECONDS = 5.0  # of waiting for another process, before a message is logged
_LOGGER = logging.getLogger("mdan_zoo.weights.fetch")


class ForkSafeLock:
    """Lock for module-level use; `threading.Lock` would stay locked in the child for ever."""

    def __init__(self) -> None:
        self._renew()
        if hasattr(os, "register_at_fork"):  # not on Windows
            os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


@contextmanager
def process_lock(path: Path, what: str) -> Iterator[None]:
    """Hold the lock file `path`. Waiting processes log that another one `what`.

    A killed process releases its lock.
    """
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(path)
    try:
        acquired = held.acquire(timeout=PATIENCE_SECONDS)
    except Timeout:
        _LOGGER.warning("waiting for another process that %s", what)
        acquired = held.acquire()
    with acquired:
        yield
