"""The command `mdan-zoo compare`; torch is imported only when it runs."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

from mdan_zoo.cli.options import (
    EXCLUDE,
    FILE,
    FOLDER,
    add_command,
    add_machine_options,
    add_model_options,
    parse_options,
)
from mdan_zoo.cli.train import prepare_training, stop_message
from mdan_zoo.comparison.systems import (
    PRESETS,
    merge_systems,
    parse_systems,
    preset,
    shared_recipe,
)
from mdan_zoo.errors import InputError, TrainingStoppedError

_EXAMPLES = """
Every system is trained with one recipe, but its own losses, and tested on the same split:

  mdan-zoo compare FI --data FI --models flat_fi8,mdan_fi8,wscnet_fi8 --seeds 3 --output compared
  mdan-zoo compare FI --data FI --preset table2 --backbone resnet50 --size 224 --output table2

Run the same command again to resume an interrupted comparison: complete runs are kept. The results
are comparison.md, comparison.csv, comparison.json and comparison.png in the output folder. To train
on several GPUs, replace `mdan-zoo` with `accelerate launch -m mdan_zoo`.
"""


def add_parser(subparsers: Any) -> None:
    """Add `compare` to the subcommands of `mdan-zoo`."""
    summary = "train systems with one recipe and compare them on one split"
    parser = add_command(subparsers, "compare", run, summary, _EXAMPLES)
    parser.add_argument("dataset", metavar="DATASET", help="dataset, such as FI")
    add = parser.add_argument_group("data and systems").add_argument
    add("--data", required=True, **FOLDER, help="folder of the dataset")
    add("--output", required=True, **FOLDER, help="folder for the results and a folder per run")
    add(
        "--models",
        default="",
        metavar="NAME,...",
        help="models to compare, each optionally with other options, a backbone or the levels of "
        "curriculum training: NAME:alpha=0.5, NAME:backbone=resnet50, NAME:stages=0,1",
    )
    add("--preset", choices=PRESETS, help="also the systems of a table or figure of the paper")
    add("--seeds", type=int, default=1, metavar="N", help="runs per system (default: %(default)s)")
    add("--exclude", **EXCLUDE)
    add("--split", **FILE, help="split file (default: split as the recipe says)")
    add_model_options(add)
    add_machine_options(parser.add_argument_group("speed and memory").add_argument)


def run(options: argparse.Namespace) -> int:
    """Train and compare; return the exit status."""
    systems = merge_systems(
        parse_systems(options.models, options.dataset) if options.models else [],
        preset(options.preset, options.dataset) if options.preset else [],
    )
    if not systems:
        raise InputError("give the systems to compare with --models or --preset")
    recipe = shared_recipe(systems, options.changes)
    prepare_training(options)

    from mdan_zoo.comparison.report import write_comparison
    from mdan_zoo.comparison.runs import Comparison, train_all
    from mdan_zoo.training.config import TrainingConfig
    from mdan_zoo.training.distributed import disconnect, in_main_process, is_main_process

    fields = [field.name for field in dataclasses.fields(TrainingConfig)]
    given = {name: value for name, value in vars(options).items() if name in fields}
    given |= {"recipe": recipe, "options": parse_options(options.options)}
    comparison = Comparison(systems, TrainingConfig(**given), options.changes, options.seeds)
    try:
        source, failed = train_all(comparison)
    except TrainingStoppedError as stopped:
        return stop_message(stopped)
    path: Path = in_main_process(lambda: write_comparison(comparison, source))
    if is_main_process():
        print(path)
        for failure in failed:
            print(f"mdan-zoo: not in the comparison: {failure}", file=sys.stderr)
    disconnect()
    return 1 if failed else 0
