"""Options that several commands have, and how their values are read."""

from __future__ import annotations

import argparse
from pathlib import Path

from mdan_zoo.datasets.registry import DATASETS
from mdan_zoo.errors import InputError
from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.hierarchy.tree import Hierarchy


def add_dataset_options(parser: argparse.ArgumentParser) -> None:
    """Add the name of a dataset, `--data`, and `--hierarchy`, which `load_hierarchy` reads."""
    add = parser.add_argument
    add("name", metavar="NAME", help="dataset: one of " + ", ".join(DATASETS))
    add("--data", "--root", type=Path, required=True, metavar="DIR", help="folder of the dataset")
    add(
        "--hierarchy",
        metavar="FILE|NAME",
        help="emotion hierarchy: a .toml or .json file, or a built-in name (default: that of the "
        "dataset; required for folder and table)",
    )


def add_compute_options(parser: argparse.ArgumentParser) -> None:
    """Add `--device`, `--dtype` and `--batch-size`."""
    add = parser.add_argument
    add("--device", help="device, such as cpu or cuda:0 (default: CUDA if available)")
    add("--dtype", default="float32", help="float32, bfloat16 or float16 (default: %(default)s)")
    add(
        "--batch-size",
        type=int,
        metavar="N",
        help="images per batch (default: 2 on CPU, 32 on GPU)",
    )


def load_hierarchy(given: str | None) -> Hierarchy | None:
    """Return the hierarchy in a file, or the built-in one of that name; None for None.

    Raises:
        HierarchyError: The file is missing or broken.
        UnknownNameError: No built-in hierarchy has that name.
    """
    if given is None:
        return None
    return Hierarchy.load(given) if Path(given).suffix else get_hierarchy(given)


def check_output(path: Path) -> None:
    """Raise `InputError` unless `--output` can be a file: its folder must exist."""
    problem = ""
    if not path.parent.is_dir():
        problem = f"there is no folder {path.parent}"
    elif path.exists() and not path.is_file():
        problem = "that is a folder or a device"
    if problem:
        raise InputError(f"--output must be a file in an existing folder, not {path}: {problem}")
