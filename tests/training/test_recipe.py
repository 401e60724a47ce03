"""Recipes as data: the paper's defaults, each model's own, and wrong values."""

from __future__ import annotations

import dataclasses
import math

import pytest
from random_weights import save_random_weights

from mdan_zoo.errors import InputError, UnknownNameError
from mdan_zoo.models.mdan.network import MDAN
from mdan_zoo.training.losses import branch_weights, check_losses, with_loss_weights
from mdan_zoo.training.recipe import (
    Recipe,
    current_fields,
    fine_tuning_recipe,
    list_recipes,
    load_recipe,
)
from mdan_zoo.zoo.configs import MODELS, REGISTERED


def test_every_model_has_a_recipe_of_its_own():
    assert set(list_recipes()) == set(REGISTERED)
    for name in list_recipes():
        assert load_recipe(name).model == name


def test_a_compared_system_has_the_recipe_of_mdan_on_its_dataset():
    for dataset in ("fi8", "artphoto8"):
        system, mdan = (load_recipe(f"{start}_{dataset}") for start in ("flat", "mdan"))
        init = "flat_fi8" if mdan.init else ""
        assert system == dataclasses.replace(mdan, model=f"flat_{dataset}", init=init)


def test_the_recipe_is_that_of_the_same_network_rather_than_name(tmp_path):
    """A model named after its output folder may have the name of a system that is newer."""
    path = tmp_path / "model.safetensors"
    config = dataclasses.replace(MODELS["flat_oasis4"], name="flat_fi8")
    save_random_weights(path, config=config)
    assert fine_tuning_recipe(str(path)).model == "flat_oasis4"
    save_random_weights(path, config=dataclasses.replace(config, backbone="resnet18"))
    assert fine_tuning_recipe(str(path)).model == "flat_fi8"


def test_the_defaults_are_the_papers():
    """Section 5.2: SGD, momentum 0.9, weight decay 0.001, batch 64, 30 epochs, x0.1 every 10."""
    recipe = Recipe("mdan_webemo25")
    assert (recipe.optimizer, recipe.momentum, recipe.weight_decay) == ("sgd", 0.9, 0.001)
    assert (recipe.batch_size, recipe.epochs) == (64, 30)
    assert (recipe.schedule, recipe.step_epochs, recipe.warmup_steps) == ("step", 10, 0)
    assert (recipe.backbone_lr, recipe.lr) == (0.001, 0.01)
    assert branch_weights(MDAN, recipe) == {"overall": 1, "local": 0, "global": 0}
    assert (
        recipe.frozen_stages,
        recipe.cached_views,
        recipe.label_std_scale,
        recipe.ema_decay,
    ) == (0, 0, 0, 0)


@pytest.mark.parametrize("name", ["mdan_webemo25", "mdan_emotion6", "mdan_fi8", "mdan_emoset8"])
def test_large_sets_train_by_the_defaults(name):
    recipe = load_recipe(name)
    assert recipe == Recipe(name, split=recipe.split)


@pytest.mark.parametrize("name", ["mdan_artphoto8", "mdan_iaps8", "mdan_abstract8"])
def test_small_sets_start_from_fi_at_a_tenth_of_the_rates_with_five_folds(name):
    expected = Recipe(name, init="mdan_fi8", split="5-fold", lr=0.001, backbone_lr=0.0001)
    assert load_recipe(name) == expected


def test_a_recipe_is_changed_field_by_field():
    changes = ["epochs=3", "lr=0.5", "freeze_bn=false", "init="]
    recipe = load_recipe("mdan_oasis4", changes)
    assert (recipe.epochs, recipe.lr) == (3, 0.5)
    assert recipe.freeze_bn is False
    assert recipe.init == ""


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ("epoch=3", UnknownNameError, "no field 'epoch'; did you mean 'epochs'"),
        ("epochs", InputError, "FIELD=VALUE, not 'epochs'"),
        ("epochs=many", InputError, "epochs must be a whole number, not 'many'"),
        ("epochs=2.5", InputError, r"epochs must be a whole number, not '2\.5'"),
        ("epochs=0", InputError, "epochs must be above 0, not 0"),
        ("lr=nan", InputError, "lr must be a finite number, not nan"),
        ("lr=fast", InputError, "lr must be a number, not 'fast'"),
        ("init_bias_from_priors=maybe", InputError, "true or false, not 'maybe'"),
        ("optimizer=adam", InputError, "one of sgd, adamw, not 'adam'"),
        ("schedule=linear", InputError, "one of step, cosine"),
        ("save_dtype=int8", InputError, "one of float32, float16, bfloat16"),
        ("balance=yes", InputError, "one of none, loss, sampling"),
        ("cached_views=1", InputError, "at least 2"),
        ("frozen_stages=5", InputError, r"in 0\.\.4, not 5"),
        ("frozen_stages=0", InputError, "frozen_stages must be at least 1; cached_views=0"),
        ("min_crop_area=0", InputError, "min_crop_area above 0"),
        ("start_size=128", InputError, "start_size=128 cannot be combined with cached_views=12"),
        ("start_size=100", InputError, "start_size must be a multiple of 32, not 100"),
        ("start_size=-32", InputError, "start_size must be a multiple of 32, not -32"),
        ("min_crop_area=1.5", InputError, r"in 0\.\.1, not 1\.5"),
        ("model=mdan_fi8", InputError, "model cannot be changed"),
        ("ema_decay=1", InputError, "below 1, not 1"),
        ("momentum=-0.1", InputError, "at least 0 and below 1"),
        ("overall_weight=-1", InputError, "must not be negative"),
        ("seed=4294967296", InputError, r"seed must be below 2\*\*32, not 4294967296"),
        ("max_grad_norm=-1", InputError, "must not be negative"),
    ],
)
def test_a_wrong_change_is_reported(change, error, message):
    with pytest.raises(error, match=message):
        load_recipe("mdan_oasis4", [change])


