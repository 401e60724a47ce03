"""The command `mdan-zoo evaluate`. Free of torch until it runs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mdan_zoo._util.allocator import keep_freed_memory
from mdan_zoo.errors import InputError

if TYPE_CHECKING:
    from mdan_zoo.datasets.splits import Split
    from mdan_zoo.inference.predictor import Predictor


_PARTS = ("train", "val", "test")


def add_parser(subparsers: Any) -> None:
    """Add `evaluate` to the subcommands of `mdan-zoo`."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "evaluate",
        help="measure a model on a data set that you have",
        description=(
            "Measure a model on labelled images: accuracy, calibration and more on every level "
            "of its emotion tree, with 95 % intervals. Prints a report; --output also keeps the "
            "numbers, the probabilities and figures."
        ),
    )
    add = parser.add_argument
    add("model", metavar="NAME|FILE", help="a model with released weights, or a weight file")
    add("--data", type=Path, required=True, metavar="DIR", help="folder of the data set")
    add("--dataset", metavar="NAME", help="which one (default: the one that the model learns from)")
    add(
        "--split",
        metavar="FILE|PART",
        help="a split that `mdan-zoo split` or a training wrote; train, val or test is a part, as "
        "with --part",
    )
    add(
        "--part",
        metavar="NAME",
        help="part of the split: of the one that is given, that lies beside the weights, or that "
        "the data set comes with (default: test; all folds of a split into folds; all images "
        "where there is no split)",
    )
    add("--folds", type=int, metavar="K", help="divide the images into K folds, groups together")
    add("--output", type=Path, metavar="DIR", help="folder for the report and its figures")
    add("--device", help="such as cpu or cuda:0 (default: CUDA where there is any)")
    add("--dtype", default="float32", help="float32 (default), bfloat16 or float16")
    add("--batch-size", type=int, metavar="N", help="images at once (2 on a CPU, else 32)")
    add("--bootstrap", type=int, default=1000, metavar="N", help="resamples (default: 1000)")
    add("--seed", type=int, default=0, help="of the resamples and the folds (default: 0)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Evaluate; return the exit status."""
    from mdan_zoo.evaluation.figures import require_matplotlib
    from mdan_zoo.evaluation.report import make_folder, to_markdown, write_report
    from mdan_zoo.evaluation.results import evaluate
    from mdan_zoo.evaluation.source import find_samples

    if arguments.output is not None:  # what is missing is better told before the work than after
        require_matplotlib()
        make_folder(arguments.output)
    keep_freed_memory()
    predictor = _load(arguments)
    dataset = arguments.dataset or predictor.config.dataset
    split, part = _find_split(arguments, dataset, predictor.weights)
    samples, source = find_samples(
        dataset,
        arguments.data,
        predictor.hierarchy,
        split=split,
        part=part,
        folds=arguments.folds,
        seed=arguments.seed,
    )
    evaluation = evaluate(
        predictor,
        samples,
        source=source,
        resamples=arguments.bootstrap,
        seed=arguments.seed,
        batch_size=arguments.batch_size,
    )
    print(to_markdown(evaluation), end="")
    if arguments.output is not None:
        print(f"written: {write_report(evaluation, arguments.output)}", file=sys.stderr)
    return 0


def _find_split(
    arguments: argparse.Namespace, dataset: str, weights: Path
) -> tuple[Split | None, str | None]:
    """Return the split, and the part of it, if any is asked for."""
    from mdan_zoo.datasets.splits import SPLIT_FILE, Split

    given, part = arguments.split, arguments.part
    if given in _PARTS and not Path(given).exists():
        if part not in (None, given):
            raise InputError(f"--split {given} and --part {part} are two parts; give one of them")
        given, part = None, given
    if given is not None:
        return Split.load(Path(given)), part
    beside = weights.parent / SPLIT_FILE
    if part is not None and beside.is_file():
        trained = Split.load(beside)
        if trained.dataset == dataset and part in dict(trained.parts):
            return trained, part
    return None, part


def _load(arguments: argparse.Namespace) -> Predictor:
    from mdan_zoo.inference.predictor import Predictor
    from mdan_zoo.zoo.factory import MODELS

    path = Path(arguments.model)
    is_file = arguments.model not in MODELS and (path.suffix == ".safetensors" or path.is_file())
    return Predictor(
        None if is_file else arguments.model,
        checkpoint=path if is_file else None,
        device=arguments.device,
        dtype=arguments.dtype,
    )
