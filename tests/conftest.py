"""Fixtures that tests of several packages share.

The tests of `weights` also run without torch, so this module must not import it: fixtures that need
torch import it when they are used.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fault_server import FaultServer
from random_weights import save_random_weights

from mdan_zoo._util import http
from mdan_zoo._util.http import CA_VARIABLES
from mdan_zoo.cli.main import main
from mdan_zoo.weights.manifest import SCHEMA_VERSION, ManifestEntry
from mdan_zoo.zoo.configs import MODELS

if TYPE_CHECKING:
    from hf_server import HubServer

    from mdan_zoo.inference.predictor import Predictor


# Networks and images


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    """A checkpoint of a small MDAN with seeded random weights."""
    path = tmp_path_factory.mktemp("checkpoint") / "random.safetensors"
    save_random_weights(path)
    return path


@pytest.fixture(scope="session")
def random_checkpoint(tmp_path_factory) -> Path:
    """A checkpoint of the registered configuration of mdan_oasis4, with random weights."""
    path = tmp_path_factory.mktemp("checkpoint") / "registered.safetensors"
    save_random_weights(path, config=MODELS["mdan_oasis4"])
    return path


@pytest.fixture(scope="session")
def predictor(checkpoint) -> Predictor:
    from mdan_zoo.inference.predictor import Predictor

    return Predictor(checkpoint=checkpoint, device="cpu")


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> list[Path]:
    """Seven image files of different sizes and contents."""
    import numpy as np
    from PIL import Image

    folder = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(1)
    sizes = [(60, 80), (500, 350), (33, 20), (352, 352), (128, 400), (64, 64), (700, 90)]
    for number, (width, height) in enumerate(sizes):
        coarse = generator.integers(0, 256, (5, 7, 3), np.uint8)
        image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        image.save(folder / f"photo{number}.png")
    return sorted(folder.iterdir())


@pytest.fixture(scope="session")
def oasis_folder(tmp_path_factory) -> Path:
    """A dataset of 12 images in the layout of OASIS; read-only."""
    from oasis_folder import write_oasis

    return write_oasis(tmp_path_factory.mktemp("data") / "oasis")


# Fine-tuning


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """A checkpoint of an MDAN that trains in seconds; read-only."""
    from tiny_model import write_tiny_model

    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.safetensors")


@pytest.fixture(scope="session")
def own_images(tmp_path_factory) -> Path:
    """A folder of images for every class of the custom hierarchy; read-only."""
    from tiny_model import write_own_data

    return write_own_data(tmp_path_factory.mktemp("data") / "feelings")


@pytest.fixture(scope="session")
def own_hierarchy(tmp_path_factory) -> Path:
    """The custom hierarchy of `own_images` as a file."""
    from tiny_model import OWN_TREE

    path = tmp_path_factory.mktemp("hierarchy") / "tree.toml"
    OWN_TREE.save(path)
    return path


# Servers and manifests


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        yield running


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the cache folder, which does not exist yet, in an environment without other settings.

    Retries come at once.
    """
    for name in list(os.environ):
        mine = name.startswith(("HF_", "MDAN_ZOO_")) or name.lower().endswith("_proxy")
        if mine or name in CA_VARIABLES:
            monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "no login here"))
    monkeypatch.setenv("MDAN_ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(http, "BACKOFF_SECONDS", 0.001)
    return tmp_path / "cache"


@pytest.fixture
def hub(monkeypatch, tmp_path) -> Iterator[HubServer]:
    """A Hugging Face Hub on this machine, for the real client."""
    from hf_server import hf_server

    with hf_server(monkeypatch, tmp_path / "cache") as server:
        yield server


def _as_json(entry: ManifestEntry) -> dict[str, Any]:
    """Return an entry as it stands in a manifest."""
    fields = {k: v for k, v in dataclasses.asdict(entry).items() if v and k != "name"}
    sources = [{k: v for k, v in source.items() if v} for source in fields.get("sources", ())]
    details = fields.pop("details", {})
    return {**fields, **({"sources": sources} if sources else {}), **details}


@pytest.fixture
def name_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Return a function that writes a manifest of the given models and selects it."""

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


# The command line


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command in this process; return its exit status, output and messages."""

    def run(*arguments: object) -> tuple[int, str, str]:
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as stop:  # argparse
            status = int(stop.code or 0)
        return status, *capsys.readouterr()

    return run
