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
from mdan_zoo.training.feature_cache import PyramidCache
from mdan_zoo.training.recipe import load_recipe
from mdan_zoo.training.run import PreparedData
from mdan_zoo.training.targets import targets
from mdan_zoo.zoo.factory import build_network, get_config, get_model_hierarchy

BY_NAME = {variant.name: variant for variant in VARIANTS}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    config, tree = get_config(MODEL), get_model_hierarchy(MODEL)
    recipe = load_recipe(MODEL)
    samples = read_oasis(
        write_oasis(tmp_path_factory.mktemp("oasis")), recipe.label_std_scale, tree
    )
    return PreparedData(
        config=config,
        hierarchy=tree,
        samples=samples,
        leaves=targets(samples, tree, recipe),
        source=PyramidCache(tuple(torch.rand(12, len(samples), 3, 4, 4) for _ in range(4))),
        backbone_state=build_network(config).backbone.state_dict(),
        init=None,
    )


def differences(prepared, variant):
    """Name what differs from the recipe as it is."""
    data = variant.data(prepared)
    pairs = {
        "recipe": (variant.recipe(0), load_recipe(MODEL)),
        "options": (data.config.options, prepared.config.options),
        "views": (data.source.views, 12),
    }
    found = {name for name, (new, old) in pairs.items() if new != old}
    return found | ({"leaves"} if not torch.equal(data.leaves, prepared.leaves) else set())


def test_the_first_is_the_recipe_itself(prepared):
    assert differences(prepared, BY_NAME["the recipe"]) == set()


@pytest.mark.parametrize("variant", VARIANTS[1:], ids=lambda variant: variant.name)
def test_every_other_undoes_one_choice(variant, prepared):
    expected = {"recipe"} if variant.changes else {"options"} if variant.options else {"views"}
    if variant.name == "hard labels":
        expected = {"recipe", "leaves"}
    assert differences(prepared, variant) == expected
    assert variant.data(prepared).trainer(variant.recipe(0), [0, 1])  # such a network exists


def test_hard_labels_are_classes(prepared):
    leaves = BY_NAME["hard labels"].data(prepared).leaves
    assert set(leaves.unique().tolist()) == {0.0, 1.0}
    assert leaves.sum(dim=1).tolist() == [1.0] * len(leaves)
