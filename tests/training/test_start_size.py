"""Progressive resizing: a training whose crops grow."""

from __future__ import annotations

import pytest
from tiny_model import OWN_TREE

from mdan_zoo.errors import InputError, TrainingError
from mdan_zoo.training import TrainingConfig, prepare
from mdan_zoo.training.recipe import Recipe
from mdan_zoo.training.trainer import Trainer


@pytest.mark.slow
def test_growing_crops_are_resumed_exactly(model, data, tmp_path):
    """It stops in the third of five epochs; `min_steps` adds two to the three of the recipe."""
    growing = {"start_size": 32, "epochs": 3, "min_steps": 15, "ema_decay": 0.5}
    recipe = Recipe("mdan_fi8", init=str(model), batch_size=8, split="all", **growing)
    given = TrainingConfig(recipe, data, tmp_path / "run", hierarchy=OWN_TREE, workers=0)
    prepared, recipe = prepare(given), recipe.for_images(24)
    assert recipe.epochs == 5
    sides = []
    whole = Trainer(prepared, range(24), recipe)
    whole.network.backbone.register_forward_pre_hook(
        lambda module, inputs: sides.append(inputs[0].shape[-1]) if module.training else None
    )
    expected = whole.run().state_dict()
    assert sides == [32] * 12 + [64] * 3  # with three epochs: 32, 32, 64 and then 32 again
    learner = Trainer(prepared, range(24), recipe, tmp_path)
    weight = learner.network.levels[0].classifier.weight
    weight.register_hook(lambda gradient: gradient * (float("nan") if learner.step > 6 else 1))
    with pytest.raises(TrainingError):
        learner.run()
    again = Trainer(prepared, range(24), recipe, tmp_path)
    found = again.run().state_dict()
    assert all(value.equal(found[name]) for name, value in expected.items())


def test_a_backbone_that_rejects_smaller_crops_is_reported_before_the_work(tmp_path):
    recipe = Recipe("mdan_fi8", start_size=160)
    machine = {"backbone": "coatnet_0_rw_224", "size": 224}
    given = TrainingConfig(recipe, tmp_path / "no data", tmp_path / "run", **machine)
    with pytest.raises(InputError, match="does not accept images of 160 x 160 pixels"):
        prepare(given)
