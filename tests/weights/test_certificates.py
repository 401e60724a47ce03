"""https with an authority of one's own: whom the clients trust, and what is said if they do not."""

from __future__ import annotations

import hashlib
import json
import os
import re

import huggingface_hub
import pytest
from fault_server import CERTIFICATE, COMMIT, FaultServer, body
from hub_helpers import CONTENT, PLACE, REPO, entry_for, mirror, mirrored, stored

from mdan_zoo.errors import PublishingError, WeightsUnavailableError
from mdan_zoo.weights import fetch, hub_api
from mdan_zoo.zoo.pretrained import find_pretrained

VARIABLES = ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"]


@pytest.fixture
def https_server(cache, monkeypatch):
    with FaultServer(https=True) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url())
        yield server


def failure(server) -> str:
    with pytest.raises(WeightsUnavailableError) as caught:
        fetch.find_weights(mirrored(server))
    return str(caught.value)


@pytest.mark.parametrize("variable", VARIABLES)
def test_every_variable_counts_for_every_client(variable, https_server, monkeypatch):
    lfs = {"size": len(CONTENT), "sha256": hashlib.sha256(CONTENT).hexdigest(), "pointerSize": 1}
    siblings = [{"rfilename": "model.safetensors", "lfs": lfs}]
    answer = json.dumps({"id": REPO, "sha": COMMIT, "private": True, "siblings": siblings}).encode()
    for question in (f"/api/models/{REPO}?blobs=true", f"/api/models/{REPO}"):
        https_server.always[question] = body(answer, "application/json")
    https_server.add_repository_file(REPO, "model.safetensors", CONTENT)
    monkeypatch.setenv(variable, str(CERTIFICATE))
    assert fetch.find_weights(mirrored(https_server)).read_bytes() == CONTENT
    assert find_pretrained(REPO).read_bytes() == CONTENT
    before = dict(os.environ)
    huggingface_hub.close_session()  # it may be of a test before
    with hub_api.hub_client(hub_api.find_hub(), "cannot publish") as api:
        assert api.model_info(REPO, timeout=10).private
    assert dict(os.environ) == before
    huggingface_hub.close_session()


def test_an_unknown_authority_is_reported_at_once(https_server, cache):
    message = failure(https_server)
    assert re.search("its certificate is not trusted: self.signed certificate", message)
    assert "set REQUESTS_CA_BUNDLE to the file with its certificate" in message
    assert len(https_server.requests) == 0
    assert stored(cache) == []
    with pytest.raises(WeightsUnavailableError, match="its certificate is not trusted"):
        find_pretrained(REPO)
    huggingface_hub.close_session()
    with (
        pytest.raises(PublishingError, match=r"(?i)certificate"),
        hub_api.hub_client(hub_api.find_hub(), "cannot publish") as api,
    ):
        api.model_info(REPO, timeout=10)
    huggingface_hub.close_session()


@pytest.mark.parametrize("variable", VARIABLES)
def test_a_file_of_authorities_that_is_missing_is_reported(
    variable, https_server, cache, monkeypatch
):
    monkeypatch.setenv(variable, "/no/such/authorities.pem")
    message = failure(https_server)
    assert f"cannot send the request: {variable} is /no/such/authorities.pem: " in message
    assert "cannot be written to" not in message
    assert stored(cache) == []


def test_a_file_of_authorities_that_has_none_is_reported(https_server, tmp_path, monkeypatch):
    (tmp_path / "empty.pem").write_text("nothing")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "empty.pem"))
    assert f"REQUESTS_CA_BUNDLE is {tmp_path / 'empty.pem'}: " in failure(https_server)


def test_publishing_reports_a_file_of_authorities_that_is_missing(https_server, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such/authorities.pem")
    before = dict(os.environ)
    with (
        pytest.raises(
            PublishingError, match=f"cannot publish at {https_server.url()}: .*No such file"
        ),
        hub_api.hub_client(hub_api.find_hub(), "cannot publish") as api,
    ):
        api.model_info(REPO, timeout=10)
    assert dict(os.environ) == before
    huggingface_hub.close_session()


def test_a_certificate_does_not_end_the_search(https_server, server):
    server.files[PLACE] = CONTENT
    sources = (mirror(https_server.url(PLACE)), mirror(server.url(PLACE)))
    assert fetch.find_weights(entry_for(CONTENT, *sources)).read_bytes() == CONTENT
