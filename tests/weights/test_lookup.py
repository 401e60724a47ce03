"""Repositories without a manifest: what the hub is asked and told, and odd or slow answers.

Needs no torch, since the weight file is found, not loaded.
"""

from __future__ import annotations

import hashlib
import json

import pytest
from fault_server import COMMIT, FaultServer, body, drip, hang, raw, redirect, reset, status
from hub_helpers import CONTENT, OTHER, REFUSALS, REPO, stored

from mdan_zoo._util import http
from mdan_zoo.errors import InputError, WeightsUnavailableError
from mdan_zoo.weights import cache as weights_cache
from mdan_zoo.weights import fetch, hub_api
from mdan_zoo.zoo.pretrained import find_pretrained

QUESTION = f"/api/models/{REPO}?blobs=true"
PINNED = f"/api/models/{REPO}/revision/{COMMIT}?blobs=true"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
LFS = {"size": len(CONTENT), "sha256": SHA256, "pointerSize": 134}
SIBLING = {"rfilename": "model.safetensors", "size": len(CONTENT), "lfs": LFS}
ANSWER = {"id": REPO, "sha": COMMIT, "siblings": [SIBLING]}


def as_json(content: object):
    return body(json.dumps(content).encode(), "application/json")


@pytest.fixture
def hub_server(server, cache, monkeypatch):
    """A hub with one repository, for a user with a token."""
    monkeypatch.setenv("HF_ENDPOINT", server.url())
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    server.always |= {QUESTION: as_json(ANSWER), PINNED: as_json(ANSWER)}
    server.add_repository_file(REPO, "model.safetensors", CONTENT)
    return server


def failure(**options) -> str:
    with pytest.raises(WeightsUnavailableError) as caught:
        find_pretrained(REPO, **options)
    return str(caught.value)


def test_a_repository_is_asked_and_its_file_fetched(hub_server):
    assert find_pretrained(REPO).read_bytes() == CONTENT
    question, transfer = hub_server.requests
    assert (question.path, transfer.path) == (
        QUESTION,
        f"/{REPO}/resolve/{COMMIT}/model.safetensors",
    )
    for request in (question, transfer):
        assert request.headers["authorization"] == "Bearer hf_secret"


# Who sees the token


def test_a_hub_in_clear_text_does_not_receive_the_token(hub_server, monkeypatch):
    """0.0.0.0 leads to this machine, but is not known as it: any other host would do."""
    monkeypatch.setenv("HF_ENDPOINT", hub_server.url().replace("127.0.0.1", "0.0.0.0"))
    assert find_pretrained(REPO).read_bytes() == CONTENT
    assert len(hub_server.requests) == 2
    assert not any("authorization" in request.headers for request in hub_server.requests)
    assert "hf_secret" not in str([request.headers for request in hub_server.requests])


def test_another_host_does_not_receive_the_token(hub_server):
    with FaultServer() as other:
        other.always["/moved"] = as_json(ANSWER)
        hub_server.always[QUESTION] = redirect(other.url("/moved"))
        find_pretrained(REPO)
        (request,) = other.requests
    assert "authorization" not in request.headers


@pytest.mark.parametrize("token", ["a\nb", "\u20acx", "\xfcx", "a b", "x\r\nEvil: 1", b"x"])
def test_a_token_that_cannot_be_sent_is_not_shown(token, hub_server):
    with pytest.raises(InputError, match=r"the access token .* must be one word") as caught:
        find_pretrained(REPO, token=token)
    assert repr(token).strip("b'") not in str(caught.value)
    assert hub_server.requests == []


