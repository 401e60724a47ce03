"""What becomes of memory that is freed, which decides how fast networks run on processors."""

from __future__ import annotations

import ctypes
import sys

# Names of glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4


def keep_freed_memory() -> None:
    """Let this process keep the memory it frees, and make its next tensors of that.

    glibc gives every block of more than 32 MiB, which a map of a batch soon is, back to the system
    and takes the next from there, and the system clears all its pages again: with two cores more
    than a third of a training step's time (benchmarks/freed_memory.py). A process keeps what it
    once had, and at most it has up to a fifth more. So this is for commands, which end when their
    work is done; a library must not decide it for the program that it is part of. Where the C
    library is another, nothing happens.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, -1)
