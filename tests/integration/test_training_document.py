"""docs/training.md: its commands are accepted, its Python names and its examples are right."""

from __future__ import annotations

import argparse
import ast
import importlib
import re
import shlex
from pathlib import Path

import pytest

from mdan_zoo.cli.main import make_parser
from mdan_zoo.datasets.registry import DATASETS
from mdan_zoo.evaluation.levels import load_label_map
from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.training.recipe import load_recipe
from mdan_zoo.zoo.configs import MODELS

TEXT = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.M | re.S)
    return [text for kind, text in found if kind == language]


def commands() -> list[list[str]]:
    """Return the arguments of every `mdan-zoo` command."""
    lines = "".join(blocks("")).replace("\\\n", " ").splitlines()
    found = [re.search(r"(?:mdan-zoo|-m mdan_zoo) (.*)", line) for line in lines]
    return [shlex.split(match[1]) for match in found if match]


@pytest.mark.parametrize("arguments", commands(), ids=" ".join)
def test_every_command_is_accepted(arguments):
    options = make_parser().parse_args(arguments)
    if arguments[0] == "train":
        load_recipe(options.name or options.init, options.changes)
    if arguments[0] in ("dataset", "split"):
        assert options.name in DATASETS


def test_every_change_of_a_recipe_is_possible():
    changes = re.findall(r"--set ([a-z_]+=[\w/.-]*)(?=[` ]|$)", TEXT, re.M)
    assert len(changes) > 8
    for change in changes:
        # A recipe without cached views, which exclude some changes.
        load_recipe("mdan_fi8", [change.replace("=N", "=1")])


def test_every_option_exists():
    (parsers,) = (a for a in make_parser()._actions if isinstance(a, argparse._SubParsersAction))
    known = {
        option for parser in parsers.choices.values() for option in parser._option_string_actions
    }
    # those of accelerate and torchrun
    known |= {"--multi_gpu", "--num_processes", "--nproc_per_node", "--nnodes"}
    known |= {"--rdzv_backend", "--rdzv_id", "--rdzv_endpoint"}
    assert set(re.findall(r"(?<![\w-])--[a-z][\w-]*", TEXT)) <= known


def test_the_names_in_python_exist():
    (code,) = blocks("python")
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module)
            assert all(hasattr(module, alias.name) for alias in node.names)
    assert len(code.splitlines()) < 15


def test_the_hierarchy_is_one(tmp_path):
    text, _ = blocks("toml")
    (tmp_path / "tree.toml").write_text(text)
    tree = Hierarchy.load(tmp_path / "tree.toml")
    assert tree.to_nested() == {"pleasant": ["calm", "awe"], "unpleasant": ["gloom", "fear"]}


def test_the_label_map_is_one(tmp_path):
    _, text = blocks("toml")
    (tmp_path / "map.toml").write_text(text)
    assert set(load_label_map(tmp_path / "map.toml").values()) == {"positive", "negative", ""}


def test_every_data_set_has_its_row_with_the_models_that_learn_from_it():
    rows = dict(re.findall(r"^\| `([\w-]+)` \| (.*?) \|", TEXT, re.M))
    for name in DATASETS:
        trained = [model for model, config in MODELS.items() if name in config.dataset.split("+")]
        assert re.findall(r"`(\w+)`", rows[name]) == trained
