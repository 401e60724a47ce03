"""Publishing to hubs that are slow, not private or gone before the end."""

from __future__ import annotations

import json

import hf_server as hf_server_module
import huggingface_hub
import pytest
from fault_server import FaultServer, hang, status

from mdan_zoo._util import http
from mdan_zoo._util.http import CA_VARIABLES
from mdan_zoo.errors import PublishingError
from mdan_zoo.publishing.publish import publish_to_hub
from mdan_zoo.weights import hub_api


def test_a_hub_in_clear_text_does_not_receive_the_token(hub, released, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", hub.url.replace("127.0.0.1", "0.0.0.0"))
    with pytest.raises(
        PublishingError, match="it needs https, so that the token is not sent unencrypted"
    ):
        publish_to_hub(released, "lab/oasis")
    assert hub.requests == []


def test_a_hub_that_does_not_answer_times_out(released, monkeypatch):
    monkeypatch.setattr(hub_api, "PUBLISHING_TIMEOUT", 0.2)
    monkeypatch.setenv("HF_TOKEN", "hf_writer")
    for name in CA_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    client = huggingface_hub.get_session()
    before = client.timeout
    with FaultServer() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url())
        server.always["/api/repos/create"] = hang
        with pytest.raises(PublishingError, match=f"cannot publish lab/oasis at {server.url()}: "):
            publish_to_hub(released, "lab/oasis")
    assert huggingface_hub.get_session() is client
    assert client.timeout == before


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (status(403), "the token may not write there (403): give it the right to write"),
        (status(403, X_Error_Code="GatedRepo"), "the repository is gated: accept the terms"),
        (status(401, X_Error_Code="RepoNotFound"), "it has no such repository, or a private one"),
        (status(401), "login required (401): run `hf auth login`, or set HF_TOKEN to a token that"),
    ],
)
def test_a_writer_is_told_what_is_missing(fault, said, released, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_writer")
    with FaultServer() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url())
        server.always["/api/repos/create"] = fault
        with pytest.raises(PublishingError) as caught:
            publish_to_hub(released, "lab/oasis")
    assert str(caught.value).startswith(f"cannot publish lab/oasis at {server.url()}: {said}")


def test_a_commit_that_cannot_be_checked_is_reported(hub, released, monkeypatch):
    """The hub goes away between the upload and the check."""
    monkeypatch.setattr(http, "BACKOFF_SECONDS", 0.001)

    def go_away(handler, *arguments):
        raise hf_server_module._Refusal(503, "maintenance")

    routes = [
        (pattern, go_away if "/revision/" in pattern else handler)
        for pattern, handler in hf_server_module._ROUTES
    ]
    monkeypatch.setattr(hf_server_module, "_ROUTES", routes)
    with pytest.raises(PublishingError, match=r"could not be checked: .* 503 Service") as caught:
        publish_to_hub(released, "lab/oasis")
    commit = hub.repos["lab/oasis"].commits[-1][0]
    assert f"lab/oasis was published as commit {commit}" in str(caught.value)
    entry = json.loads(str(caught.value).partition("Its manifest entry is\n")[2])
    assert entry["sources"][0]["revision"] == commit
