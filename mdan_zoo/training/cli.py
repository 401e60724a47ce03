"""The command `mdan-zoo train`. Free of torch until it runs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from mdan_zoo.training.recipe import list_recipes, load_recipe


def add_parser(subparsers: Any) -> None:
    """Add `train` to the subcommands of `mdan-zoo`."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "train",
        help="train a model on a data set that you have",
        description="Train a model by its recipe. An interrupted training goes on where it was.",
    )
    parser.add_argument("name", metavar="NAME", help="one of " + ", ".join(list_recipes()))
    parser.add_argument("--data", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--output", type=Path, required=True, help="folder for weights and log")
    parser.add_argument(
        "--backbone-weights",
        type=Path,
        metavar="FILE",
        help="safetensors file that the backbone starts from (default: timm's own weights)",
    )
    parser.add_argument(
        "--set",
        dest="changes",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="change a field of the recipe, such as epochs=3; may be given several times",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Train; return the exit status."""
    recipe = load_recipe(arguments.name, arguments.changes)
    from mdan_zoo.training.run import train

    path = train(
        recipe, arguments.data, arguments.output, backbone_weights=arguments.backbone_weights
    )
    print(path)
    print(f"try it: mdan-zoo predict --checkpoint {path} PICTURE", file=sys.stderr)
    return 0
