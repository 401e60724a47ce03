"""The command `mdan-zoo split`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mdan_zoo.cli.options import add_dataset_options, check_output, load_hierarchy
from mdan_zoo.errors import InputError


def add_parser(subparsers: Any) -> None:
    """Add `split` to the subcommands of `mdan-zoo`."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "split",
        help="split a dataset into training and test images",
        description=(
            "Split a dataset and write the image names of every part to a file, with their hash. "
            "The same dataset, method and seed give the same file on every machine."
        ),
    )
    add_dataset_options(parser)
    add = parser.add_argument
    add(
        "--method",
        required=True,
        help="split method, such as 80/20, 80/5/15, 5-fold, grouped-5-fold or official",
    )
    add("--seed", type=int, default=0, help="seed of the split (default: %(default)s)")
    add("--output", type=Path, required=True, metavar="FILE", help="new file for the split")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the split and print the sizes of its parts; return the exit status."""
    from mdan_zoo.datasets.registry import folder_of, read_dataset
    from mdan_zoo.datasets.split_methods import make_split

    name, data, output = arguments.name, arguments.data, arguments.output
    check_output(output)
    if output.exists():
        raise InputError(
            f"{output} already exists, and a split is never overwritten; give --output the name "
            "of a new file"
        )
    samples = read_dataset(name, data, load_hierarchy(arguments.hierarchy))
    split = make_split(name, samples, folder_of(data), arguments.method, arguments.seed)
    split.save(output)
    for part, names in split.parts:
        print(f"{part}: {len(names)} images")
    print(f"sha256: {split.sha256}")
    return 0
