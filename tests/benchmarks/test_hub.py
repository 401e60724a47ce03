"""The benchmark of verification runs; what it measures on this machine does not matter here."""

from __future__ import annotations

import csv
import subprocess
import sys

import pytest
from hub_helpers import ROOT

pytest.importorskip("torch")
pytest.importorskip("timm")


@pytest.mark.slow
def test_weight_loading_writes_a_row_for_every_variant(tmp_path):
    output = tmp_path / "results.csv"
    options = ["--megabytes", "1", "--repeats", "2", "--threads", "1"]
    command = [sys.executable, ROOT / "benchmarks" / "weight_loading.py", *options]
    subprocess.run([*command, "--output", output], check=True, capture_output=True, cwd=ROOT)

    with output.open(newline="", encoding="utf-8") as file:
        rows = {row["variant"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["load", "verify", "both"]
    for row in rows.values():
        assert (row["megabytes"], row["repeats"], row["threads"]) == ("1", "2", "1")
        q1, median, q3 = (float(row[f"seconds_{name}"]) for name in ("q1", "median", "q3"))
        assert 0 < q1 <= median <= q3
    assert float(rows["load"]["time_ratio"]) == 1
