"""The numbers in the documents are those of the files that commands write."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
import tables  # noqa: E402

from mdan_zoo.manifest import load_manifest  # noqa: E402


@pytest.mark.parametrize("name", tables.DOCUMENTS)
def test_the_tables_are_what_the_result_files_hold(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert "<!-- end of" in text
    assert tables.fill(text) == text, "run: python benchmarks/tables.py"


def test_the_manifests_metrics_are_those_of_the_result_file():
    details = load_manifest()["mdan_oasis4"].details
    rows = details["metrics"]["rows"]
    expected = [
        {k: v if k in ("model", "branch") else float(v) if v else None for k, v in row.items()}
        for row in tables.summary()
    ]
    assert rows == expected


@pytest.mark.parametrize("name", [*tables.DOCUMENTS, "CONTRIBUTING.md", "examples/README.md"])
def test_every_file_that_a_document_links_to_exists(name):
    document = ROOT / name
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text(encoding="utf-8"))
    missing = [link for link in links if not (document.parent / link).exists()]
    assert not missing
