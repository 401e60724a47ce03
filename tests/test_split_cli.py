"""`mdan-zoo split`, run as the command line runs it."""

from __future__ import annotations

import argparse
import subprocess
import sys

import pytest
from oasis_folder import write_oasis

from mdan_zoo.datasets.oasis import read_oasis
from mdan_zoo.datasets.split_cli import add_parser
from mdan_zoo.datasets.splits import Split, grouped_folds, select
from mdan_zoo.errors import InputError


@pytest.fixture
def folder(tmp_path):
    return write_oasis(tmp_path / "oasis")


def run(*arguments: object) -> int:
    parser = argparse.ArgumentParser("mdan-zoo")
    add_parser(parser.add_subparsers(required=True))
    options = parser.parse_args(["split", *map(str, arguments)])
    status: int = options.run(options)
    return status


def test_a_split_is_written_and_described(folder, tmp_path, capsys):
    path = tmp_path / "folds.tsv"
    given = ("OASIS", "--root", folder, "--method", "grouped-3-fold", "--seed", 1)
    assert run(*given, "--output", path) == 0
    split = Split.load(path)
    assert capsys.readouterr().out == (
        f"0: 4 pictures\n1: 4 pictures\n2: 4 pictures\nsha256: {split.sha256}\n"
    )
    assert (split.dataset, split.method) == ("OASIS", "grouped-3-fold, seed 1")
    samples = read_oasis(folder)
    folds = [select(split, samples, folder, part) for part in "012"]
    assert folds == grouped_folds(samples, 3, seed=1)


def test_a_split_is_not_overwritten(folder, tmp_path):
    path = tmp_path / "split.tsv"
    path.write_text("precious")
    with pytest.raises(InputError, match=r"split\.tsv is there already"):
        run("OASIS", "--root", folder, "--method", "80/20", "--output", path)
    assert path.read_text() == "precious"


def test_a_refused_method_leaves_no_file(folder, tmp_path):
    path = tmp_path / "split.tsv"
    with pytest.raises(InputError, match="not '80:20'"):
        run("OASIS", "--root", folder, "--method", "80:20", "--output", path)
    assert not path.exists()


def test_no_torch_is_loaded():
    modules = ("datasets.registry", "datasets.split_cli", "datasets.split_methods")
    code = "".join(f"import mdan_zoo.{module}\n" for module in modules)
    code += "import sys; print({'torch', 'PIL'} & set(sys.modules), 'mdan_zoo' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["set()", "True"]
