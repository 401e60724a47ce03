"""Recipes as data: the paper's defaults, each model's own, and wrong values."""

from __future__ import annotations

import dataclasses
import math

import pytest

from mdan_zoo.errors import InputError, UnknownNameError
from mdan_zoo.training.recipe import Recipe, fine_tuning_recipe, list_recipes, load_recipe
from mdan_zoo.zoo.factory import MODELS


def test_every_model_has_a_recipe_of_its_own():
    assert set(list_recipes()) == set(MODELS)
    for name in list_recipes():
        assert load_recipe(name).model == name


def test_the_defaults_are_the_papers():
    """Section 5.2: SGD, momentum 0.9, weight decay 0.001, batch 64, 30 epochs, x0.1 every 10."""
    recipe = Recipe("mdan_webemo25")
    assert (recipe.optimizer, recipe.momentum, recipe.weight_decay) == ("sgd", 0.9, 0.001)
    assert (recipe.batch_size, recipe.epochs) == (64, 30)
    assert (recipe.schedule, recipe.step_epochs, recipe.warmup_steps) == ("step", 10, 0)
    assert (recipe.backbone_rate, recipe.learning_rate) == (0.001, 0.01)
    assert (recipe.overall_weight, recipe.local_weight, recipe.global_weight) == (1, 0, 0)
    assert (recipe.frozen_stages, recipe.views, recipe.softness, recipe.ema_decay) == (0, 0, 0, 0)


@pytest.mark.parametrize("name", ["mdan_webemo25", "mdan_emotion6", "mdan_fi8", "mdan_emoset8"])
def test_large_sets_train_by_the_defaults(name):
    recipe = load_recipe(name)
    assert recipe == Recipe(name, split=recipe.split)


@pytest.mark.parametrize("name", ["mdan_artphoto8", "mdan_iaps8", "mdan_abstract8"])
def test_small_sets_start_from_fi_at_a_tenth_of_the_rates_with_five_folds(name):
    expected = Recipe(
        name, init="mdan_fi8", split="5-fold", learning_rate=0.001, backbone_rate=0.0001
    )
    assert load_recipe(name) == expected


def test_a_recipe_is_changed_field_by_field():
    changes = ["epochs=3", "learning_rate=0.5", "batch_statistics=True", "init="]
    recipe = load_recipe("mdan_oasis4", changes)
    assert (recipe.epochs, recipe.learning_rate) == (3, 0.5)
    assert recipe.batch_statistics is True
    assert recipe.init == ""


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ("epoch=3", UnknownNameError, "no 'epoch'; did you mean 'epochs'"),
        ("epochs", InputError, "NAME=VALUE, not 'epochs'"),
        ("epochs=many", InputError, "epochs must be a whole number, not 'many'"),
        ("epochs=2.5", InputError, r"epochs must be a whole number, not '2\.5'"),
        ("epochs=0", InputError, "epochs must be above 0, not 0"),
        ("learning_rate=nan", InputError, "learning_rate must be a finite number, not nan"),
        ("learning_rate=fast", InputError, "learning_rate must be a number, not 'fast'"),
        ("base_rate_start=maybe", InputError, "true or false, not 'maybe'"),
        ("optimizer=adam", InputError, "one of sgd, adamw, not 'adam'"),
        ("schedule=linear", InputError, "one of step, cosine"),
        ("stored_as=int8", InputError, "one of float32, float16, bfloat16"),
        ("balance=yes", InputError, "one of none, loss, sampling"),
        ("views=1", InputError, "at least 2"),
        ("frozen_stages=5", InputError, r"in 0\.\.4, not 5"),
        ("frozen_stages=2", InputError, "frozen_stages must be 3 or 4, not 2"),
        ("min_crop_area=0", InputError, "min_crop_area above 0"),
        ("min_crop_area=1.5", InputError, r"in 0\.\.1, not 1\.5"),
        ("model=mdan_fi8", InputError, "model cannot be changed"),
        ("ema_decay=1", InputError, "below 1, not 1"),
        ("momentum=-0.1", InputError, "at least 0 and below 1"),
        ("overall_weight=-1", InputError, "must not be negative"),
        ("seed=4294967296", InputError, r"seed must be below 2\*\*32, not 4294967296"),
        ("clip_norm=-1", InputError, "must not be negative"),
    ],
)
def test_a_wrong_change_is_reported(change, error, message):
    with pytest.raises(error, match=message):
        load_recipe("mdan_oasis4", [change])


def test_a_recipe_that_minimises_nothing_is_reported():
    with pytest.raises(InputError, match="must not all be 0"):
        Recipe("mdan_fi8", overall_weight=0)


def test_a_trained_classifier_is_kept_unless_the_base_rates_are_asked_for():
    assert load_recipe("flat_oasis4").base_rate_start
    assert load_recipe("flat_oasis4", ["init="]).base_rate_start
    assert not load_recipe("flat_oasis4", ["init=mdan_oasis4"]).base_rate_start
    assert load_recipe("flat_oasis4", ["base_rate_start=true", "init=x"]).base_rate_start


def test_an_unknown_model_is_reported():
    with pytest.raises(UnknownNameError, match="no training recipe for 'mdan_f8'; did you mean"):
        load_recipe("mdan_f8")


@pytest.mark.parametrize(
    ("images", "epochs"), [(5, 100), (16, 100), (32, 50), (47, 50), (400, 8), (10_000, 8)]
)
def test_few_images_are_shown_more_often(images, epochs):
    recipe = fine_tuning_recipe("mdan_oasis4")
    found = recipe.for_images(images)
    assert found == dataclasses.replace(
        recipe, epochs=epochs, step_epochs=math.ceil(10 * epochs / 8)
    )


def test_the_papers_rates_fall_later_if_epochs_are_added():
    recipe = Recipe("m", least_steps=60).for_images(64)
    assert (recipe.epochs, recipe.step_epochs) == (60, 20)


@pytest.mark.parametrize(
    ("changes", "least"), [((), 100), (("epochs=3",), 0), (("epochs=3", "least_steps=9"), 9)]
)
def test_epochs_that_are_given_are_not_added_to(changes, least):
    assert fine_tuning_recipe("mdan_oasis4", changes).least_steps == least


@pytest.mark.parametrize("name", list_recipes())
def test_recipes_of_the_zoo_have_the_epochs_that_they_name(name):
    recipe = load_recipe(name)
    assert recipe.for_images(2) == recipe
