"""The numbers in the documents are those of the files that commands write."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
import result_tables  # noqa: E402
import tables  # noqa: E402

from mdan_zoo.cli.main import main, make_parser  # noqa: E402
from mdan_zoo.models.registry import get_architecture  # noqa: E402
from mdan_zoo.training.losses import with_loss_weights  # noqa: E402
from mdan_zoo.training.recipe import complete_fields, load_recipe  # noqa: E402
from mdan_zoo.weights.manifest import load_manifest  # noqa: E402
from mdan_zoo.zoo.configs import MODELS  # noqa: E402
from mdan_zoo.zoo.factory import list_models  # noqa: E402

README = ROOT / "README.md"


@pytest.mark.parametrize("name", tables.DOCUMENTS)
def test_the_tables_are_what_the_result_files_hold(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert "<!-- end of" in text
    assert tables.fill(text) == text, "run: python benchmarks/tables.py"


@pytest.mark.parametrize("name", list_models(pretrained=True))
def test_the_manifests_metrics_are_those_of_the_result_file(name):
    metrics = load_manifest()[name].details["metrics"]
    file = ROOT / metrics["source"]
    expected = [
        {k: v if k in ("model", "branch") else float(v) if v else None for k, v in row.items()}
        for row in result_tables.read(file.name)
    ]
    assert file.is_file()
    assert file.parent == result_tables.RESULTS
    assert any(row["model"] == name for row in expected)
    assert metrics["rows"] == expected


@pytest.mark.parametrize("name", list_models(pretrained=True))
def test_released_weights_were_trained_by_the_recipe_that_is_here(name):
    recipe = load_manifest()[name].details["training"]["recipe"]
    network = get_architecture(MODELS[name].architecture)
    here = with_loss_weights(load_recipe(name), network)
    assert complete_fields(recipe) == dataclasses.asdict(here)


def test_the_readme_shows_what_its_first_command_prints(capsys, monkeypatch):
    first, printed = re.findall(r"```\n(.*?)```", README.read_text(encoding="utf-8"), re.S)[:2]
    command = first.splitlines()[-1]
    monkeypatch.chdir(ROOT)
    assert main(command.split()[1:]) == 0
    assert command.startswith("mdan-zoo ")
    assert capsys.readouterr().out == printed


@pytest.mark.slow
def test_the_readmes_python_runs_as_it_stands():
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.S)
    runnable = [block for block in blocks if "OWNER" not in block]
    assert len(runnable) == 3
    for block in runnable:
        done = subprocess.run(
            [sys.executable, "-c", block], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr


def test_models_that_start_from_another_say_so_in_their_command():
    text = (ROOT / "docs" / "regenerating.md").read_text(encoding="utf-8")
    for name in MODELS:
        (command,) = re.findall(rf"^\| .*`(mdan-zoo train {name} .*?)` \|$", text, re.M)
        options = make_parser().parse_args(command.split()[1:])
        assert (options.init is None) == (not load_recipe(name).init), name


@pytest.mark.parametrize("name", [*tables.DOCUMENTS, "CONTRIBUTING.md", "examples/README.md"])
def test_every_file_that_a_document_links_to_exists(name):
    document = ROOT / name
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text(encoding="utf-8"))
    missing = [link for link in links if not (document.parent / link).exists()]
    assert not missing
