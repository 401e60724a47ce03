"""The command `mdan-zoo train`. Free of torch until it runs."""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import sys
from pathlib import Path
from typing import Any

from mdan_zoo._util.allocator import keep_freed_memory
from mdan_zoo.cli.dataset import load_hierarchy
from mdan_zoo.errors import InputError, MdanZooError, TrainingStoppedError
from mdan_zoo.training.recipe import Recipe, fine_tuning_recipe, list_recipes, load_recipe
from mdan_zoo.weights.manifest import is_offline

_DESCRIPTION = """\
Train a model by its recipe, or fine-tune one on an own emotion tree:

  mdan-zoo train mdan_fi8 --data FI --output run
  mdan-zoo train --init mdan_oasis4 --hierarchy tree.toml --data FOLDER --output my_model

An interrupted training goes on where it was when the same command is given again. For several GPUs
put `accelerate launch -m mdan_zoo` in the place of `mdan-zoo`.
"""


def add_parser(subparsers: Any) -> None:
    """Add `train` to the subcommands of `mdan-zoo`."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "train",
        help="train a model on a data set that you have",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = ", ".join(list_recipes())
    parser.add_argument("name", metavar="NAME", nargs="?", help=f"one of {names}")
    add = parser.add_argument_group("what and where").add_argument
    add("--data", type=Path, required=True, help="folder of the data set")
    add("--output", type=Path, required=True, help="folder for weights, log and state")
    add("--init", metavar="NAME|FILE", help="start from this model's weights")
    add(
        "--hierarchy",
        metavar="FILE|NAME",
        help="fine-tune on this emotion tree, .toml or .json, or the name of a built-in one",
    )
    add("--recipe", metavar="NAME", help="whose recipe to fine-tune by (default: that of --init)")
    add("--dataset", metavar="READER", help="how the folder is read (default: the model's own)")
    add("--split", type=Path, metavar="FILE", help="a split file (default: as the recipe says)")
    add(
        "--backbone-weights",
        type=Path,
        metavar="FILE",
        help="safetensors file that the backbone starts from (default: timm's own weights)",
    )
    add(
        "--set",
        dest="changes",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="change a field of the recipe, such as epochs=3; may be given several times",
    )
    add = parser.add_argument_group("how the machine runs it").add_argument
    add("--precision", choices=("no", "bf16", "fp16"), default="no", help="default: no autocast")
    add("--accumulate", type=int, default=1, metavar="N", help="compute each step in N parts")
    add("--channels-last", action="store_true", help="the layout that GPUs prefer")
    add("--compile", action="store_true", help="use torch.compile")
    add("--workers", type=int, metavar="N", help="processes that read images, for each GPU")
    add("--cache", type=Path, metavar="DIR", help="keep resized images here")
    add("--tensorboard", action="store_true", help="log for TensorBoard too")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Train; return the exit status."""
    needed = ("accelerate", "matplotlib", *(["tensorboard"] if options.tensorboard else []))
    if any(importlib.util.find_spec(name) is None for name in needed):
        raise MdanZooError("training needs further packages: pip install 'mdan-zoo[train]'")
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
    """Return the model's recipe, or that of the model which a fine-tuning starts from."""
    if options.name is not None and options.hierarchy is not None:
        raise InputError(
            f"{options.name} has its own emotion tree; leave out its name to fine-tune on "
            f"{options.hierarchy}, and give the model to start from with --init"
        )
    if options.name is not None and options.recipe is not None:
        raise InputError(
            f"{options.name} has a recipe of its own; --recipe {options.recipe} is for fine-tuning "
            "on an own emotion tree"
        )
    if options.name is not None:
        start = [f"init={options.init}"] if options.init else []
        return load_recipe(options.name, [*options.changes, *start])
    if options.init is None or options.hierarchy is None:
        raise InputError(
            "give the name of a model to train, or --init and --hierarchy to fine-tune on an own "
            "emotion tree"
        )
    return fine_tuning_recipe(options.init, options.changes, recipe=options.recipe or "")