@pytest.mark.parametrize("token", ["\u20acx", "a b"])
def test_a_variable_that_cannot_be_sent_is_not_shown(token, hub_server, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(InputError, match=r"HF_TOKEN .* must be one word") as caught:
        find_pretrained(REPO)
    assert token not in str(caught.value)
    assert hub_server.requests == []


@pytest.mark.parametrize(("token", "sent"), [(" hf_a\n", "Bearer hf_a"), (" ", None), ("", None)])
def test_white_space_around_a_token_is_removed(token, sent, hub_server):
    find_pretrained(REPO, token=token)
    assert [request.headers.get("authorization") for request in hub_server.requests] == [sent] * 2


def test_a_token_is_not_shown_with_what_holds_it():
    assert "hf_secret" not in repr(hub_api.Hub("https://hub.example", "hf_secret"))


@pytest.mark.parametrize(
    "endpoint", ["foo", "file:///x", "ftp://x", "http://", "https://[::1", "http://127.0.0.1:99999"]
)
def test_an_endpoint_that_is_no_address_is_reported(endpoint, cache, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    with pytest.raises(InputError, match=r"HF_ENDPOINT is .*; it must begin with https://"):
        find_pretrained(REPO)


@pytest.mark.parametrize("endpoint", ["http://a..b", "https://" + "a" * 70])
def test_an_endpoint_that_no_host_can_have_is_reported(endpoint, cache, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    assert f"cannot look up {REPO} at {endpoint}: cannot send the request: " in failure()


def test_the_password_of_an_endpoint_is_not_shown(cache, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://user:s3cret@127.0.0.1:1")
    assert "at http://127.0.0.1:1: the connection failed" in failure()
    monkeypatch.setenv("HF_ENDPOINT", "ftp://user:s3cret@127.0.0.1:1")
    with pytest.raises(InputError) as caught:
        find_pretrained(REPO)
    assert "s3cret" not in str(caught.value)


# Faults


@pytest.mark.parametrize("fault", [hang, drip(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 1000)])
def test_a_hub_that_does_not_answer_times_out(fault, hub_server, monkeypatch):
    monkeypatch.setattr(hub_api, "LOOKUP_TIMEOUT", 0.1)
    hub_server.always[QUESTION] = fault
    assert "no complete answer within 0.1 s; given up after 5 attempts" in failure()


@pytest.mark.parametrize(
    "fault", [reset, status(500), status(429), status(503, Retry_After="0"), raw(b"")]
)
def test_a_fault_that_passes_is_survived(fault, hub_server):
    hub_server.faults[QUESTION] = [fault, fault]
    assert find_pretrained(REPO).read_bytes() == CONTENT
    assert len(hub_server.requests) == 4


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        *((fault, f"the server answered {said}") for fault, said in REFUSALS),
        (status(400), "the server answered 400 Bad Request"),
        (status(429, Retry_After="4000"), "requests a wait of 4,000 s"),
        (body(b"not json"), "its answer is not JSON"),
        (body(b"<html>", "text/html"), "its answer is not JSON"),
        (body(b"[" * 100_000), "its answer is not JSON"),
        (redirect("file:///etc/passwd"), "redirects to 'file:///etc/passwd', not to http"),
        (redirect(QUESTION), "more than 10 redirects"),
        (redirect("/\xff"), "it redirects to a malformed address"),
    ],
)
def test_a_refusal_is_reported_at_once(fault, said, hub_server, cache):
    hub_server.always[QUESTION] = fault
    message = failure()
    assert message.startswith(f"cannot look up {REPO} at {hub_server.url()}: ")
    assert said in message
    assert "write" not in message
    assert len(hub_server.requests) in (1, 11)
    assert stored(cache) == []


@pytest.mark.parametrize(
    "answer",
    [
        [],
        {},
        None,
        5,
        {**ANSWER, "sha": 5},
        {**ANSWER, "sha": "main"},
        {"sha": COMMIT},
        {**ANSWER, "siblings": None},
        {**ANSWER, "siblings": ["a"]},
        {**ANSWER, "siblings": {"rfilename": 5}},
        {**ANSWER, "siblings": [{**SIBLING, "lfs": None}]},
        {**ANSWER, "siblings": [{**SIBLING, "lfs": {}}]},
        {**ANSWER, "siblings": [{**SIBLING, "lfs": {"size": None, "sha256": None}}]},
        {**ANSWER, "siblings": [{**SIBLING, "lfs": {**LFS, "sha256": "../../x"}}]},
        {**ANSWER, "siblings": [{**SIBLING, "lfs": {**LFS, "size": -1}}]},
        {**ANSWER, "siblings": [{**SIBLING, "lfs": {**LFS, "size": True}}]},
    ],
)
def test_an_answer_of_another_form_is_reported(answer, hub_server, cache):
    hub_server.always[QUESTION] = as_json(answer)
    assert (
        "gives no commit" in (message := failure())
        or "has no model" in message
        or ("has no SHA-256" in message)
    )
    assert not cache.exists()


@pytest.mark.parametrize("revision", ["", "a b", "..", "../x", "a/../../x", ".", "a\n"])
def test_a_revision_that_git_cannot_have_is_refused(revision, hub_server):
    with pytest.raises(InputError, match="a revision is a branch, a tag or a commit"):
        find_pretrained(REPO, revision=revision)
    assert hub_server.requests == []


def test_a_revision_is_one_part_of_the_address(hub_server):
    failure(revision="refs/pr/1?#")
    assert hub_server.requests[0].path == (
        f"/api/models/{REPO}/revision/refs%2Fpr%2F1%3F%23?blobs=true"
    )


# A commit that was loaded before


def test_a_known_commit_needs_no_hub(hub_server, cache, monkeypatch):
    path = find_pretrained(REPO, revision=COMMIT)
    hub_server.requests.clear()
    hub_server.always[PINNED] = status(503)
    assert find_pretrained(REPO, revision=COMMIT) == path
    monkeypatch.setenv("MDAN_ZOO_OFFLINE", "1")
    assert find_pretrained(REPO, revision=COMMIT) == path
    assert hub_server.requests == []
    path.unlink()
    message = failure(revision=COMMIT)
    assert f"Put the file ({len(CONTENT):,} bytes, SHA-256 {SHA256}) at {path}" in message


def test_a_branch_makes_its_commit_known_but_is_asked_itself(hub_server):
    find_pretrained(REPO)
    hub_server.requests.clear()
    find_pretrained(REPO)
    assert [request.path for request in hub_server.requests] == [QUESTION]
    find_pretrained(REPO, revision=COMMIT)
    assert len(hub_server.requests) == 1


def test_an_unknown_commit_is_reported_offline(hub_server, cache, monkeypatch):
    monkeypatch.setenv("MDAN_ZOO_OFFLINE", "1")
    message = failure(revision=COMMIT)
    assert "MDAN_ZOO_OFFLINE or HF_HUB_OFFLINE forbids connections" in message
    assert str(cache) in message
    assert "model.safetensors" in message
    assert hub_server.requests == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"[" * 5000,
        b"\xff",
        json.dumps({"repo": "other/repo", "commit": COMMIT, **LFS}).encode(),
        json.dumps({"repo": REPO, "commit": "0" * 40, **LFS}).encode(),
        json.dumps({"repo": REPO, "commit": COMMIT, "size": "1", "sha256": SHA256}).encode(),
        json.dumps({"repo": REPO, "commit": COMMIT, "size": 1, "sha256": "../x"}).encode(),
    ],
)
def test_what_is_kept_of_a_commit_is_read_strictly(content, hub_server, cache):
    find_pretrained(REPO, revision=COMMIT)
    (kept,) = (cache / ".commits").rglob("*.json")
    kept.write_bytes(content)
    hub_server.requests.clear()
    assert find_pretrained(REPO, revision=COMMIT).read_bytes() == CONTENT
    assert [request.path for request in hub_server.requests] == [PINNED]


def test_what_is_kept_does_not_replace_the_check_of_the_file(hub_server, cache):
    path = find_pretrained(REPO, revision=COMMIT)
    path.write_bytes(OTHER)
    with pytest.warns(fetch.DamagedWeightsWarning):
        assert find_pretrained(REPO, revision=COMMIT).read_bytes() == CONTENT


def test_what_is_kept_is_cleared(hub_server, cache):
    find_pretrained(REPO)
    weights_cache.clear_cache(["another"])
    assert (cache / ".commits").exists()
    weights_cache.clear_cache()
    assert [path.name for path in cache.iterdir()] == [".locks"]


def test_no_time_limit_is_absent():
    limits = ("CONNECT_TIMEOUT", "READ_TIMEOUT", "HEAD_TIMEOUT", "PACE_SECONDS")
    assert all(getattr(http, name) > 0 for name in limits)
    assert hub_api.LOOKUP_TIMEOUT > 0
