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


def init_worker(worker: int, *, low_priority: bool) -> None:
    """Initialise a DataLoader worker, which then exits some time after SIGTERM.

    The training process needs its images to finish the step. A worker that ignored the signal
    completely could block the exit of Python, which waits for the workers that remain.

    Args:
        worker: Number of the worker.
        low_priority: Whether it yields to the training step, for training on a CPU. The threads of
            a step wait for each other, so a worker that interrupts one delays all of them.
    """
    signal.signal(signal.SIGTERM, lambda number, frame: signal.alarm(_GRACE_SECONDS))
    if low_priority and hasattr(os, "nice"):
        os.nice(_LOWEST_PRIORITY)
