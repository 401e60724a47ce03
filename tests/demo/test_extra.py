"""The demo where its extra is not installed."""

from __future__ import annotations

import subprocess
import sys

import pytest

ALL = ["gradio", "uvicorn", "fastapi", "matplotlib"]


@pytest.mark.parametrize("missing", [["gradio"], ALL], ids=["gradio", "all"])
def test_what_the_demo_needs_is_named(missing):
    code = """
import sys
for name in sys.argv[1:]:
    sys.modules[name] = None  # as if it were not installed
from mdan_zoo.cli.main import main
raise SystemExit(main(["demo", "--port", "0"]))
"""
    command = [sys.executable, "-c", code, *missing]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 2
    assert "pip install 'mdan-zoo[demo]'" in done.stderr
    assert "Traceback" not in done.stderr
