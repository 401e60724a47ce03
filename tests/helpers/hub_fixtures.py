"""The fixtures of the hub's tests, a pytest plugin: they need no torch, unlike conftest.py."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_server import FaultServer

from mdan_zoo._util.http import CA_VARIABLES
from mdan_zoo.weights import transport


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        yield running


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the cache folder, which does not exist yet, in an environment without other settings.

    Second attempts come at once.
    """
    for name in list(os.environ):
        mine = name.startswith(("HF_", "MDAN_ZOO_")) or name.lower().endswith("_proxy")
        if mine or name in CA_VARIABLES:
            monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "no login here"))
    monkeypatch.setenv("MDAN_ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(transport, "BACKOFF_SECONDS", 0.001)
    return tmp_path / "cache"
