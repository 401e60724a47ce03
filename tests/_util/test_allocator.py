"""Memory that commands keep."""

from __future__ import annotations

import multiprocessing
import platform
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

# Prints how many pages the system had to give while a block of 64 MiB was taken ten times.
COUNT_PAGES = """
import resource
from mdan_zoo._util.allocator import keep_freed_memory

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


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told what to keep")
def test_freed_memory_is_used_again():
    given_back, kept = pages_taken(""), pages_taken("keep_freed_memory()")
    print(f"pages: {given_back} where memory is given back, {kept} where it is kept")
    assert kept < given_back / 5


def test_other_systems_are_left_alone(monkeypatch):
    from mdan_zoo._util import allocator

    monkeypatch.setattr(sys, "platform", "win32")
    asked = []
    monkeypatch.setattr(allocator.ctypes, "CDLL", asked.append)
    allocator.keep_freed_memory()
    assert asked == []


def test_the_benchmark_compares_medians_and_takes_the_most_memory():
    from freed_memory import Turn, summarise

    turns = {
        "returned": [Turn(9.0, 100), Turn(10.0, 300), Turn(30.0, 200)],
        "kept": [Turn(20.0, 400), Turn(16.0, 100), Turn(15.0, 100)],
    }
    returned, kept = summarise(turns)
    assert (returned.memory, returned.rate_ratio, returned.resident_bytes) == ("returned", 1.0, 300)
    assert (kept.images_per_second, kept.rate_ratio, kept.resident_bytes) == (16.0, 1.6, 400)
    assert returned.repeats == kept.repeats == 3


@pytest.mark.slow
def test_the_benchmark_does_both_ways():
    """One turn each; `train` takes too long here."""
    from freed_memory import Job, turn

    job = Job("predict", "flat_oasis4", 1, threads=1)
    images = sorted((ROOT / "examples").glob("*.jpg"))
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as pool:
        done = [pool.submit(turn, job, way, images).result() for way in ("returned", "kept")]
    assert all(one.images_per_second > 0 and one.resident_bytes > 1e8 for one in done)
