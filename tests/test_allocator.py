"""Memory that commands keep."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# Prints how many pages the system had to give while a block of 64 MiB was taken ten times.
COUNT_PAGES = """
import resource
from mdan_zoo._allocator import keep_freed_memory

{call}
bytearray(64 << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    bytearray(b"x") * (64 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def pages_taken(call: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", COUNT_PAGES.format(call=call)],
        check=True,
        capture_output=True,
        text=True,
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told what to keep")
def test_freed_memory_is_used_again():
    given_back, kept = pages_taken(""), pages_taken("keep_freed_memory()")
    print(f"pages: {given_back} where memory is given back, {kept} where it is kept")
    assert kept < given_back / 5


def test_other_systems_are_left_alone(monkeypatch):
    from mdan_zoo import _allocator

    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(_allocator.ctypes, "CDLL", None)  # would fail if it were called
    _allocator.keep_freed_memory()
