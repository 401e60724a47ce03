"""The variants whose cross-validation shows why mdan_oasis4's recipe is as it is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from oasis_folder import write_oasis

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from ablate_oasis import MODEL, VARIANTS

from mdan_zoo.datasets.readers.oasis import read_oasis
from mdan_zoo.training.config import TrainingConfig
from mdan_zoo.training.feature_cache import PyramidCache
from mdan_zoo.training.losses import sample_targets
from mdan_zoo.training.recipe import load_recipe
from mdan_zoo.training.run import Run
from mdan_zoo.training.trainer import Trainer
from mdan_zoo.zoo.factory import build_network, get_config, get_model_hierarchy

BY_NAME = {variant.name: variant for variant in VARIANTS}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    config, tree = get_config(MODEL), get_model_hierarchy(MODEL)
    recipe = load_recipe(MODEL)
    samples = read_oasis(
        write_oasis(tmp_path_factory.mktemp("oasis")), tree, label_std_scale=recipe.label_std_scale
    )
    return Run(
        config=TrainingConfig(recipe, Path("data"), Path("output")),
        hierarchy=tree,
        samples=samples,
        sources=(),
        model=config,
        targets=sample_targets(samples, tree, recipe),
        data=PyramidCache(tuple(torch.rand(12, len(samples), 3, 4, 4) for _ in range(4))),
        backbone_state=build_network(config).backbone.state_dict(),
    )


def differences(prepared, variant):
    """Name what differs from the recipe as it is."""
    data = variant.data(prepared)
    pairs = {
        "recipe": (variant.recipe(0), load_recipe(MODEL)),
        "options": (data.model.options, prepared.model.options),
        "views": (data.data.views, 12),
    }
    found = {name for name, (new, old) in pairs.items() if new != old}
    same = torch.equal(data.targets[-1], prepared.targets[-1])
    return found if same else found | {"leaves"}


def test_the_first_is_the_recipe_itself(prepared):
    assert differences(prepared, BY_NAME["the recipe"]) == set()


@pytest.mark.parametrize("variant", VARIANTS[1:], ids=lambda variant: variant.name)
def test_every_other_undoes_one_choice(variant, prepared):
    expected = {"recipe"} if variant.changes else {"options"} if variant.options else {"views"}
    if variant.name == "hard labels":
        expected = {"recipe", "leaves"}
    assert differences(prepared, variant) == expected
    assert Trainer(variant.data(prepared), [0, 1], variant.recipe(0))  # such a network exists


def test_hard_labels_are_classes(prepared):
    leaves = BY_NAME["hard labels"].data(prepared).targets[-1]
    assert set(leaves.unique().tolist()) == {0.0, 1.0}
    assert leaves.sum(dim=1).tolist() == [1.0] * len(leaves)
