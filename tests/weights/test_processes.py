"""Several processes at once, processes that are killed, and what a terminal shows."""

from __future__ import annotations

import io
import os
import queue
import random
import signal
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from fault_server import Fault, Handler, body, cut, cut_and_resumed, reset, status
from hub_helpers import CONTENT, FILE, OTHER, PLACE, mirrored, python_process, stored

from mdan_zoo._util import http, locks
from mdan_zoo.errors import WeightsUnavailableError
from mdan_zoo.weights import cache as weights_cache
from mdan_zoo.weights import fetch

FIND = """
import sys
from hub_helpers import CONTENT, entry_for, mirror
from mdan_zoo.weights import fetch
sys.stdin.readline()
print(fetch.find_weights(entry_for(CONTENT, mirror(sys.argv[1]))), flush=True)
"""


def held(seconds: float) -> Fault:
    """Send the file in two halves with a pause between, in which others can ask for it too."""

    def answer(handler: Handler) -> None:
        handler.head(200, [("Content-Length", str(len(CONTENT)))])
        handler.send(CONTENT[:100_000])
        time.sleep(seconds)
        handler.send(CONTENT[100_000:])

    return answer


@pytest.mark.slow
def test_many_processes_at_once_make_one_download(server, cache):
    entry = mirrored(server)
    server.faults[PLACE] = [held(0.5)]
    processes = [python_process(FIND, server.url(PLACE)) for _ in range(16)]
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        output, errors = process.communicate()
        assert (process.returncode, errors) == (0, "")
        assert output == f"{fetch.cached_path(entry)}\n"
    assert len(server.requests) == 1
    assert stored(cache) == [fetch.cached_path(entry)]
    assert fetch.cached_path(entry).read_bytes() == CONTENT


def test_many_threads_at_once_make_one_download(server, cache):
    entry = mirrored(server)
    server.faults[PLACE] = [held(0.2)]
    start = threading.Barrier(8)

    def find(_: int) -> bytes:
        start.wait()
        return fetch.find_weights(entry).read_bytes()

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(find, range(8))) == {CONTENT}
    assert len(server.requests) == 1


def test_who_waited_for_a_download_that_failed_makes_its_own(server, cache):
    entry = mirrored(server)
    server.faults[PLACE] = [status(404)]
    start = threading.Barrier(2)

    def find(_: int) -> bytes | None:
        start.wait()
        try:
            return fetch.find_weights(entry).read_bytes()
        except WeightsUnavailableError:
            return None

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(find, range(2)))
    assert set(results) == {None, CONTENT}


# Killed

POINTS = [*random.Random(0).sample(range(len(CONTENT)), 14), 0, *[len(CONTENT)] * 5]


def kill_after(count: int, victims: queue.Queue[subprocess.Popen[str]]) -> Fault:
    """Send a number of bytes and kill the process that asked; after all of them, a bit later."""

    def answer(handler: Handler) -> None:
        handler.head(200, [("Content-Length", str(len(CONTENT)))])
        handler.send(CONTENT[:count])
        if count == len(CONTENT):
            time.sleep(random.uniform(0, 0.01))  # while it is checked, synced or renamed
        victims.get().kill()
        handler.hang_up()

    return answer


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_killed_download_leaves_nothing_that_matters(server, cache):
    entry = mirrored(server)
    path = fetch.cached_path(entry)
    leftovers = 0
    for count in POINTS:
        victims: queue.Queue[subprocess.Popen[str]] = queue.Queue()
        server.faults[PLACE] = [kill_after(count, victims)]
        process = python_process(FIND, server.url(PLACE))
        victims.put(process)
        process.communicate("\n")
        if count < len(CONTENT):
            assert process.returncode == -9
        found = stored(cache)
        assert [file.suffix for file in found] in ([".part"], [".safetensors"])
        leftovers += found != [path]

        assert fetch.find_weights(entry) == path
        assert path.read_bytes() == CONTENT
        assert stored(cache) == [path]
        path.unlink()
    assert leftovers >= 15  # otherwise it was not the killing that is tested here


