"""Fixtures, a pytest plugin: a manifest of somebody's own, and the command line that reads it.

Free of torch, as are the commands that download.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from mdan_zoo.cli.main import main
from mdan_zoo.weights.manifest import SCHEMA_VERSION, ManifestEntry


def _as_json(entry: ManifestEntry) -> dict[str, Any]:
    """Return an entry as it stands in a manifest."""
    fields = {k: v for k, v in dataclasses.asdict(entry).items() if v and k != "name"}
    sources = [{k: v for k, v in source.items() if v} for source in fields.get("sources", ())]
    details = fields.pop("details", {})
    return {**fields, **({"sources": sources} if sources else {}), **details}


@pytest.fixture
def name_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Return what writes a manifest with the given models, and sets MDAN_ZOO_MANIFEST to it."""

    def name(**entries: ManifestEntry | Mapping[str, Any]) -> Path:
        models = {
            model: _as_json(entry) if isinstance(entry, ManifestEntry) else entry
            for model, entry in entries.items()
        }
        path = tmp_path / "lab_manifest.json"
        path.write_text(json.dumps({"schema_version": SCHEMA_VERSION, "models": models}))
        monkeypatch.setenv("MDAN_ZOO_MANIFEST", str(path))
        return path

    return name


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command; return its exit status, output and messages."""

    def run(*arguments: object) -> tuple[int, str, str]:
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as stop:  # argparse
            status = int(stop.code or 0)
        return status, *capsys.readouterr()

    return run
