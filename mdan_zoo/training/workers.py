"""What a process does first that reads images for a training."""

from __future__ import annotations

import os
import signal

_GRACE_SECONDS = 30  # what clusters usually give between SIGTERM and SIGKILL
_LOWEST_PRIORITY = 19


def defer_sigterm(worker: int) -> None:
    """Let a reading process go on for a while when all processes of a job are told to stop.

    The training needs its images to end the step, and ends the reading process afterwards. A
    process that ignored the signal for good could keep Python from ever exiting: it sends SIGTERM
    to the reading processes that are left, and then waits for them.
    """
    signal.signal(signal.SIGTERM, lambda number, frame: signal.alarm(_GRACE_SECONDS))


def read_beside_cpu(worker: int) -> None:
    """Do the same, and read in the time that a training on the same cores leaves.

    The threads of a step wait for each other, so what interrupts one holds up all of them. Where
    the step has to wait for images, as many processes as cores have them in the shortest time.
    """
    defer_sigterm(worker)
    if hasattr(os, "nice"):
        os.nice(_LOWEST_PRIORITY)
