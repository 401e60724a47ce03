"""The files that a clone of the repository has, apart from what else lies in the folder."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def tracked_files() -> list[str]:
    """Return the paths of the tracked files; skip the test where there is no git repository."""
    # A checkout that belongs to another user is fine to list.
    command = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"git cannot list the tracked files of {ROOT}: {error}")
    paths = [path for path in done.stdout.split("\0") if path]
    if "setup.cfg" not in paths:
        pytest.skip(f"{ROOT} is not a git repository of its own")
    return paths


def copy_tracked_files(destination: Path) -> Path:
    """Copy the tracked files, as they are in the working tree; return the copy's folder."""
    for path in tracked_files():
        copy = destination / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, copy)
    return destination
