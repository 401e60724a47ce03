"""Training: recipes as data, and a loop for one GPU or many that goes on after an interruption.

    from mdan_zoo.training import Plan, fine_tuning_recipe, train

    recipe = fine_tuning_recipe("mdan_oasis4")
    weights = train(Plan(recipe, data=folder, output=run, hierarchy=tree))

The public names are imported when they are first used, so that the command line is quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mdan_zoo._util.lazy import lazy_exports

_MODULES = {
    "Recipe": "recipe",
    "load_recipe": "recipe",
    "fine_tuning_recipe": "recipe",
    "Machine": "machine",
    "Plan": "run",
    "train": "run",
}

__getattr__, __dir__, __all__ = lazy_exports(__name__, _MODULES)

if TYPE_CHECKING:
    from mdan_zoo.training.machine import Machine as Machine
    from mdan_zoo.training.recipe import Recipe as Recipe
    from mdan_zoo.training.recipe import fine_tuning_recipe as fine_tuning_recipe
    from mdan_zoo.training.recipe import load_recipe as load_recipe
    from mdan_zoo.training.run import Plan as Plan
    from mdan_zoo.training.run import train as train
