"""Hugging Face repositories: their addresses and errors, who sees the token, and hostile names."""

from __future__ import annotations

import dataclasses
from functools import partial

import pytest
from fault_server import COMMIT, FaultServer, redirect, status
from hub_helpers import (
    CONTENT,
    FILE,
    LOGIN,
    REFUSALS,
    REPO,
    entry_for,
    mirror,
    mirrored,
    repository,
    stored,
)

from mdan_zoo._util import http
from mdan_zoo.errors import CheckpointError, ManifestError, WeightsUnavailableError
from mdan_zoo.weights import fetch
from mdan_zoo.weights.manifest import Source

TOKEN = "hf_secret"
ENTRY = entry_for(CONTENT, repository())


@pytest.fixture
def place(server, cache, monkeypatch) -> str:
    """Make the server the hub of a user with a token; return the path of the file there."""
    monkeypatch.setenv("HF_ENDPOINT", server.url())
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return server.add_repository_file(REPO, FILE, CONTENT)


@pytest.fixture
def other():
    with FaultServer() as running:
        yield running


def tokens(server: FaultServer) -> list[str | None]:
    return [request.headers.get("authorization") for request in server.requests]


def test_a_file_of_a_repository_is_fetched_at_its_commit(place, server, cache):
    path = fetch.find_weights(ENTRY)
    assert path.read_bytes() == CONTENT
    assert path.is_relative_to(cache)
    (request,) = server.requests
    assert request.path == f"/{REPO}/resolve/{COMMIT}/{FILE}"
    assert request.headers["authorization"] == f"Bearer {TOKEN}"
    assert stored(cache) == [path]