def interrupt_at(count: int, victims: queue.Queue[subprocess.Popen[str]], sent: int) -> Fault:
    """Send a number of bytes, and end the process that asked when it has stored most of them."""

    def answer(handler: Handler) -> None:
        handler.head(200, [("Content-Length", str(len(CONTENT)))])
        handler.send(CONTENT[:count])
        victim = victims.get()
        (part,) = weights_cache.cache_folder().rglob("*.part")
        deadline = time.monotonic() + 30
        while part.stat().st_size < count - 20_000 and time.monotonic() < deadline:
            time.sleep(0.01)
        victim.send_signal(sent)
        victim.wait()
        handler.hang_up()

    return answer


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs signals")
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_download_of_a_process_that_ended_is_continued(sent, server, cache):
    entry = mirrored(server)
    victims: queue.Queue[subprocess.Popen[str]] = queue.Queue()
    server.faults[PLACE] = [interrupt_at(120_000, victims, sent)]
    handler = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    process = python_process(handler + FIND, server.url(PLACE))
    victims.put(process)
    process.communicate("\n")
    assert process.returncode == -sent
    (part,) = stored(cache)
    have = part.stat().st_size
    assert 100_000 <= have <= 120_000
    assert [file.state for file in weights_cache.list_cache()] == ["partial"]

    path = fetch.find_weights(entry)
    assert path.read_bytes() == CONTENT
    assert stored(cache) == [path]
    assert server.requests[1].headers["range"] == f"bytes={have}-"
    assert server.requests[1].sent == len(CONTENT) - have
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("left", "faults", "asked"),
    [
        (CONTENT[:1000], [], ["bytes=1000-"]),
        (CONTENT[:1000], [body(CONTENT)], ["bytes=1000-"]),  # ranges are ignored
        (CONTENT[:1000], [cut(5000)], ["bytes=1000-", "bytes=5000-"]),
        (CONTENT[:1000], [reset], ["bytes=1000-"] * 2),
        (CONTENT[:1000], [status(416)], ["bytes=1000-", None]),
        (OTHER[:1000], [], ["bytes=1000-", None]),
        (
            OTHER[:1000],
            [cut_and_resumed(9000), cut_and_resumed(9000)],
            ["bytes=1000-", "bytes=10000-", "bytes=19000-", None],
        ),
        (CONTENT, [], []),
        (OTHER, [], [None]),
        (CONTENT + b"x", [], [None]),
        (b"", [], [None]),
    ],
)
def test_what_is_left_of_a_download(left, faults, asked, server, cache, monkeypatch):
    monkeypatch.setattr(http, "CHUNK_BYTES", 1000)  # so that all bytes arrive
    entry = mirrored(server)
    path = fetch.cached_path(entry)
    path.parent.mkdir(parents=True)
    path.with_name(f"{path.name}.part").write_bytes(left)
    server.faults[PLACE] = faults
    assert fetch.find_weights(entry).read_bytes() == CONTENT
    assert [request.headers.get("range") for request in server.requests] == asked
    assert stored(cache) == [path]


def test_a_download_that_failed_is_continued_by_the_next(server, cache, monkeypatch):
    monkeypatch.setenv("MDAN_ZOO_RETRIES", "0")
    monkeypatch.setattr(http, "CHUNK_BYTES", 1000)  # so that all bytes arrive
    entry = mirrored(server)
    server.faults[PLACE] = [cut(150_000), reset, status(404)]
    for _ in range(3):
        with pytest.raises(WeightsUnavailableError):
            fetch.find_weights(entry)
    path = fetch.find_weights(entry)
    assert path.read_bytes() == CONTENT
    asked = [request.headers.get("range") for request in server.requests]
    assert asked == [None, *["bytes=150000-"] * 3]
    assert stored(cache) == [path]


@pytest.mark.parametrize(("left", "faults"), [(CONTENT, [status(416)]), (OTHER, [])])
def test_what_cannot_be_continued_costs_no_retry(left, faults, server, cache, monkeypatch):
    """A download without retries succeeds as if nothing had been left."""
    monkeypatch.setenv("MDAN_ZOO_RETRIES", "0")
    entry = mirrored(server)
    path = fetch.cached_path(entry)
    path.parent.mkdir(parents=True)
    path.with_name(f"{FILE}.part").write_bytes(left[:150_000])
    server.faults[PLACE] = faults
    assert fetch.find_weights(entry).read_bytes() == CONTENT
    assert [request.headers.get("range") for request in server.requests] == ["bytes=150000-", None]


