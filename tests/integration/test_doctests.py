"""Doctests: the examples in docstrings print what they show."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import mdan_zoo


def modules_with_examples() -> list[str]:
    """Return the names of the modules of the package whose source has an example."""
    root = Path(mdan_zoo.__file__).parent
    files = [path for path in root.rglob("*.py") if ">>> " in path.read_text(encoding="utf-8")]
    parts = [path.relative_to(root.parent).with_suffix("").parts for path in sorted(files)]
    return [".".join(part).removesuffix(".__init__") for part in parts]


MODULES = modules_with_examples()


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_run(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0


def test_the_public_modules_have_examples():
    assert {
        "mdan_zoo",
        mdan_zoo.get_hierarchy.__module__,
        mdan_zoo.list_models.__module__,
    } <= set(MODULES)