def test_an_endpoint_below_a_path_is_used(place, server, cache, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", server.url("/hf/"))
    server.files[f"/hf{place}"] = CONTENT
    assert fetch.find_weights(ENTRY).read_bytes() == CONTENT


@pytest.mark.parametrize("endpoint", ["hub.example", "file:///srv/hub", "ftp://hub.example"])
def test_an_endpoint_that_is_no_address_is_reported(endpoint, place, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    with pytest.raises(WeightsUnavailableError, match=f"HF_ENDPOINT is '{endpoint}'; it must"):
        fetch.find_weights(ENTRY)


def test_a_token_can_be_given(place, server):
    fetch.find_weights(ENTRY, token="hf_given")
    assert tokens(server) == ["Bearer hf_given"]


def test_without_a_token_none_is_sent(place, server, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    fetch.find_weights(ENTRY)
    assert tokens(server) == [None]


@pytest.mark.parametrize(("fault", "said"), REFUSALS)
def test_a_reader_is_told_what_is_missing(fault, said, place, server, cache):
    server.always[place] = fault
    with pytest.raises(WeightsUnavailableError) as caught:
        fetch.find_weights(ENTRY)
    assert f"Hugging Face {REPO}@{COMMIT[:8]}/{FILE}: the server answered {said}" in str(
        caught.value
    )
    assert (LOGIN in str(caught.value)) == (LOGIN in said)
    assert TOKEN not in str(caught.value)
    assert "write" not in str(caught.value)
    assert len(server.requests) == 1
    assert stored(cache) == []


@pytest.mark.parametrize("repo", ["owner/--", "owner", "owner/..", "a/b/c", "owner/a?b", "o/a@b"])
def test_a_name_that_no_repository_has_is_reported(repo, place, server):
    source = dataclasses.replace(repository(), repo=repo)
    with pytest.raises(WeightsUnavailableError, match="a repository is named OWNER/REPO"):
        fetch.find_weights(entry_for(CONTENT, source))
    assert server.connections == 0


# Who sees the token


def test_a_redirect_on_the_hub_carries_the_token(place, server):
    server.always[place] = redirect("/renamed")
    server.files["/renamed"] = CONTENT
    fetch.find_weights(ENTRY)
    assert tokens(server) == [f"Bearer {TOKEN}"] * 2


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_another_host_or_port_does_not_see_the_token(host, place, server, other):
    server.always[place] = redirect(f"http://{host}:{other.server_port}/storage?signature")
    other.files["/storage?signature"] = CONTENT
    assert fetch.find_weights(ENTRY).read_bytes() == CONTENT
    assert tokens(server) == [f"Bearer {TOKEN}"]
    assert tokens(other) == [None]
    assert TOKEN not in str(other.requests)


def test_a_mirror_does_not_see_the_token(place, server, other):
    server.always[place] = status(404)
    other.files["/x"] = CONTENT
    other.files[f"/{FILE}"] = CONTENT
    beside_manifest = Source("relative", path=FILE, base=other.url("/"))
    for source in (mirror(other.url("/x")), beside_manifest):
        entry = entry_for(CONTENT, repository(), source)
        path = fetch.find_weights(entry)
        path.unlink()
    assert tokens(other) == [None, None]
    assert len(server.requests) == 2


def test_a_mirror_on_the_hubs_own_address_does_not_see_the_token(place, server):
    fetch.find_weights(mirrored(server))
    assert tokens(server) == [None]


def test_what_netrc_says_is_not_sent(place, server, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password netrc-secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    fetch.find_weights(ENTRY).unlink()
    fetch.find_weights(mirrored(server))
    assert tokens(server) == [f"Bearer {TOKEN}", None]


def test_the_token_goes_only_through_encryption_or_to_this_machine():
    def sent(home: str, here: str) -> bool:
        login = partial(http.log_in, home, TOKEN)
        request = http.requests.Request("GET", here, auth=login).prepare()
        return "Authorization" in request.headers

    assert sent("https://hub.example/a", "https://hub.example/b")
    assert sent("https://hub.example/a", "https://hub.example:443/b")
    assert sent("https://HUB.example/a", "https://hub.example/b")
    assert sent("http://localhost:80/a", "http://localhost/b")
    assert sent("http://[::1]:8080/a", "http://[::1]:8080/b")
    assert not sent("http://hub.example/a", "http://hub.example/a")
    assert not sent("http://hub.example/a", "https://hub.example/a")
    assert not sent("https://hub.example/a", "http://hub.example/a")
    assert not sent("https://hub.example/a", "https://hub.example:8443/a")
    assert not sent("https://hub.example/a", "https://cdn.hub.example/a")
    assert not sent("https://hub.example/a", "https://hub.example.evil.example/a")
    assert not sent("https://hub.example/a", "https://hub.example@evil.example/a")
    assert not sent("https://hub.example/a", "https://evil.example\\@fetch.example/a")
    assert not sent("http://127.0.0.1:1/a", "http://127.0.0.1:2/a")


# Names that a server sends

HOSTILE = ["../../../escaped", "/tmp/escaped", "a\0b", "x" * 300, "..\\..\\escaped", "C:escaped"]


def tree(folder):
    return sorted(path for path in folder.rglob("*") if ".locks" not in path.parts)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_server_chooses_no_name(name, place, server, cache, tmp_path):
    server.extra_headers = [
        ("ETag", f'"{name}"'),
        ("X-Linked-Etag", f'"{name}"'),
        ("X-Repo-Commit", name),
        ("Content-Disposition", f'attachment; filename="{name}"'),
        ("Content-Location", name),
    ]
    path = fetch.find_weights(ENTRY)
    assert path.read_bytes() == CONTENT
    folders = [folder for folder in path.parents if folder.is_relative_to(cache)]
    assert tree(tmp_path) == sorted([path, *folders])


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_that_leads_out_of_the_cache_is_refused(name, place, server, cache):
    for change in ({"name": f"{name}/b"}, {"name": "a/.."}, {"file": f"{name}/"}, {"file": ""}):
        with pytest.raises(ManifestError, match="must be plain names"):
            fetch.cached_path(dataclasses.replace(ENTRY, **change))
    with pytest.raises(ManifestError, match="must be 64 lowercase hexadecimal digits"):
        fetch.cached_path(dataclasses.replace(ENTRY, sha256=name))
    assert server.connections == 0


def test_a_model_may_be_called_as_its_repository(place, cache):
    entry = dataclasses.replace(ENTRY, name=REPO)
    path = fetch.find_weights(entry)
    assert path == cache / REPO / entry.sha256[:16] / FILE


def test_a_header_that_is_too_large_is_refused(server, cache):
    """The file is the one that its manifest names, but no loader should read it."""
    content = (2 << 20).to_bytes(8, "little") + bytes(3 << 20)
    with pytest.raises(CheckpointError, match="is not a safetensors checkpoint"):
        fetch.find_weights(mirrored(server, content))