def test_what_is_left_of_a_download_is_removed_if_it_cannot_be_completed(server, cache):
    entry = mirrored(server)
    path = fetch.cached_path(entry)
    path.parent.mkdir(parents=True)
    path.with_name(f"{path.name}.part").write_bytes(OTHER[:1000])
    server.always[PLACE] = body(OTHER)
    with pytest.raises(WeightsUnavailableError, match="its file has SHA-256"):
        fetch.find_weights(entry)
    assert stored(cache) == []


@pytest.mark.skipif(os.name != "posix", reason="needs links")
@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_link_in_the_place_of_a_partial_file_is_not_written_through(
    server, cache, tmp_path, link
):
    entry = mirrored(server)
    path = fetch.cached_path(entry)
    path.parent.mkdir(parents=True)
    (tmp_path / "mine").write_bytes(CONTENT[:1000])
    link(tmp_path / "mine", path.with_name(f"{path.name}.part"))
    assert fetch.find_weights(entry).read_bytes() == CONTENT
    assert (tmp_path / "mine").read_bytes() == CONTENT[:1000]
    assert not path.is_symlink()


def test_the_lock_of_a_killed_process_is_free(server, cache):
    entry = mirrored(server)
    script = """
import sys, time
from pathlib import Path
from mdan_zoo.weights import cache as weights_cache
with weights_cache.lock(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(600)
"""
    process = python_process(script, str(fetch.cached_path(entry).parent))
    assert process.stdout.readline() == "locked\n"
    process.kill()
    process.communicate()
    assert fetch.find_weights(entry).read_bytes() == CONTENT


HOLD = """
import sys, time
from pathlib import Path
from mdan_zoo.weights import cache as weights_cache
with weights_cache.lock(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.readline()
    print("freed", time.monotonic(), flush=True)
"""


def test_a_long_wait_for_another_process_is_reported_once(server, cache, monkeypatch, caplog):
    monkeypatch.setattr(locks, "PATIENCE_SECONDS", 0.1)
    entry = mirrored(server)
    process = python_process(HOLD, str(fetch.cached_path(entry).parent))
    assert process.stdout.readline() == "locked\n"

    def free() -> None:
        deadline = time.monotonic() + 30
        while not caplog.records and time.monotonic() < deadline:
            time.sleep(0.02)
        process.communicate("\n")

    release = threading.Thread(target=free)
    release.start()
    assert fetch.find_weights(entry).read_bytes() == CONTENT
    release.join()
    assert [record.getMessage() for record in caplog.records] == [
        "waiting for another process that fetches or deletes mdan_test"
    ]


def test_clearing_waits_for_a_download(server, cache):
    """What it would delete is in use until then."""
    entry = mirrored(server)
    path = fetch.find_weights(entry)
    process = python_process(HOLD, str(path.parent))
    assert process.stdout.readline() == "locked\n"
    clearing = threading.Thread(target=weights_cache.clear_cache)
    clearing.start()
    clearing.join(0.3)
    assert clearing.is_alive()
    assert path.exists()
    process.communicate("\n")
    clearing.join()
    assert not path.exists()


# Progress


def test_nothing_is_printed_where_there_is_no_terminal(server, cache, capfd):
    fetch.find_weights(mirrored(server))
    assert capfd.readouterr() == ("", "")


class Silent:
    """A stream as some programs put in the place of stderr."""

    def write(self, text: str) -> None:
        pass


@pytest.mark.parametrize("stream", ["none", "closed", "without isatty"])
def test_any_stderr_will_do(stream, server, cache, monkeypatch):
    closed = io.StringIO()
    closed.close()
    streams = {"none": None, "closed": closed, "without isatty": Silent()}
    monkeypatch.setattr(sys, "stderr", streams[stream])
    assert fetch.find_weights(mirrored(server)).read_bytes() == CONTENT


def test_a_terminal_shows_the_progress(server, cache):
    fcntl = pytest.importorskip("fcntl", reason="needs a pseudo-terminal")
    termios = pytest.importorskip("termios")
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 25, 80, 0, 0))
    mirrored(server)
    process = python_process(FIND, server.url(PLACE), stderr=theirs)
    process.communicate("\n")
    os.close(theirs)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert process.returncode == 0
    assert FILE in shown
    assert "100%" in shown
    assert "200k/200k" in shown
