"""The command `mdan-zoo evaluate`; torch is imported only when it runs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mdan_zoo._util.allocator import keep_freed_memory
from mdan_zoo.cli.options import EXCLUDE, FILE, FOLDER, add_command, add_compute_options
from mdan_zoo.errors import InputError
from mdan_zoo.training.recipe import is_weight_file
from mdan_zoo.zoo.configs import REGISTERED

if TYPE_CHECKING:
    from mdan_zoo.datasets.splits import Split


def add_parser(subparsers: Any) -> None:
    """Add `evaluate` to the subcommands of `mdan-zoo`."""
    add = add_command(
        subparsers,
        "evaluate",
        run,
        "evaluate a model on your copy of a dataset",
        "Computes accuracy, calibration and other metrics on every level of its hierarchy, with "
        "95% bootstrap confidence intervals. Prints a report; --output also saves the metrics, the "
        "probabilities and figures.",
    ).add_argument
    add("model", metavar="NAME|FILE", help="model with released weights, or checkpoint")
    add("--data", required=True, **FOLDER, help="folder of the dataset")
    add(
        "--dataset",
        metavar="NAME",
        help="dataset (default: the one the model was trained on; required if there are several)",
    )
    add("--exclude", **EXCLUDE)
    add(
        "--split",
        metavar="FILE|PART",
        help="split file written by `mdan-zoo split` or a training run; `--split test` (or "
        "train, val) means `--part test`",
    )
    add(
        "--part",
        metavar="NAME",
        help="part to evaluate on, from the --split file if given, otherwise from split.tsv in "
        "the folder of the checkpoint, otherwise from the official split (default: test; with a "
        "--split file of folds, all folds; without --split, test of the official split, or all "
        "images if there is none)",
    )
    add(
        "--level",
        metavar="NAME",
        help="level of the model's hierarchy at which a dataset with other classes is compared, "
        "such as polarity (default: the finest that both have)",
    )
    add(
        "--label-map",
        **FILE,
        help="for a dataset with other class names: .toml file with lines such as happiness = "
        '"positive", .json file, or .csv file with the columns label,class; an empty class leaves '
        "out the images",
    )
    add("--folds", type=int, metavar="K", help="split into K folds, keeping groups together")
    add("--output", **FOLDER, help="folder for report, metrics and figures")
    add_compute_options(add)
    add("--bootstrap", type=int, default=1000, metavar="N", help="resamples (default: %(default)s)")
    add("--seed", type=int, default=0, help="seed of resamples and folds (default: %(default)s)")


def run(options: argparse.Namespace) -> int:
    """Evaluate; return the exit status."""
    from mdan_zoo.evaluation.figures import require_matplotlib
    from mdan_zoo.evaluation.levels import load_label_map
    from mdan_zoo.evaluation.report import make_folder, to_markdown, write_report
    from mdan_zoo.evaluation.results import evaluate
    from mdan_zoo.evaluation.source import find_samples
    from mdan_zoo.inference.predictor import Predictor

    if options.output is not None:  # report a missing package before the evaluation
        require_matplotlib()
        make_folder(options.output)
    keep_freed_memory()
    is_file = options.model not in REGISTERED and is_weight_file(options.model)
    predictor = Predictor(
        None if is_file else options.model,
        checkpoint=options.model if is_file else None,
        device=options.device,
        dtype=options.dtype,
        views=options.views,
    )
    dataset = options.dataset or predictor.config.dataset
    if "+" in dataset:
        several = " or ".join(f"--dataset {name}" for name in dataset.split("+"))
        raise InputError(f"{predictor.name} was trained on several datasets; give {several}")
    split, part = _find_split(options, dataset, predictor.weights)
    samples, source = find_samples(
        dataset,
        options.data,
        predictor.hierarchy,
        split=split,
        part=part,
        folds=options.folds,
        seed=options.seed,
        level=options.level,
        label_map=load_label_map(options.label_map) if options.label_map else None,
        exclude=options.exclude,
    )
    evaluation = evaluate(
        predictor,
        samples,
        source=source,
        resamples=options.bootstrap,
        seed=options.seed,
        batch_size=options.batch_size,
    )
    print(to_markdown(evaluation), end="")
    if options.output is not None:
        print(f"written: {write_report(evaluation, options.output)}", file=sys.stderr)
    return 0


def _find_split(
    options: argparse.Namespace, dataset: str, weights: Path
) -> tuple[Split | None, str | None]:
    """Return the split, and the part of it, if any is asked for."""
    from mdan_zoo.datasets.splits import SPLIT_FILE, Split

    given, part = options.split, options.part
    if given in ("train", "val", "test") and not Path(given).exists():
        if part not in (None, given):
            raise InputError(f"--split {given} and --part {part} are two parts; give one of them")
        given, part = None, given
    if given is not None:
        return Split.load(Path(given)), part
    beside = weights.parent / f"split_{dataset}.tsv"  # of a training on several datasets
    if not beside.is_file():
        beside = weights.parent / SPLIT_FILE
    if part is not None and beside.is_file():
        trained = Split.load(beside)
        if trained.dataset == dataset and part in dict(trained.parts):
            return trained, part
    return None, part
