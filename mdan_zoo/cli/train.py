"""The command `mdan-zoo train`; torch is imported only when it runs."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mdan_zoo._util.allocator import keep_freed_memory
from mdan_zoo.cli.dataset import load_hierarchy
from mdan_zoo.cli.options import (
    FOLDER,
    add_command,
    add_machine_options,
    add_model_options,
    parse_options,
)
from mdan_zoo.datasets.registry import DATASETS
from mdan_zoo.errors import (
    InputError,
    MdanZooError,
    TrainingStoppedError,
    UnknownNameError,
    did_you_mean,
)
from mdan_zoo.models.dimensions import Dimension
from mdan_zoo.training.recipe import (
    Recipe,
    fine_tuning_recipe,
    is_weight_file,
    load_recipe,
)
from mdan_zoo.weights.manifest import is_offline
from mdan_zoo.zoo.factory import list_models

_EXAMPLES = """
Trains with the recipe of a model, or fine-tunes a model on a custom emotion hierarchy:

  mdan-zoo train mdan_fi8 --data FI --output run
  mdan-zoo train --init mdan_fi8_lite0 --hierarchy tree.toml --data FOLDER --output my_model

Run the same command again to resume an interrupted training run. To train on several GPUs, replace
`mdan-zoo` with `accelerate launch -m mdan_zoo`.
"""


def add_parser(subparsers: Any) -> None:
    """Add `train` to the subcommands of `mdan-zoo`."""
    summary = "train or fine-tune a model on your copy of a dataset"
    parser = add_command(subparsers, "train", run, summary, _EXAMPLES)
    listed = "model to train; mdan-zoo list shows the names"
    parser.add_argument("name", metavar="NAME", nargs="?", help=listed)
    add = parser.add_argument_group("data and model").add_argument
    add(
        "--data",
        required=True,
        action="append",
        metavar="[NAME=]DIR",
        help="folder of the dataset; repeat with NAME=DIR to train on several datasets",
    )
    add("--output", required=True, **FOLDER, help="folder for checkpoint, log, report and state")
    add("--init", metavar="NAME|FILE", help="model or checkpoint to start from")
    add(
        "--hierarchy",
        metavar="FILE|NAME",
        help="emotion hierarchy to fine-tune on: a .toml or .json file, or a built-in name",
    )
    recipe = "for fine-tuning: model whose recipe is used (default: the model given with --init)"
    add("--recipe", metavar="NAME", help=recipe)
    reader = "dataset reader (default: that of the model, or folder with --hierarchy)"
    add("--dataset", default="", metavar="NAME", help=reader)
    add(
        "--exclude",
        action="append",
        metavar="[NAME=]FILE",
        help="list of images to leave out, as written by mdan-zoo dataset --write-clean",
    )
    add(
        "--split",
        action="append",
        metavar="[NAME=]FILE",
        help="split file; repeat with NAME=FILE for several datasets (default: split as the recipe "
        "says)",
    )
    add(
        "--teacher-predictions",
        action="append",
        default=[],
        metavar="FILE",
        help="distillation: predictions of a teacher for the images, written by mdan-zoo predict "
        "--format csv, to mix labels and ratings with; repeat to use the mean of several teachers",
    )
    add_model_options(add)
    add(
        "--dimension",
        dest="dimensions",
        action="append",
        default=[],
        metavar="NAME=LOW:HIGH",
        help="also predict this rating of the dataset, with its scale, such as valence=1:7; can be "
        "repeated",
    )
    add_machine_options(parser.add_argument_group("speed and memory").add_argument)


def run(options: argparse.Namespace) -> int:
    """Train; return the exit status."""
    prepare_training(options)
    given = {
        "recipe": _recipe(options),
        "hierarchy": load_hierarchy(options.hierarchy),
        "options": parse_options(options.options),
        "dimensions": tuple(map(Dimension.parse, options.dimensions)),
        "data": _by_dataset("--data", options.data),
        "exclude": options.exclude and _by_dataset("--exclude", options.exclude),
        "split": options.split and _by_dataset("--split", options.split),
    }

    from mdan_zoo.training.config import TrainingConfig
    from mdan_zoo.training.distributed import disconnect, is_main_process
    from mdan_zoo.training.pipeline import train
    from mdan_zoo.training.report import summarise

    fields = [field.name for field in dataclasses.fields(TrainingConfig)]
    values = {name: value for name, value in vars(options).items() if name in fields}
    config = TrainingConfig(**values | given)
    try:
        path = train(config)
    except TrainingStoppedError as stopped:
        return stop_message(stopped)
    if is_main_process():
        print(path)
        print(summarise(path.parent), file=sys.stderr)
        print(f"try it: mdan-zoo predict --checkpoint {path} IMAGE", file=sys.stderr)
    disconnect()
    return 0


def prepare_training(options: argparse.Namespace) -> None:
    """Check that what training needs is there, and set up this process for it."""
    needed = ("accelerate", "matplotlib", *(["tensorboard"] if options.tensorboard else []))
    if any(importlib.util.find_spec(name) is None for name in needed):
        raise MdanZooError("training needs more packages: pip install 'mdan-zoo[train]'")
    if options.cache is not None and not options.cache.is_dir():
        raise InputError(f"--cache must be a folder that exists, not {options.cache}")
    if is_offline():  # timm's client of the Hub knows one of the two variables
        os.environ["HF_HUB_OFFLINE"] = "1"
    keep_freed_memory()


def stop_message(stopped: TrainingStoppedError) -> int:
    """Report training that SIGTERM has stopped; return the exit status."""
    from mdan_zoo.training.distributed import disconnect

    print(f"mdan-zoo: {stopped}", file=sys.stderr)
    disconnect()
    return 128 + signal.SIGTERM


def _by_dataset(option: str, values: Sequence[str]) -> Path | dict[str, Path]:
    """Return the path that an option was given, or the paths by dataset."""
    pairs = [value.partition("=")[::2] for value in values]
    named = [bool(path) and name in DATASETS for name, path in pairs]
    if len(values) == 1 and not named[0]:
        return Path(values[0])
    if not all(named):
        other = values[named.index(False)]
        raise InputError(
            f"{option} given several times must be NAME=PATH with the name of a dataset, not "
            f"{other!r}; {did_you_mean(other.partition('=')[0], DATASETS)}"
        )
    if len({name for name, _ in pairs}) < len(pairs):
        raise InputError(f"{option} names a dataset twice: {' '.join(values)}")
    return {name: Path(path) for name, path in pairs}


def _recipe(options: argparse.Namespace) -> Recipe:
    name, init, hierarchy = options.name, options.init, options.hierarchy
    if init and not is_weight_file(init) and init not in list_models():
        known = did_you_mean(init, list_models())
        raise UnknownNameError(f"--init {init} is neither a model nor a checkpoint; {known}")
    if name is not None:
        if hierarchy is not None:
            raise InputError(
                f"{name} has its own hierarchy; leave out its name to fine-tune on {hierarchy}, "
                "and give the model to start from with --init"
            )
        if options.recipe is not None:
            raise InputError(
                f"{name} has a recipe of its own; --recipe {options.recipe} is for fine-tuning on "
                "a custom hierarchy"
            )
        return load_recipe(name, [*options.changes, *([f"init={init}"] if init else [])])
    if hierarchy is None:
        alone = f"--init {init} alone is not enough: " if init else ""
        raise InputError(
            f"{alone}give the NAME of a model to train, or --init and --hierarchy to fine-tune on "
            "a custom hierarchy"
        )
    if not init:
        raise InputError(
            f"--hierarchy {hierarchy} needs --init, the model or checkpoint to start from, such as "
            "--init mdan_fi8_lite0"
        )
    return fine_tuning_recipe(init, options.changes, recipe=options.recipe or "")
