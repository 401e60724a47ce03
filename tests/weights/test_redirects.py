"""Redirects of a download: which are followed, which are refused, and what is told of them."""

from __future__ import annotations

import pytest
from fault_server import CERTIFICATE, FaultServer, cut, redirect
from hub_helpers import (
    CONTENT,
    PLACE,
    entry_for,
    failure,
    fetched,
    mirror,
)

from mdan_zoo.weights import fetch


def test_redirects_are_followed(server, cache):
    server.always["/a"] = redirect("/b?signature=secret")
    server.always["/b?signature=secret"] = redirect(server.url(PLACE + "?x"))
    server.files[PLACE + "?x"] = CONTENT
    server.always[PLACE] = redirect("../a")
    assert fetched(server) == CONTENT
    assert len(server.requests) == 4


def test_a_cut_is_resumed_through_redirects(server, cache):
    server.always[PLACE] = redirect("/elsewhere")
    server.files["/elsewhere"] = CONTENT
    server.faults["/elsewhere"] = [cut(150_000)]
    assert fetched(server) == CONTENT
    assert 0 < server.requests[-1].sent < len(CONTENT)


def test_a_loop_of_redirects_ends(server, cache):
    server.always[PLACE] = redirect(PLACE)
    assert "more than 10 redirects" in failure(server, cache)
    assert len(server.requests) == 11


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("file:///etc/hostname", "redirects to 'file:///etc/hostname', not to http"),
        ("ftp://127.0.0.1/x?secret", "redirects to 'ftp://127.0.0.1/x', not to http"),
        ("http://[::1", "it redirects to a malformed address"),
        ("http://127.0.0.1:99999/", "it redirects to a malformed address"),
        ("http://*/", "invalid URL or proxy (InvalidURL)"),
    ],
)
def test_a_redirect_elsewhere_is_refused(target, said, server, cache):
    server.always[PLACE] = redirect(target)
    assert said in failure(server, cache)
    assert len(server.requests) == 1


@pytest.fixture
def https_server(cache, monkeypatch):
    """A server with a trusted certificate."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(CERTIFICATE))
    with FaultServer(https=True) as running:
        yield running


def test_a_redirect_may_not_give_up_encryption(https_server, cache):
    https_server.always[PLACE] = redirect("http://user:secret@b.invalid/y?secret")
    message = failure(https_server, cache)
    assert "it redirects from https to 'http://b.invalid/y', which is not encrypted" in message
    assert "secret" not in message
    assert len(https_server.requests) == 1


def test_a_redirect_from_https_may_lead_to_https_or_to_this_machine(https_server, server, cache):
    https_server.always[PLACE] = redirect(f"//127.0.0.1:{https_server.server_port}/y")
    https_server.always["/y"] = redirect(server.url("/z"))
    server.files["/z"] = CONTENT
    assert fetched(https_server) == CONTENT


def test_a_redirect_from_http_may_lead_to_http(server, cache, monkeypatch):
    """The proxy makes another host of the server."""
    monkeypatch.setenv("http_proxy", server.url())
    server.always["http://a.invalid/x"] = redirect("http://b.invalid/y")
    server.files["http://b.invalid/y"] = CONTENT
    entry = entry_for(CONTENT, mirror("http://a.invalid/x"))
    assert fetch.find_weights(entry).read_bytes() == CONTENT
