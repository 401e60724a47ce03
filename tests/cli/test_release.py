"""`mdan-zoo release`, run in a copy of the package."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
from releases import METRICS, ROOT, contents, write_run

WEIGHTS = "mdan_zoo/weights/mdan_oasis4.safetensors"
MANIFEST = "weights_manifest.json"


@pytest.fixture
def checkout(tmp_path):
    folder = tmp_path / "checkout"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "mdan_zoo", folder / "mdan_zoo", ignore=ignored)
    shutil.copy(ROOT / MANIFEST, folder)
    return folder


def run(checkout, *arguments):
    """Run the command of the checkout."""
    command = [sys.executable, "-m", "mdan_zoo", *map(str, arguments)]
    settings = {"PYTHONPATH": str(checkout), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        command, cwd=checkout, env={**os.environ, **settings}, capture_output=True, text=True
    )


@pytest.mark.slow
def test_released_weights_are_those_of_the_checkout(checkout, random_checkpoint, tmp_path):
    before = contents(checkout)
    done = run(
        checkout, "release", write_run(tmp_path / "run", random_checkpoint), "--metrics", METRICS
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    after = contents(checkout)
    assert {name for name in after if after[name] != before.get(name)} == {WEIGHTS, MANIFEST}
    assert after.keys() == before.keys()
    done = run(checkout, "verify", "mdan_oasis4", "flat_oasis4")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"mdan_oasis4  ok  {checkout / WEIGHTS}\n")


@pytest.mark.slow
def test_a_missing_run_is_reported(checkout, random_checkpoint, tmp_path):
    before = contents(checkout)
    good = write_run(tmp_path / "run", random_checkpoint)
    done = run(checkout, "release", good, tmp_path / "gone", "--metrics", METRICS)
    assert (done.returncode, done.stdout) == (2, "")
    missing = tmp_path / "gone" / "model.safetensors"
    assert done.stderr.startswith(f"mdan-zoo: error: cannot read the checkpoint {missing}: ")
    assert len(done.stderr.splitlines()) == 1
    assert contents(checkout) == before