OLD_NAMES = {
    "least_steps": "min_steps",
    "learning_rate": "lr",
    "backbone_rate": "backbone_lr",
    "clip_norm": "max_grad_norm",
    "batch_statistics": "freeze_bn, with the opposite value",
    "views": "cached_views",
    "softness": "label_std_scale",
    "base_rate_start": "init_bias_from_priors",
    "stored_as": "save_dtype",
}


@pytest.mark.parametrize("old", OLD_NAMES)
def test_an_old_field_name_is_answered_with_the_new_one(old):
    with pytest.raises(UnknownNameError, match=f"^{old} is now called {OLD_NAMES[old]}$"):
        load_recipe("mdan_oasis4", [f"{old}=1"])


def test_a_stored_recipe_of_version_0_1_is_read():
    recipe = dataclasses.asdict(load_recipe("mdan_oasis4"))
    new = {old: text.partition(",")[0] for old, text in OLD_NAMES.items()}
    stored = {old: recipe[name] for old, name in new.items()}
    stored["batch_statistics"] = not recipe["freeze_bn"]
    kept = {name: value for name, value in recipe.items() if name not in new.values()}
    assert current_fields({**kept, **stored}) == recipe
    assert current_fields(recipe) == recipe


def test_a_recipe_that_minimises_nothing_is_reported():
    for weights in ({}, {"local_weight": 0.0, "global_weight": 0.0}):
        recipe = Recipe("mdan_fi8", overall_weight=0, **weights)
        with pytest.raises(InputError, match=r"^overall_weight and .* must not all be 0$"):
            check_losses(recipe, MDAN, "mdan_fi8")


def test_loss_weights_that_a_recipe_leaves_out_are_those_of_the_architecture():
    class Summed(MDAN):
        loss_weights = {"overall": 0.5, "local": 2.0}  # noqa: RUF012

    recipe = Recipe("m", local_weight=0.0)
    assert branch_weights(Summed, recipe) == {"overall": 0.5, "local": 0.0, "global": 0.0}
    filled = with_loss_weights(recipe, Summed)
    assert filled == Recipe("m", overall_weight=0.5, local_weight=0.0, global_weight=0.0)
    assert with_loss_weights(filled, MDAN) == filled


def test_a_loss_weight_can_be_reset_to_that_of_the_architecture():
    assert load_recipe("mdan_oasis4", ["local_weight=none"]).local_weight is None


def test_a_trained_classifier_is_kept_unless_the_base_rates_are_asked_for():
    assert load_recipe("flat_oasis4").init_bias_from_priors
    assert load_recipe("flat_oasis4", ["init="]).init_bias_from_priors
    assert not load_recipe("flat_oasis4", ["init=mdan_oasis4"]).init_bias_from_priors
    assert load_recipe(
        "flat_oasis4", ["init_bias_from_priors=true", "init=x"]
    ).init_bias_from_priors


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
    recipe = Recipe("m", min_steps=60).for_images(64)
    assert (recipe.epochs, recipe.step_epochs) == (60, 20)


@pytest.mark.parametrize(
    ("changes", "least"), [((), 100), (("epochs=3",), 0), (("epochs=3", "min_steps=9"), 9)]
)
def test_epochs_that_are_given_are_not_added_to(changes, least):
    assert fine_tuning_recipe("mdan_oasis4", changes).min_steps == least


@pytest.mark.parametrize("name", list_recipes())
def test_recipes_of_the_zoo_have_the_epochs_that_they_name(name):
    recipe = load_recipe(name)
    assert recipe.for_images(2) == recipe
