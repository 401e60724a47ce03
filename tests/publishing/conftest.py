"""Weights to publish, and the command that publishes them."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import call
from published_weights import NAME, RELEASED, own_weights

from mdan_zoo.publishing.publication import Publication
from mdan_zoo.publishing.publish import prepare


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Keep the locks of publications out of the user's own cache."""
    monkeypatch.setenv("MDAN_ZOO_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def released() -> Publication:
    """The released weights, ready to be published."""
    return prepare(NAME, RELEASED)


@pytest.fixture(scope="session")
def own_file(tmp_path_factory) -> Path:
    """A checkpoint of the registered network for a custom hierarchy."""
    return own_weights(tmp_path_factory.mktemp("own") / "own.safetensors")


@pytest.fixture
def run(capsys):
    """Run `mdan-zoo publish`; return exit status, output and messages."""

    def run(*arguments: object) -> tuple[int, str, str]:
        return call("publish", *arguments), *capsys.readouterr()

    return run
