"""Training runs to release, and a checkout to release them into."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
METRICS = ROOT / "benchmarks" / "results" / "oasis_cross_validation_summary.csv"
JOINT_METRICS = METRICS.with_name("fi_validation_summary.csv")


COMMAND = "mdan-zoo train mdan_oasis4 --data FOLDER --output DIR --backbone-weights FILE"


def write_run(folder: Path, checkpoint: Path, command: str = COMMAND, **more: object) -> Path:
    """Write what `mdan-zoo release` needs of a training run: checkpoint and report."""
    folder.mkdir()
    shutil.copy(checkpoint, folder / "model.safetensors")
    sha256 = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    report = {"weights_sha256": sha256, "command": command, "recipe": {"seed": 0}} | more
    (folder / "training.json").write_text(json.dumps(report))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Return the contents of all files in a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
