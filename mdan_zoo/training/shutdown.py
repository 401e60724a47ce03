"""Graceful shutdown: on SIGTERM finish the step and save the state."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_GRACE_SECONDS = 30  # usual time between SIGTERM and SIGKILL on clusters
_LOWEST_PRIORITY = 19


@contextmanager
def sigterm() -> Iterator[threading.Event]:
    """Yield an event that SIGTERM sets, so that training stops between two steps."""
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
    """Initialise a DataLoader worker that exits some time after SIGTERM.

    The training process needs its images to finish the step, and then ends the worker. A worker
    that ignored the signal completely could block the exit of Python, which sends SIGTERM to the
    remaining workers and waits for them.
    """
    signal.signal(signal.SIGTERM, lambda number, frame: signal.alarm(_GRACE_SECONDS))


def defer_sigterm_at_low_priority(worker: int) -> None:
    """Initialise a DataLoader worker for training on the CPU, at the lowest priority.

    The threads of a step wait for each other, so a worker that interrupts one delays all of them.
    """
    defer_sigterm(worker)
    if hasattr(os, "nice"):
        os.nice(_LOWEST_PRIORITY)
