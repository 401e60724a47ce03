"""The command `mdan-zoo train`. Free of torch until it runs."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import signal
import sys
from pathlib import Path
from typing import Any

from mdan_zoo.errors import InputError, MdanZooError, TrainingStoppedError
from mdan_zoo.hierarchy import Hierarchy
from mdan_zoo.training.recipe import Recipe, list_recipes, load_recipe
from mdan_zoo.zoo import MODELS

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
    add("--hierarchy", type=Path, metavar="FILE", help="an own emotion tree, as TOML or JSON")
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
    add("--workers", type=int, metavar="N", help="processes that read pictures, for each GPU")
    add("--cache", type=Path, metavar="DIR", help="keep resized pictures here")
    add("--tensorboard", action="store_true", help="log for TensorBoard too")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Train; return the exit status."""
    if any(importlib.util.find_spec(name) is None for name in ("accelerate", "matplotlib")):
        raise MdanZooError("training needs further packages: pip install 'mdan-zoo[train]'")
    if options.cache is not None and not options.cache.is_dir():
        raise InputError(f"--cache must be a folder that exists, not {options.cache}")
    recipe = _recipe(options)
    hierarchy = None if options.hierarchy is None else Hierarchy.load(options.hierarchy)

    from mdan_zoo.training.machine import Machine
    from mdan_zoo.training.run import Plan, is_main_process, train

    machine = Machine(
        precision=options.precision,
        accumulate=options.accumulate,
        channels_last=options.channels_last,
        compile=options.compile,
        workers=options.workers,
        cache=options.cache,
        tensorboard=options.tensorboard,
    )
    plan = Plan(
        recipe=recipe,
        data=options.data,
        output=options.output,
        dataset=options.dataset or "",
        hierarchy=hierarchy,
        split=options.split,
        backbone_weights=options.backbone_weights,
        machine=machine,
    )
    try:
        path = train(plan)
    except TrainingStoppedError as stopped:
        print(f"mdan-zoo: {stopped}", file=sys.stderr)
        return 128 + signal.SIGTERM
    if is_main_process():
        print(path)
        print(f"try it: mdan-zoo predict --checkpoint {path} PICTURE", file=sys.stderr)
    return 0


def _recipe(options: argparse.Namespace) -> Recipe:
    """Return the model's recipe, or that of the model which a fine-tuning starts from."""
    if options.name is not None and options.hierarchy is not None:
        raise InputError(
            f"{options.name} has its own emotion tree; leave out its name to fine-tune on "
            f"{options.hierarchy}, and give the model to start from with --init"
        )
    if options.name is not None:
        recipe = load_recipe(options.name, options.changes)
        return dataclasses.replace(recipe, init=options.init) if options.init else recipe
    if options.init is None or options.hierarchy is None:
        raise InputError(
            "give the name of a model to train, or --init and --hierarchy to fine-tune on an own "
            "emotion tree"
        )
    return fine_tuning_recipe(options.init, options.changes, options.recipe or "")


def fine_tuning_recipe(init: str, changes: list[str], name: str = "") -> Recipe:
    """Return a model's recipe adapted to fine-tuning on an own tree.

    Args:
        init: Name of a model with released weights, or a weight file, to start from.
        changes: Such as "epochs=3".
        name: The model whose recipe it is; by default `init`, or the first registered one of the
            same network where `init` is a file of a model that was itself fine-tuned.
    """
    if not name:
        name = _registered_like(init) if Path(init).is_file() else init
    # The rows of classes that both trees have are kept, so the classifiers do not start anew.
    start = ["split=80/20", "base_rate_start=false", "stored_as=float32", *changes]
    return dataclasses.replace(load_recipe(name, start), init=init)


def _registered_like(path: str) -> str:
    from mdan_zoo.checkpoint import read_identity

    config, _ = read_identity(path)
    if config.name in MODELS:
        return config.name
    for name, known in MODELS.items():
        if (known.architecture, known.backbone, known.options) == (
            config.architecture,
            config.backbone,
            config.options,
        ):
            return name
    raise InputError(
        f"{path} is of no registered network; say whose recipe to train it by, such as "
        "--recipe mdan_oasis4"
    )
