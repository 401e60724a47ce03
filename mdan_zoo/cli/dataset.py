"""The command `mdan-zoo dataset`; Pillow is imported only when it runs, torch never."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mdan_zoo.cli.options import add_dataset_options, load_hierarchy
from mdan_zoo.datasets.registry import get_dataset

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
            "Exit status 2 if the folder is not a copy of this dataset."
        ),
    )
    add_dataset_options(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


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
    duplicates = {
        "identical files with different labels": report.contradictions,
        "identical files in different splits": report.across_splits,
        "images with several labels, as in the release": report.several_labels,
        "files with enough copies to be placeholders": report.placeholders,
        "identical files": report.equal_files,
    }
    for title, found in duplicates.items():
        lines += _section(title, [", ".join(files.images[:3]) for files in found])
    return [*lines, "no problems: fit for training" if report.ok else "NOT fit for training"]


def _table(report: DatasetReport) -> list[str]:
    """Return a line for every leaf with its number of images in every split."""
    numbers = {(count.leaf, count.split): count.images for count in report.counts}
    leaves, splits = (list(dict.fromkeys(names)) for names in zip(*numbers, strict=True))
    width = max(map(len, leaves))
    header = " " * width + "".join(f"{split or 'images':>10}" for split in splits)
    rows = [
        leaf.ljust(width) + "".join(f"{numbers[leaf, split]:>10}" for split in splits)
        for leaf in leaves
    ]
    return [header, *rows]


def _section(title: str, items: Sequence[str]) -> list[str]:
    if not items:
        return []
    lines = [f"{title}: {len(items)}", *(f"  {item}" for item in items[:_SHOWN])]
    more = len(items) - _SHOWN
    return [*lines, f"  and {more} more; --json shows all"] if more > 0 else lines
