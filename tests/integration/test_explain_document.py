"""docs/explain.md: commands and code run."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("matplotlib", reason="figures need matplotlib")

from mdan_zoo.cli.main import main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def document(tmp_path, monkeypatch) -> str:
    """The document, in a folder with the images that it names."""
    (tmp_path / "examples").mkdir()
    for name in ("cat.jpg", "rocket.jpg"):
        shutil.copy(ROOT / "examples" / name, tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    return (ROOT / "docs" / "explain.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_its_commands_run(document):
    commands = re.findall(r"^mdan-zoo (.+)", document, re.MULTILINE)
    assert len(commands) == 4
    for command in commands:
        given = command.replace("IMAGE", "examples/cat.jpg").replace("FOLDER", "examples")
        assert main(given.split()) == 0
        with Image.open(given.split()[-1]) as figure:
            figure.load()


def test_its_code_does_what_it_says(document):
    (code,) = re.findall(r"```python\n(.+?)```", document, re.DOTALL)
    names: dict = {}
    exec(code, names)
    explanation = names["explanation"]
    assert f"explanation.prediction.path  # {explanation.prediction.path}" in code
    assert Path("explained.png").is_file()
