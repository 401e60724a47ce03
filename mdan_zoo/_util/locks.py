"""Locks that are free in a forked child process, whichever thread of its parent holds them."""

from __future__ import annotations

import os
import threading


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
