"""Training: recipes as data, and a training loop for one or more GPUs with exact resume.

    from mdan_zoo.training import TrainingConfig, fine_tuning_recipe, train

    recipe = fine_tuning_recipe("mdan_fi8_lite0")
    checkpoint = train(TrainingConfig(recipe, data=folder, output=output, hierarchy=hierarchy))

Public names are imported on first use, which keeps the command line fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mdan_zoo._util.lazy import lazy_exports

_MODULES = {
    "Recipe": "recipe",
    "load_recipe": "recipe",
    "fine_tuning_recipe": "recipe",
    "TrainingConfig": "config",
    "Run": "run",
    "prepare": "run",
    "train": "pipeline",
}

__getattr__, __dir__, __all__ = lazy_exports(__name__, _MODULES)

if TYPE_CHECKING:
    from mdan_zoo.training.config import TrainingConfig as TrainingConfig
    from mdan_zoo.training.pipeline import train as train
    from mdan_zoo.training.recipe import Recipe as Recipe
    from mdan_zoo.training.recipe import fine_tuning_recipe as fine_tuning_recipe
    from mdan_zoo.training.recipe import load_recipe as load_recipe
    from mdan_zoo.training.run import Run as Run
    from mdan_zoo.training.run import prepare as prepare
