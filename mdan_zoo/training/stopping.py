"""What SIGTERM does to a training: the step is ended, and its state kept."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_GRACE_SECONDS = 30  # what clusters usually give between SIGTERM and SIGKILL


@contextmanager
def sigterm() -> Iterator[threading.Event]:
    """Give an event that SIGTERM sets, so that a training ends between two steps."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event  # signals reach the main thread only
        return
    before = signal.signal(signal.SIGTERM, lambda number, frame: event.set())
    try:
        yield event
    finally:
        signal.signal(signal.SIGTERM, before)


def defer_sigterm(worker: int) -> None:
    """Let a reading process go on for a while when all processes of a job are told to stop.

    The training needs its pictures to end the step, and ends the reading process afterwards. A
    process that ignored the signal for good could keep Python from ever exiting: it sends SIGTERM
    to the reading processes that are left, and then waits for them.
    """
    signal.signal(signal.SIGTERM, lambda number, frame: signal.alarm(_GRACE_SECONDS))
