"""The transfer of a weight file, against a server that fails in every way a network does."""

from __future__ import annotations

import email.utils
import hashlib
import re
import time

import pytest
from fault_server import (
    body,
    cut,
    endless,
    etag_of,
    hang,
    part,
    reset,
    stall,
    status,
)
from hub_helpers import (
    CONTENT,
    OTHER,
    PLACE,
    entry_for,
    failure,
    fetched,
    mirror,
    mirrored,
    stored,
)

from mdan_zoo._util import http, progress
from mdan_zoo.errors import WeightsUnavailableError
from mdan_zoo.weights import fetch

HTML = b"<!DOCTYPE html><html>Sign in</html>"


def test_a_good_server_is_asked_once(server, cache):
    entry = mirrored(server)
    path = fetch.find_weights(entry)
    assert path == fetch.cached_path(entry)
    assert path == cache / "mdan_test" / entry.sha256[:16] / entry.file
    assert path.read_bytes() == CONTENT
    assert fetch.find_weights(entry) == path
    assert len(server.requests) == 1
    assert server.requests[0].headers["accept-encoding"] == "identity"
    assert server.requests[0].headers["user-agent"].startswith("mdan_zoo/")


@pytest.mark.parametrize(
    "fault",
    [
        cut(70_000),
        cut(0),
        cut(len(CONTENT) - 1),
        cut(70_000, reset=True),
        cut(70_000, strong=False),
        cut(70_000, length=False),
        cut(70_000, strong=False, length=False),
        reset,
        status(500),
        status(502),
        status(503),
        status(504),
        status(408),
        status(429),
        status(429, Retry_After="nonsense"),
    ],
)
def test_a_fault_that_passes_is_survived(fault, server, cache):
    server.faults[PLACE] = [fault]
    assert fetched(server) == CONTENT
    assert len(server.requests) == 2
    assert len(stored(cache)) == 1


def test_several_faults_are_survived(server, cache):
    server.faults[PLACE] = [reset, status(500), cut(10), cut(100_000)]
    assert fetched(server) == CONTENT


# Resuming


@pytest.mark.parametrize("fault", [cut(150_000), cut(150_000, length=False)])
def test_only_the_rest_is_sent_after_a_cut(fault, server, cache):
    server.faults[PLACE] = [fault]
    assert fetched(server) == CONTENT
    first, second = server.requests
    assert "range" not in first.headers
    assert second.headers["if-range"] == etag_of(CONTENT)
    have = int(re.fullmatch(r"bytes=(\d+)-", second.headers["range"])[1])
    # What stood in the buffer of the connection when it broke may be lost.
    assert 150_000 - http.CHUNK_BYTES < have <= 150_000
    assert second.sent == len(CONTENT) - have


def test_a_file_without_a_strong_etag_is_fetched_again(server, cache):
    server.faults[PLACE] = [cut(150_000, strong=False)]
    assert fetched(server) == CONTENT
    assert "range" not in server.requests[1].headers
    assert server.requests[1].sent == len(CONTENT)


def test_a_server_that_ignores_the_range_is_believed(server, cache):
    server.faults[PLACE] = [cut(150_000), body(CONTENT)]
    assert fetched(server) == CONTENT
    assert "range" in server.requests[1].headers
    assert len(server.requests) == 2


def test_another_version_of_the_file_is_not_joined(server, cache):
    """The server's file changes to the right one between the two parts."""
    entry = mirrored(server)
    server.files[PLACE] = OTHER
    cut_other = cut(150_000)

    def cut_and_change(handler):
        cut_other(handler)
        server.files[PLACE] = CONTENT

    server.faults[PLACE] = [cut_and_change]
    assert fetch.find_weights(entry).read_bytes() == CONTENT
    assert server.requests[1].headers["if-range"] == etag_of(OTHER)
    assert server.requests[1].sent == len(CONTENT)


SIZE = len(CONTENT)


@pytest.mark.parametrize(
    "answer",
    [
        part(f"bytes 0-{SIZE - 1}/{SIZE}", CONTENT),
        part(f"bytes 150001-{SIZE - 1}/{SIZE}", CONTENT[150_001:]),
        part(f"bytes 150000-{SIZE - 2}/{SIZE}", CONTENT[150_000:-1]),
        part(f"bytes 150000-{SIZE - 1}/{SIZE + 1}", CONTENT[150_000:]),
        part("", CONTENT[150_000:]),
        part("nonsense", CONTENT[150_000:]),
        part(f"bytes 150000-{SIZE - 1}/{SIZE}", CONTENT[150_000:], etag='"another"'),
        status(416),
    ],
)
def test_a_part_that_was_not_asked_for_is_not_joined(answer, server, cache, monkeypatch):
    monkeypatch.setattr(http, "CHUNK_BYTES", 1000)  # so that exactly 150,000 bytes arrive
    server.faults[PLACE] = [cut(150_000), answer]
    assert fetched(server) == CONTENT
    asked = [request.headers.get("range") for request in server.requests]
    assert asked == [None, "bytes=150000-", None]


