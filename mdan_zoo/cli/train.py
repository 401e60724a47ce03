"""The command `mdan-zoo train`; torch is imported only when it runs."""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mdan_zoo._util.allocator import keep_freed_memory
from mdan_zoo.cli.dataset import load_hierarchy
from mdan_zoo.errors import InputError, MdanZooError, TrainingStoppedError
from mdan_zoo.training.recipe import Recipe, fine_tuning_recipe, list_recipes, load_recipe
from mdan_zoo.weights.manifest import is_offline

_DESCRIPTION = """\
Train a model with its recipe, or fine-tune a model on a custom emotion hierarchy:

  mdan-zoo train mdan_fi8 --data FI --output run
  mdan-zoo train --init mdan_oasis4 --hierarchy tree.toml --data FOLDER --output my_model

Run the same command again to resume an interrupted training. To train on several GPUs, replace
`mdan-zoo` by `accelerate launch -m mdan_zoo`.
"""


def add_parser(subparsers: Any) -> None:
    """Add `train` to the subcommands of `mdan-zoo`."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "train",
        help="train or fine-tune a model on your copy of a dataset",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = ", ".join(list_recipes())
    parser.add_argument("name", metavar="NAME", nargs="?", help=f"model to train: one of {names}")
    add = parser.add_argument_group("data and model").add_argument
    add("--data", type=Path, required=True, help="folder of the dataset")
    add("--output", type=Path, required=True, help="folder for checkpoint, log, report and state")
    add("--init", metavar="NAME|FILE", help="start from the weights of this model or checkpoint")
    add(
        "--hierarchy",
        metavar="FILE|NAME",
        help="fine-tune on this emotion hierarchy: a .toml or .json file, or a built-in name",
    )
    add("--recipe", metavar="NAME", help="model whose recipe is used (default: --init)")
    add("--dataset", metavar="READER", help="reader of the dataset (default: the model's)")
    add("--split", type=Path, metavar="FILE", help="split file (default: split as the recipe says)")
    add(
        "--backbone-weights",
        type=Path,
        metavar="FILE",
        help="safetensors file with initial backbone weights (default: timm's pretrained weights)",
    )
    add(
        "--set",
        dest="changes",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="change a field of the recipe, such as epochs=3; can be repeated",
    )
    _add_machine_options(parser.add_argument_group("speed and memory").add_argument)
    parser.set_defaults(run=run)


def _add_machine_options(add: Callable[..., Any]) -> None:
    add(
        "--precision",
        choices=("no", "bf16", "fp16"),
        default="no",
        help="mixed precision (default: no, which is float32)",
    )
    add(
        "--accumulate",
        type=int,
        default=1,
        metavar="N",
        help="accumulate gradients over N micro-batches per step, to save memory",
    )
    add(
        "--channels-last",
        action="store_true",
        help="use the channels-last memory format, which is faster on GPUs",
    )
    add("--compile", action="store_true", help="compile the network with torch.compile")
    add(
        "--workers",
        type=int,
        metavar="N",
        help="data-loading processes per GPU (default: one per core, at most 8)",
    )
    add(
        "--cache",
        type=Path,
        metavar="DIR",
        help="existing folder for resized copies of the images, which load faster",
    )
    add("--tensorboard", action="store_true", help="also write the log for TensorBoard")


def run(options: argparse.Namespace) -> int:
    """Train; return the exit status."""
    needed = ("accelerate", "matplotlib", *(["tensorboard"] if options.tensorboard else []))
    if any(importlib.util.find_spec(name) is None for name in needed):
        raise MdanZooError("training needs more packages: pip install 'mdan-zoo[train]'")
    if options.cache is not None and not options.cache.is_dir():
        raise InputError(f"--cache must be a folder that exists, not {options.cache}")
    if is_offline():  # timm's client of the Hub knows one of the two variables
        os.environ["HF_HUB_OFFLINE"] = "1"
    recipe = _recipe(options)
    hierarchy = load_hierarchy(options.hierarchy)

    from mdan_zoo.training.config import TrainingConfig
    from mdan_zoo.training.distributed import disconnect, is_main_process
    from mdan_zoo.training.pipeline import train

    config = TrainingConfig(
        recipe=recipe,
        data=options.data,
        output=options.output,
        dataset=options.dataset or "",
        hierarchy=hierarchy,
        split=options.split,
        backbone_weights=options.backbone_weights,
        precision=options.precision,
        accumulate=options.accumulate,
        channels_last=options.channels_last,
        compile=options.compile,
        workers=options.workers,
        cache=options.cache,
        tensorboard=options.tensorboard,
    )
    keep_freed_memory()
    try:
        path = train(config)
    except TrainingStoppedError as stopped:
        print(f"mdan-zoo: {stopped}", file=sys.stderr)
        disconnect()
        return 128 + signal.SIGTERM
    if is_main_process():
        print(path)
        print(f"try it: mdan-zoo predict --checkpoint {path} IMAGE", file=sys.stderr)
    disconnect()
    return 0


def _recipe(options: argparse.Namespace) -> Recipe:
    """Return the recipe of the model, or of the model that fine-tuning starts from."""
    if options.name is not None and options.hierarchy is not None:
        raise InputError(
            f"{options.name} has its own hierarchy; leave out its name to fine-tune on "
            f"{options.hierarchy}, and give the model to start from with --init"
        )
    if options.name is not None and options.recipe is not None:
        raise InputError(
            f"{options.name} has a recipe of its own; --recipe {options.recipe} is for fine-tuning "
            "on a custom hierarchy"
        )
    if options.name is not None:
        start = [f"init={options.init}"] if options.init else []
        return load_recipe(options.name, [*options.changes, *start])
    if options.init is None or options.hierarchy is None:
        raise InputError(
            "give the name of a model to train, or --init and --hierarchy to fine-tune on a custom "
            "hierarchy"
        )
    return fine_tuning_recipe(options.init, options.changes, recipe=options.recipe or "")
