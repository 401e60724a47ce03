"""Servers and settings that are slow, odd or wrong: always an error of ours, with its reason."""

from __future__ import annotations

import re

import pytest
from fault_server import (
    FaultServer,
    cut_and_resumed,
    drip,
    etag_of,
    raw,
    redirect,
    reset,
    stall,
)
from hub_helpers import (
    CONTENT,
    FILE,
    PLACE,
    REPO,
    entry_for,
    failure,
    mirror,
    mirrored,
    repository,
)

from mdan_zoo._util import http
from mdan_zoo.errors import WeightsUnavailableError
from mdan_zoo.weights import cache as weights_cache
from mdan_zoo.weights import fetch

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(CONTENT)


# Slow


def slow_body(handler) -> None:
    """Send 1,000 bytes one by one, and hang up."""
    handler.head(200, [("ETag", etag_of(CONTENT)), ("Content-Length", str(len(CONTENT)))])
    for i in range(1000):
        handler.send(CONTENT[i : i + 1])
        if handler.server.stopping.wait(0.01):
            break
    handler.hang_up()


def test_a_body_that_drips_is_given_up(server, cache, monkeypatch):
    monkeypatch.setattr(http, "PACE_SECONDS", 0.1)
    server.always[PLACE] = slow_body
    message = failure(server, cache, part=True)
    assert re.search(r"only \d+ bytes received in 0 s with \d+ of 200,\d+ bytes", message)
    assert "given up after 5 attempts" in message
    assert len(server.requests) == 5


def test_a_slow_attempt_is_resumed(server, cache, monkeypatch):
    monkeypatch.setattr(http, "PACE_SECONDS", 0.1)
    monkeypatch.setattr(http, "PACE_BYTES", 500)  # one read from a good server is more
    server.faults[PLACE] = [slow_body]
    assert fetch.find_weights(mirrored(server)).read_bytes() == CONTENT
    asked = server.requests[1].headers["range"]
    assert 0 < int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) < 1000
    assert len(server.requests) == 2


def test_a_head_that_drips_is_given_up(server, cache, monkeypatch):
    monkeypatch.setattr(http, "HEAD_TIMEOUT", 0.1)
    server.always[PLACE] = drip(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 1000)
    message = failure(server, cache)
    assert "no answer within" in message
    assert "given up after 5 attempts" in message


def test_a_download_goes_on_as_long_as_it_makes_progress(server, cache):
    server.always[PLACE] = cut_and_resumed(20_000)
    assert fetch.find_weights(mirrored(server)).read_bytes() == CONTENT
    assert len(server.requests) == len(CONTENT) // 20_000 + 1


def test_a_download_that_makes_hardly_any_progress_ends(server, cache):
    server.always[PLACE] = cut_and_resumed(100)
    assert "given up after 5 attempts" in failure(server, cache, part=True)


def test_time_limits_are_given(server, cache, monkeypatch):
    given = []
    get = http.requests.Session.get

    def recorded(session, url, **options):
        given.append(options["timeout"])
        return get(session, url, **options)

    monkeypatch.setattr(http.requests.Session, "get", recorded)
    fetch.find_weights(mirrored(server))
    assert given == [(http.CONNECT_TIMEOUT, http.READ_TIMEOUT)]
    assert None not in given[0]


# Odd answers

LONG = "a" * 70


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (redirect("/\xff"), "it redirects to a malformed address"),
        (redirect(f"http://{LONG}.example/"), "cannot send the request: "),
        (redirect("http://a..b/"), "cannot send the request: "),
        (raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nabc\r\n0\r\n\r\n"), ""),
        (raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc"), ""),
        (raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 70_000), ""),
        (raw(b"HTTP/1.1 200 \xff\xfe\r\nContent-Length: \xff\r\n\r\n"), ""),
        (raw(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\n\r\n"), ""),
        (raw(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n"), ""),
        (raw(b"SSH-2.0-x\r\n"), "the connection failed"),
        (raw(b"\x00\xff" * 10), "the connection failed"),
    ],
)
def test_an_odd_answer_does_not_end_the_search(fault, said, server, cache, tmp_path):
    server.always[PLACE] = fault
    assert said in failure(server, cache)
    server.files["/good"] = CONTENT
    entry = entry_for(CONTENT, mirror(server.url(PLACE)), mirror(server.url("/good")))
    assert fetch.find_weights(entry).read_bytes() == CONTENT


@pytest.mark.parametrize("url", ["https://a..b/x", f"https://{LONG}.example/x", "https://a:99999/"])
def test_an_address_that_no_host_can_have_is_reported(url, cache):
    with pytest.raises(
        WeightsUnavailableError, match="cannot send the request: invalid URL or proxy"
    ):
        fetch.find_weights(entry_for(CONTENT, mirror(url)))


# The reason


@pytest.mark.parametrize(
    ("fault", "timeout", "said"),
    [
        (reset, 30, "the connection failed"),
        (stall(1000), 0.1, "no byte within 0.1 s with 1,000 of"),
    ],
)
def test_the_reason_is_not_that_of_the_callers_own_error(
    fault, timeout, said, server, cache, monkeypatch
):
    monkeypatch.setattr(http, "READ_TIMEOUT", timeout)
    server.always[PLACE] = fault
    try:
        (cache / "of the caller").stat()
    except FileNotFoundError:
        message = failure(server, cache, part="no byte" in said)
    assert said in message
    assert "No such file" not in message


# Proxies


def test_a_proxy_does_not_see_the_token(server, cache, monkeypatch):
    """A hub on this machine, which a proxy for http is asked for."""
    monkeypatch.setenv("HF_ENDPOINT", "http://localhost:5555")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("http_proxy", server.url())
    place = server.add_repository_file(REPO, FILE, CONTENT)
    server.files[f"http://localhost:5555{place}"] = CONTENT
    fetch.find_weights(entry_for(CONTENT, repository()))
    (request,) = server.requests
    assert "authorization" not in request.headers

    monkeypatch.setenv("no_proxy", "localhost,127.0.0.1")
    with FaultServer() as hub_server:
        monkeypatch.setenv("HF_ENDPOINT", hub_server.url())
        hub_server.add_repository_file(REPO, FILE, CONTENT)
        weights_cache.clear_cache()
        fetch.find_weights(entry_for(CONTENT, repository()))
        (request,) = hub_server.requests
    assert request.headers["authorization"] == "Bearer hf_secret"


@pytest.mark.parametrize("proxy", ["http://a..b", "http://[::1", "http://127.0.0.1:99999"])
def test_a_malformed_proxy_is_reported(proxy, cache, monkeypatch):
    monkeypatch.setenv("http_proxy", proxy)
    with pytest.raises(WeightsUnavailableError, match=r"https http://127\.0\.0\.1:1/x: "):
        fetch.find_weights(entry_for(CONTENT, mirror("http://127.0.0.1:1/x")))
