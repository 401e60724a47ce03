"""Fixtures of the hub tests: a small weight file and entries that name it."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from fault_server import COMMIT, FaultServer, status

from mdan_zoo.errors import WeightsUnavailableError
from mdan_zoo.weights import cache as weights_cache
from mdan_zoo.weights import fetch
from mdan_zoo.weights.manifest import Licences, ManifestEntry, Source

ROOT = Path(__file__).parents[2]
FILE = "mdan_test.safetensors"
PLACE = f"/mirror/{FILE}"
REPO = "owner/mdan_test"

LOGIN = "; run `hf auth login`, or set HF_TOKEN to a token that may read it"
NO_REPO = "it has no such repository, or a private one: check the name"
GATED = "the repository is gated: accept the terms on the model's page"
REFUSALS = [  # and what a reader is told
    (status(404, X_Error_Code="RepoNotFound"), f"404 Not Found: {NO_REPO}{LOGIN}"),
    (status(401, X_Error_Code="RepoNotFound"), f"401 Unauthorized: {NO_REPO}{LOGIN}"),
    (
        status(404, X_Error_Code="RevisionNotFound"),
        "404 Not Found: it has no such branch, tag or commit",
    ),
    (status(404, X_Error_Code="EntryNotFound"), "404 Not Found: it has no such file"),
    (status(404, X_Error_Code="\x1b[31m"), "404 Not Found: it does not have the file"),
    (status(401), f"401 Unauthorized: login required{LOGIN}"),
    (status(403), f"403 Forbidden: it denies access{LOGIN}"),
    (status(401, X_Error_Code="GatedRepo"), f"401 Unauthorized: {GATED}{LOGIN}"),
    (status(403, X_Error_Code="GatedRepo"), f"403 Forbidden: {GATED}{LOGIN}"),
]


def weight_file(seed: int, size: int = 200_000) -> bytes:
    """Return a safetensors file with one tensor of random bytes."""
    tensor = {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}
    header = json.dumps({"w": tensor}).encode()
    return len(header).to_bytes(8, "little") + header + random.Random(seed).randbytes(size)


CONTENT = weight_file(seed=0)
OTHER = weight_file(seed=1)
"""As long as `CONTENT`, but not it."""


def entry_for(
    content: bytes, *sources: Source, name: str = "mdan_test", file: str = FILE
) -> ManifestEntry:
    return ManifestEntry(
        name=name,
        status="released",
        parameters=1,
        licences=Licences("Apache-2.0", "Apache-2.0", "none"),
        command="none",
        file=file,
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        sources=sources,
    )


def mirror(url: str) -> Source:
    return Source("https", url=url)


def repository() -> Source:
    return Source("huggingface", path=FILE, repo=REPO, revision=COMMIT)


def mirrored(server: FaultServer, content: bytes = CONTENT) -> ManifestEntry:
    """Put a weight file on the server, and return an entry that has it as the only source."""
    server.files[PLACE] = content
    return entry_for(content, mirror(server.url(PLACE)))


def stored(folder: Path) -> list[Path]:
    """Return everything in a cache that is not a folder, but for the locks; and empty folders."""
    found = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or not path.is_dir() or not any(path.iterdir())
    ]
    return [path for path in found if ".locks" not in path.parts]


def python_process(
    script: str, *arguments: str, stderr: int = subprocess.PIPE
) -> subprocess.Popen[str]:
    """Start a Python process that can import mdan_zoo and this module."""
    path = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )


def run_python(script: str, *arguments: str) -> str:
    """Return what a Python process prints; it must end well."""
    process = python_process(script, *arguments)
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    return output


def fetched(server) -> bytes:
    return fetch.find_weights(mirrored(server)).read_bytes()


def failure(server, cache, part: bool = False) -> str:
    """Return the message of a search that fails, and leaves nothing in the cache.

    With `part`, it leaves the part of the file that has arrived, which is listed and cleared.
    """
    with pytest.raises(WeightsUnavailableError) as caught:
        fetch.find_weights(mirrored(server))
    if part:
        (path,) = stored(cache)
        assert path.stat().st_size > 0
        assert CONTENT.startswith(path.read_bytes())
        assert [file.state for file in weights_cache.list_cache()] == ["partial"]
        weights_cache.clear_cache()
    assert stored(cache) == []
    return str(caught.value)
