"""The commands `mdan-zoo dataset` and `split`. They import Pillow when they run, torch never."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mdan_zoo._util.files import check_output
from mdan_zoo.cli.options import EXCLUDE, FILE, FOLDER, add_command
from mdan_zoo.datasets.duplicates import PLACEHOLDER_COPIES
from mdan_zoo.datasets.exclusion import advice, warn_to_exclude, write_exclusions
from mdan_zoo.datasets.file_index import FileIndex
from mdan_zoo.datasets.registry import (
    DATASETS,
    choose_hierarchy,
    folder_of,
    get_dataset,
    read_dataset,
)
from mdan_zoo.errors import InputError
from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.hierarchy.tree import Hierarchy

if TYPE_CHECKING:
    from mdan_zoo.datasets.check import DatasetReport

_SHOWN = 10
"""Number of findings of a kind that are printed; --json has all."""


def add_parser(subparsers: Any) -> None:
    """Add `dataset` and `split` to the subcommands of `mdan-zoo`."""
    parser = add_command(
        subparsers,
        "dataset",
        _check,
        "check your copy of a dataset",
        "Counts the images by class and split, decodes every image and searches for duplicates. "
        "The exit status is 1 if the dataset is not fit for training, that is, if it has "
        "unreadable files, identical images with different labels (such as placeholders) or in "
        "different splits, or a class without training images; with --write-clean, it is 1 only "
        "in the last case. It is 2 if the folder does not have the layout of the dataset.",
    )
    lists = parser.add_mutually_exclusive_group()
    lists.add_argument(
        "--write-clean",
        **FILE,
        help="new file for the list of images to leave out, with reasons; near-duplicates with "
        "different labels are commented out",
    )
    lists.add_argument("--exclude", **EXCLUDE)
    add = parser.add_argument
    _add_options(add)
    add("--json", action="store_true", help="print one JSON object")
    add = add_command(
        subparsers,
        "split",
        _split,
        "split a dataset into training and test images",
        "Writes the image names of every part and the SHA-256 of the split to a file. The same "
        "dataset, method and seed give the same file on every machine.",
    ).add_argument
    _add_options(add)
    add("--exclude", **EXCLUDE)
    methods = "80/20, 80/5/15, 5-fold, grouped-5-fold or official"
    add("--method", required=True, help=f"split method, such as {methods}")
    add("--seed", type=int, default=0, help="seed of the split (default: %(default)s)")
    add(
        "--drop-uncertain",
        **FILE,
        help="move training images whose two largest probabilities are close to the part "
        "uncertain, at random (You et al., 2015): predictions of a model that was trained on this "
        "split, written by mdan-zoo predict --format csv",
    )
    add("--output", required=True, **FILE, help="new file for the split")


def _add_options(add: Callable[..., Any]) -> None:
    add("name", metavar="NAME", help="dataset: one of " + ", ".join(DATASETS))
    add("--data", "--root", required=True, **FOLDER, help="folder of the dataset")
    add(
        "--hierarchy",
        metavar="FILE|NAME",
        help="emotion hierarchy: a .toml or .json file, or a built-in name (default: that of the "
        "dataset; required for folder and table)",
    )


def load_hierarchy(given: str | None) -> Hierarchy | None:
    """Return the hierarchy in a file, or the built-in one of that name; None for None."""
    if given is None:
        return None
    return Hierarchy.load(given) if Path(given).suffix else get_hierarchy(given)


def _split(options: argparse.Namespace) -> int:
    from mdan_zoo.datasets.split_methods import make_split

    name, data, output = options.name, options.data, options.output
    _check_new(output, "a split is never overwritten; give --output")
    hierarchy, files = choose_hierarchy(name, load_hierarchy(options.hierarchy)), FileIndex()
    samples = read_dataset(name, data, hierarchy, exclude=options.exclude)
    split = make_split(name, samples, folder_of(data), options.method, options.seed, files)
    warn_to_exclude(name, data, samples, files, hierarchy, options.hierarchy)
    if options.drop_uncertain is not None:
        from mdan_zoo.training.confidence import without_uncertain

        table, seed = options.drop_uncertain, options.seed
        split = without_uncertain(split, folder_of(data), hierarchy, table, seed)
    split.save(output)
    for part, names in split.parts:
        print(f"{part}: {len(names)} images")
    print(f"sha256: {split.sha256}")
    return 0


def _check_new(path: Path, otherwise: str) -> None:
    check_output(path)
    if path.exists():
        raise InputError(f"{path} already exists, and {otherwise} the name of a new file")


def _check(options: argparse.Namespace) -> int:
    from mdan_zoo.datasets.check import check_dataset

    name, data, output = options.name, options.data, options.write_clean
    if output is not None:
        _check_new(output, "a list is never overwritten; give --write-clean")
    report = check_dataset(name, data, load_hierarchy(options.hierarchy), options.exclude)
    if options.json:
        print(json.dumps(report.to_dict(), indent=2))
    else:
        print("\n".join(_lines(report, options)))
    if output is None:
        return 0 if report.ok else 1
    doubtful = [found for found in report.near_duplicates if len(found.leaves) > 1]
    write_exclusions(output, name, folder_of(data), report.to_exclude, doubtful)
    about = f"{len(report.to_exclude):,} images to leave out with --exclude {output}"
    print(f"written: {output}, {about}", file=sys.stderr)
    return 1 if report.empty_classes else 0


def _lines(report: DatasetReport, options: argparse.Namespace) -> list[str]:
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
    contrary = [found for found in report.near_duplicates if len(found.leaves) > 1]
    duplicates = {
        f"placeholders ({PLACEHOLDER_COPIES} or more identical files in several classes)": (
            report.placeholders
        ),
        "identical files with different labels": report.contradictions,
        "near-duplicates with different labels": contrary,
        "identical files in different splits": report.across_splits,
        "images with several labels, as in the release": report.several_labels,
        "identical files": report.equal_files,
        "near-duplicates": report.near_duplicates,
    }
    for title, found in duplicates.items():
        lines += _section(title, found)
    if report.to_exclude and options.write_clean is None:
        lines.append(advice(options.name, options.data, report.to_exclude, options.hierarchy))
    return [*lines, "no problems: fit for training" if report.ok else "NOT fit for training"]


def _table(report: DatasetReport) -> list[str]:
    numbers = {(count.leaf, count.split): count.images for count in report.counts}
    leaves, splits = (list(dict.fromkeys(names)) for names in zip(*numbers, strict=True))
    width = max(map(len, leaves))
    header = " " * width + "".join(f"{split or 'images':>10}" for split in splits)
    rows = [
        leaf.ljust(width) + "".join(f"{numbers[leaf, split]:>10}" for split in splits)
        for leaf in leaves
    ]
    return [header, *rows]


def _section(title: str, items: Sequence[object]) -> list[str]:
    if not items:
        return []
    lines = [f"{title}: {len(items)}", *(f"  {item}" for item in items[:_SHOWN])]
    more = len(items) - _SHOWN
    return [*lines, f"  and {more} more; --json shows all"] if more > 0 else lines
