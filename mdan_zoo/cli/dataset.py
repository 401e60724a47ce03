"""The command `mdan-zoo dataset`; Pillow is imported only when it runs, torch never."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mdan_zoo.datasets.registry import DATASETS, get_dataset
from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.hierarchy.tree import Hierarchy

if TYPE_CHECKING:
    from mdan_zoo.datasets.check import DatasetReport

_SHOWN = 10
"""Number of findings of a kind that are printed; --json has all."""


def add_parser(subparsers: Any) -> None:
    """Add `dataset` to the subcommands of `mdan-zoo`."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "dataset",
        help="check your copy of a dataset",
        description=(
            "Count the images of a dataset by class and split, decode every image and search for "
            "duplicates. Exit status 1 if the dataset is not fit for training: unreadable files; "
            "identical images with different labels, in different splits or with enough "
            'copies to be "photo removed" placeholders; a class without images. '
            "Exit status 2 if the folder does not have the layout of the dataset."
        ),
    )
    parser.add_argument("name", metavar="NAME", help="dataset: one of " + ", ".join(DATASETS))
    parser.add_argument(
        "--data", "--root", type=Path, required=True, metavar="DIR", help="folder of the dataset"
    )
    add_hierarchy_option(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def add_hierarchy_option(parser: argparse.ArgumentParser) -> None:
    """Add `--hierarchy`, whose value `load_hierarchy` reads."""
    parser.add_argument(
        "--hierarchy",
        metavar="FILE|NAME",
        help="emotion hierarchy: a .toml or .json file, or a built-in name (default: that of the "
        "dataset; required for folder and table)",
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


def run(arguments: argparse.Namespace) -> int:
    """Check a dataset and print what was found; return the exit status."""
    from mdan_zoo.datasets.check import check_dataset

    report = check_dataset(arguments.name, arguments.data, load_hierarchy(arguments.hierarchy))
    if arguments.json:
        print(json.dumps(report.to_dict(), indent=2))
    else:
        print("\n".join(_lines(report)))
    return 0 if report.ok else 1


def _lines(report: DatasetReport) -> list[str]:
    reader = get_dataset(report.dataset)
    lines = [
        f"{report.dataset} in {report.root}: {report.images} images, hierarchy {report.hierarchy}",
        f"source: {reader.source}",
        f"terms: {reader.terms}",
        f"usual split: {reader.splits}",
        *_table(report),
        *(f"note: {note}" for note in report.notes),
        *_section("classes without a training image", report.empty_classes),
        *_section("files that cannot be read", report.unreadable),
    ]
    duplicates = (
        ("identical files with different labels", report.contradictions),
        ("identical files in different splits", report.across_splits),
        ("images with several labels, as in the release", report.several_labels),
        ("files with enough copies to be placeholders", report.placeholders),
        ("identical files", report.equal_files),
    )
    for title, found in duplicates:
        lines += _section(title, [", ".join(files.images[:3]) for files in found])
    return [*lines, "nothing that would spoil a training" if report.ok else "NOT fit for training"]


def _table(report: DatasetReport) -> list[str]:
    """Return a line for every leaf with its number of images in every split."""
    splits = list(dict.fromkeys(count.split for count in report.counts))
    numbers = {(count.leaf, count.split): count.images for count in report.counts}
    leaves = list(dict.fromkeys(count.leaf for count in report.counts))
    width = max(len(leaf) for leaf in leaves)
    header = " " * width + "".join(f"{split or 'images':>10}" for split in splits)
    rows = [
        leaf.ljust(width) + "".join(f"{numbers[leaf, split]:>10}" for split in splits)
        for leaf in leaves
    ]
    return [header, *rows]


def _section(title: str, items: Sequence[str]) -> list[str]:
    if not items:
        return []
    more = len(items) - _SHOWN
    rest = [f"  and {more} more; --json shows all"] if more > 0 else []
    return [f"{title}: {len(items)}", *(f"  {item}" for item in items[:_SHOWN]), *rest]
