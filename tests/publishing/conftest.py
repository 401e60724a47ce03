"""Set-up of the publishing tests: a hub on 127.0.0.1, checkpoints to publish, and the command."""

from __future__ import annotations

from pathlib import Path

import pytest
from hf_server import hf_server
from published_weights import NAME, RELEASED, own_weights, publish_command

from mdan_zoo.publishing.publication import Publication
from mdan_zoo.publishing.publish import prepare


@pytest.fixture(autouse=True)
def locks(tmp_path_factory, monkeypatch):
    """Keep the locks of publications out of the user's own cache."""
    monkeypatch.setenv("MDAN_ZOO_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with hf_server(monkeypatch, tmp_path / "cache") as server:
        yield server


@pytest.fixture(scope="session")
def released() -> Publication:
    return prepare(NAME, RELEASED)


@pytest.fixture(scope="session")
def own_file(tmp_path_factory) -> Path:
    """A checkpoint of the registered network for a custom hierarchy."""
    return own_weights(tmp_path_factory.mktemp("own") / "own.safetensors")


@pytest.fixture
def run(capsys):
    return publish_command(capsys)