def test_joined_parts_with_the_wrong_hash_are_fetched_again(server, cache, monkeypatch):
    monkeypatch.setattr(http, "CHUNK_BYTES", 1000)
    wrong_rest = part(f"bytes 150000-{SIZE - 1}/{SIZE}", OTHER[150_000:])
    server.faults[PLACE] = [cut(150_000), wrong_rest]
    assert fetched(server) == CONTENT
    assert "range" not in server.requests[2].headers
    assert server.requests[2].sent == len(CONTENT)


def test_a_part_that_nobody_asked_for_is_refused(server, cache):
    server.always[PLACE] = part(f"bytes 0-{SIZE - 1}/{SIZE}", CONTENT)
    assert "answered 206" in failure(server, cache)
    assert len(server.requests) == 1


# Faults that do not pass


def test_a_body_that_is_always_cut_is_reported(server, cache):
    server.always[PLACE] = cut(70_000)
    message = failure(server, cache, part=True)
    said = rf"the body ended with [\d,]+ of {SIZE:,} bytes; given up after 5 attempts"
    assert re.search(said, message)
    assert len(server.requests) == 5


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (reset, "the connection failed"),
        (status(500), "500 Internal Server Error"),
        (status(429), "429 Too Many Requests"),
        (status(599), "answered 599;"),
    ],
)
def test_a_fault_that_stays_is_reported_after_five_attempts(fault, said, server, cache):
    server.always[PLACE] = fault
    message = failure(server, cache)
    assert said in message
    assert "given up after 5 attempts" in message
    assert len(server.requests) == 5


@pytest.mark.parametrize(("fault", "part"), [(hang, False), (stall(70_000), True)])
def test_a_server_that_hangs_is_given_up(fault, part, server, cache, monkeypatch):
    monkeypatch.setattr(http, "READ_TIMEOUT", 0.1)
    server.always[PLACE] = fault
    assert "no byte within 0.1 s" in failure(server, cache, part)
    assert len(server.requests) == 5


def test_silence_is_logged_once_and_the_number_of_retries_is_set(
    server, cache, monkeypatch, caplog
):
    monkeypatch.setattr(http, "READ_TIMEOUT", 0.5)
    monkeypatch.setattr(progress, "SILENCE_SECONDS", 0.1)
    monkeypatch.setenv("MDAN_ZOO_RETRIES", "1")
    server.always[PLACE] = stall(70_000)
    assert "given up after 2 attempts" in failure(server, cache, part=True)
    first, retry = [record.getMessage() for record in caplog.records]
    assert first == "mdan_test.safetensors: nothing received for 0.1 s; waiting"
    assert "no byte within 0.5 s with " in retry


@pytest.mark.parametrize("retries", ["-1", "many", "1.5"])
def test_a_malformed_number_of_retries_is_reported(retries, server, cache, monkeypatch):
    monkeypatch.setenv("MDAN_ZOO_RETRIES", retries)
    said = f"MDAN_ZOO_RETRIES must be a whole number, not {retries!r}"
    assert said in failure(server, cache)
    assert server.requests == []


def test_a_server_that_hangs_once_is_survived(server, cache, monkeypatch):
    monkeypatch.setattr(http, "READ_TIMEOUT", 0.5)
    server.faults[PLACE] = [hang]
    assert fetched(server) == CONTENT


def test_a_port_where_nobody_listens_is_reported(server, cache):
    entry = mirrored(server)
    server.server_close()
    with pytest.raises(WeightsUnavailableError, match="Connection refused"):
        fetch.find_weights(entry)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (401, "401 Unauthorized: login required"),
        (403, "403 Forbidden: it denies access"),
        (404, "404 Not Found: it does not have the file"),
        (410, "410 Gone"),
        (400, "400 Bad Request"),
        (204, "204 No Content"),
        (304, "304 Not Modified"),
    ],
)
def test_a_refusal_is_reported_at_once(code, said, server, cache):
    server.always[PLACE] = status(code)
    message = failure(server, cache)
    assert said in message
    assert "HF_TOKEN" not in message  # no mirror gets it
    assert len(server.requests) == 1


@pytest.mark.parametrize("length", [True, False])
def test_wrong_content_of_the_right_length_is_reported_with_both_hashes(length, server, cache):
    server.always[PLACE] = body(OTHER, length=length)
    message = failure(server, cache)
    assert hashlib.sha256(OTHER).hexdigest() in message
    assert hashlib.sha256(CONTENT).hexdigest() in message
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (CONTENT[:-1], "application/octet-stream"),
        (CONTENT + b"x", "application/octet-stream"),
        (HTML, "text/html"),
        (b"", "text/plain"),
    ],
)
def test_a_wrong_length_is_reported_at_once(content, kind, server, cache):
    server.always[PLACE] = body(content, kind)
    message = failure(server, cache)
    assert f"offers {len(content)} bytes ({kind!r}), the released file has {SIZE}" in message
    assert len(server.requests) == 1


def test_a_short_body_without_a_length_is_not_taken_for_the_file(server, cache):
    server.always[PLACE] = body(HTML, length=False)
    assert f"the body ended with {len(HTML)} of {SIZE:,} bytes" in failure(server, cache)


@pytest.mark.parametrize("fault", [body(CONTENT + b"x", length=False), endless])
def test_a_body_that_is_too_long_is_stopped(fault, server, cache):
    server.always[PLACE] = fault
    assert f"sends more than the {SIZE:,} bytes" in failure(server, cache)
    assert len(server.requests) == 1


# Waiting


@pytest.mark.parametrize("past", [False, True])
def test_retry_after_is_obeyed(past, server, cache, monkeypatch):
    """The wait that the server asks for is none; that of the back-off would never end."""
    monkeypatch.setattr(http, "BACKOFF_SECONDS", 1e9)
    monkeypatch.setattr(http, "MAX_RETRY_AFTER", 1e9)
    header = email.utils.formatdate(0, usegmt=True) if past else "0"
    server.faults[PLACE] = [status(429, Retry_After=header), status(503, Retry_After=header)]
    assert fetched(server) == CONTENT


def test_the_wait_that_is_asked_for_is_waited(server, cache):
    server.faults[PLACE] = [status(429, Retry_After="1")]
    start = time.monotonic()
    assert fetched(server) == CONTENT
    assert time.monotonic() - start >= 1


@pytest.mark.parametrize("header", ["301", "9" * 500, "Fri, 01 Jan 2100 00:00:00 GMT"])
def test_a_long_wait_is_reported_at_once(header, server, cache):
    server.always[PLACE] = status(429, Retry_After=header)
    assert re.search(
        r"429 Too Many Requests, and requests a wait of [\d,]+ s", failure(server, cache)
    )
    assert len(server.requests) == 1


@pytest.fixture
def waits(monkeypatch):
    """Record the waits between attempts instead of waiting."""
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    return waits


@pytest.mark.parametrize(
    ("header", "wait"), [("7", 7), ("300", 300), ("0", 0), ("Thu, 01 Jan 1970 00:00:00 GMT", 0)]
)
def test_what_retry_after_may_hold(header, wait, waits, server, cache):
    server.faults[PLACE] = [status(429, Retry_After=header)]
    assert fetched(server) == CONTENT
    assert waits == [wait]


@pytest.mark.parametrize(
    "header", ["", "soon", "-1", "1e3", "nan", "Fri, 99 Foo 2100 99:00:00", None]
)
def test_nonsense_in_retry_after_is_ignored(header, waits, server, cache):
    server.faults[PLACE] = [status(429, **({} if header is None else {"Retry_After": header}))]
    assert fetched(server) == CONTENT
    assert 0 < waits[0] <= 0.001  # of the back-off


def test_the_back_off_doubles(waits, server, cache, monkeypatch):
    monkeypatch.setattr(http, "BACKOFF_SECONDS", 1.0)
    server.always[PLACE] = status(500)
    failure(server, cache)
    for wait, longest in zip(waits, (1, 2, 4, 8), strict=True):
        assert longest / 2 <= wait <= longest


# The environment


def test_the_proxy_of_the_environment_is_used(server, cache, monkeypatch):
    monkeypatch.setenv("http_proxy", server.url())
    server.files["http://weights.invalid/model"] = CONTENT
    entry = entry_for(CONTENT, mirror("http://weights.invalid/model"))
    assert fetch.find_weights(entry).read_bytes() == CONTENT
