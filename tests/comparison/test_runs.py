"""Runs: what is refused before any work, and what the runs of a comparison share."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import resource

import pytest

from mdan_zoo.comparison.runs import is_complete, train_all
from mdan_zoo.datasets.file_index import FileIndex
from mdan_zoo.errors import InputError, MdanZooError, TrainingError
from mdan_zoo.training import prepare
from mdan_zoo.training.report import repeating_command
from mdan_zoo.zoo.factory import get_config

CACHED = ("frozen_stages=3", "cached_views=3", "min_crop_area=0.6", "batch_size=4")


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (
            "mdan_fi8:fusion=lateral:upsample_add=false",
            "upsample_add=False cannot be combined with",
        ),
        ("mdan_fi8:heads=3,4,8", "which are 16, 64, 256 at 64 x 64 pixels, not (3, 4, 8)"),
        ("flat_fi8:stages=0,2", "has no level 2: use 0 to 1, or 'polarity', 'emotion'"),
        ("flat_fi8,flat_fi8:stages=0", "must have the same hierarchy, not flat_fi8: mikels8; "),
        ("flat_fi8,mdan_webemo25", "not flat_fi8: mikels8; mdan_webemo25: webemo25"),
        (
            "flat_fi8,wscnet_fi8:dropout=0.1",
            "wscnet_fi8:dropout=0.1: the architecture has no option",
        ),
        ("mdan_fi8:dim=wide", "dim must be a whole number, not 'wide'"),
        ("mdan_fi8:semantic_levels=a", "semantic_levels must be whole numbers, such as 4,3,2, not"),
        ("mdan_fi8:upsample_add=maybe", "upsample_add must be true or false, not 'maybe'"),
    ],
)
def test_contradictions_are_refused_before_any_work(compared, models, message):
    comparison = compared(models)
    with pytest.raises(MdanZooError, match=re.escape(message)):
        comparison.members  # noqa: B018 - a cached property
    assert not comparison.config.output.exists()


def test_other_inputs_and_backbones_are_refused_unless_they_are_given(compared):
    models = "flat_fi8,flat_fi8_lite0"
    size = {"size": None}
    with pytest.raises(
        InputError, match=r"cropped after .*flat_fi8_lite0: 192 x 192 pixels, squashed"
    ):
        compared(models, **size).members  # noqa: B018
    size = {"backbone": None, "backbone_weights": None, "resize_mode": "squash"}
    with pytest.raises(
        InputError, match="same backbone, not flat_fi8: resnet101; flat_fi8_lite0: tf"
    ):
        compared(models, **size).members  # noqa: B018
    assert len(compared(models, resize_mode="squash").members) == 2


def test_seeds_and_repeated_systems_are_checked(compared):
    with pytest.raises(InputError, match="seeds must be at least 1, not 0"):
        compared("flat_fi8", seeds=0)
    with pytest.raises(InputError, match=r"the seeds of a comparison are 0, 1, \.\.\."):
        compared("flat_fi8", "seed=4")
    with pytest.raises(InputError, match="a system is given twice: flat_fi8, flat_fi8"):
        compared("flat_fi8,flat_fi8")


def test_all_images_leave_none_to_test_on(compared):
    comparison = compared("flat_fi8", "split=all")
    with pytest.raises(InputError, match=r"trains on all images.*use --set split=80/20 or --split"):
        comparison.find_split(FileIndex())
    assert not comparison.config.output.exists()


def test_options_of_all_systems_apply_to_those_that_have_them(compared):
    models = "flat_fi8,mdan_fi8,mdan_fi8:dim=8"
    flat, plain, narrow = compared(models, options={"dim": "16"}).members
    assert (plain.model.options.dim, narrow.model.options.dim) == (16, 8)
    assert flat.parameters < narrow.parameters < plain.parameters
    with pytest.raises(MdanZooError, match="no system has an option 'dmi'; did you mean 'dim'"):
        compared(models, options={"dmi": "16"}).members  # noqa: B018
    with pytest.raises(InputError, match=r"has a value of its own; remove --option dim=16"):
        compared("flat_fi8,mdan_fi8:dim=8", options={"dim": "16"}).members  # noqa: B018


def test_a_network_with_options_of_all_systems_has_no_row_of_the_paper(compared):
    flat, mdan = compared("flat_fi8,mdan_fi8", options={"alpha": "0.1"}).members
    assert (flat.system.row, mdan.system.row) == ("Table 1, ResNet-101 [6]", "")
    alpha = get_config("mdan_fi8").options.alpha
    (usual,) = compared("mdan_fi8", options={"alpha": str(alpha)}).members
    assert usual.system.row == "Table 1, Ours"


def recipes(comparison, seed=0):
    """The recipe of every system as a dict, without its name."""
    fields = [
        dataclasses.asdict(comparison.config_of(system, seed).recipe)
        for system in comparison.systems
    ]
    return {recipe.pop("model"): recipe for recipe in fields}


def test_systems_share_a_recipe_but_not_what_belongs_to_their_own(compared):
    found = recipes(compared("flat_oasis4,mdan_oasis4", "epochs=3", seeds=2), seed=1)
    flat, mdan = found["flat_oasis4"], found["mdan_oasis4"]
    weights = ("overall_weight", "local_weight", "global_weight")
    assert [flat.pop(name) for name in weights] == [1, None, None]
    assert [mdan.pop(name) for name in weights] == [0, 1, 1]
    assert flat == mdan
    assert (mdan["epochs"], mdan["seed"], mdan["views_seed"]) == (3, 1, 0)


@pytest.mark.parametrize(
    "models", [["mdan_fi8_lite0", "wscnet_fi8_lite0"], ["probe_fi8", "smallcnn_fi8", "flat_fi8"]]
)
def test_recipes_do_not_depend_on_the_order_of_systems(compared, models):
    forward, backward = (
        recipes(compared(",".join(names), "lr=0.02")) for names in (models, models[::-1])
    )
    assert forward == backward
    assert all(recipe["lr"] == 0.02 for recipe in forward.values())


def test_losses_and_temperature_are_not_those_of_another_model(compared):
    found = recipes(compared("mdan_fi8_lite0,wscnet_fi8_lite0"))
    assert found["mdan_fi8_lite0"]["overall_weight"] == 0.333
    assert found["wscnet_fi8_lite0"]["overall_weight"] is None
    assert {recipe["temperature"] for recipe in found.values()} == {None}
    found = recipes(compared("mdan_fi8_lite0,wscnet_fi8_lite0", "temperature=1.5"))
    assert {recipe["temperature"] for recipe in found.values()} == {1.5}


def test_rules_of_a_system_apply_to_it_alone(compared):
    found = recipes(compared("smallcnn_fi8,probe_fi8,flat_fi8"))
    assert [found[name]["backbone_lr"] for name in found] == [0.01, 0.001, 0.001]
    assert [found[name]["cached_views"] for name in found] == [0, 2, 0]
    assert [found[name]["views_seed"] for name in found] == [None, 0, None]
    assert [found[name]["frozen_stages"] for name in found] == [0, 4, 0]


def test_a_curriculum_has_the_stages_of_its_recipe(compared):
    assert recipes(compared("flat_fi8,curriculum_fi8"))["curriculum_fi8"]["stages"] == (
        "polarity,emotion"
    )
    for name in ("curriculum_iaps8", "curriculum_artphoto8", "curriculum_abstract8"):
        assert recipes(compared(name))[name]["stages"] == ""
        assert recipes(compared(name, "init="))[name]["stages"] == "polarity,emotion"
    changed = compared("curriculum_fi8:stages=emotion", "stages=polarity")
    assert recipes(changed)["curriculum_fi8"]["stages"] == "emotion"


def test_backbones_that_belong_to_a_system_are_kept(compared):
    names = "flat_fi8,flat_fi8_resnet50,curriculum_fi8,alexnet_fi8,fpn_fi8:backbone=resnet34"
    found = compared(names)
    assert [member.model.backbone for member in found.members] == [
        *("resnet18", "resnet50", "resnet50", "alexnet:embedding", "resnet34")
    ]
    given = [found.config_of(system, 0).backbone_weights for system in found.systems]
    assert [bool(weights) for weights in given] == [True] + [False] * 4
    with pytest.raises(InputError, match="a backbone of its own; remove --backbone resnet18"):
        compared("flat_fi8_resnet50").members  # noqa: B018


def test_systems_and_seeds_share_one_cache_of_maps(compared, fi, tmp_path):
    comparison = compared("flat_fi8,mdan_fi8:dim=8", *CACHED, seeds=2, cache=tmp_path)
    source = comparison.find_split(FileIndex())
    flat, mdan = comparison.members
    runs = [prepare(comparison.run_of(m, seed, source)) for m, seed in ((flat, 0), (mdan, 1))]
    assert len(list(tmp_path.glob("feature_cache-*.bin"))) == 1
    first, second = (run.data for run in runs)
    assert [bool(maps.numel()) for maps in first.maps] == [False, False, True, False]
    assert [bool(maps.numel()) for maps in second.maps] == [False, True, True, False]
    assert first.maps[2].equal(second.maps[2])
    assert (first.seed, second.seed) == (0, 1)


def test_the_views_of_a_seed_are_the_same_as_without_views_seed(compared, tmp_path):
    comparison = compared("flat_fi8", *CACHED, cache=tmp_path)
    source = comparison.find_split(FileIndex())
    config = comparison.run_of(comparison.members[0], 0, source)
    assert config.recipe.views_seed == 0
    for views_seed, files in ((0, 1), (None, 1), (1, 2)):
        recipe = dataclasses.replace(config.recipe, views_seed=views_seed)
        prepare(dataclasses.replace(config, recipe=recipe))
        assert len(list(tmp_path.glob("feature_cache-*.bin"))) == files


def test_a_full_disk_ends_the_comparison(compared):
    """The limit of a process on file sizes stands for the disk; only a diverged run is left out."""
    comparison = compared("flat_fi8,mdan_fi8:dim=8", "epochs=1", "batch_size=4")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    try:
        with pytest.raises(TrainingError, match=r"state cannot be written .*File too large"):
            train_all(comparison)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(comparison.config.output.glob("mdan_*"))


def test_complete_runs_of_another_configuration_are_refused(compared, tmp_path):
    comparison = compared("mdan_fi8:dim=8")
    config = comparison.config_of(comparison.systems[0], 0)
    assert not is_complete(config, "0" * 64)
    command = repeating_command(dataclasses.replace(config, split=config.data))
    assert "--option dim=8 --backbone-weights FILE" in " ".join(command)
    config.output.mkdir(parents=True)
    start = hashlib.sha256(config.backbone_weights.read_bytes()).hexdigest()
    recipe = dataclasses.asdict(config.recipe)
    report = {"command": " ".join(command), "split_sha256": "0" * 64, "recipe": recipe}
    report |= {"initial_weights_sha256": start}

    def write(**changes):
        (config.output / "training.json").write_text(json.dumps({**report, **changes}))

    write()
    assert not is_complete(config, "0" * 64), "it has not been tested"
    write(test={})
    assert is_complete(config, "0" * 64)
    with pytest.raises(InputError, match=r"was trained on the split 0+, not 1"):
        is_complete(config, "1" * 64)
    recipe = dataclasses.replace(config.recipe, epochs=4)
    with pytest.raises(InputError, match=r"was trained by .*, not '.*--set epochs=4'; choose"):
        is_complete(dataclasses.replace(config, recipe=recipe), "0" * 64)
    write(test={}, recipe={**report["recipe"], "weight_decay": 0.5})
    with pytest.raises(InputError, match=r"was trained with weight_decay 0\.5, not 0\.001; choose"):
        is_complete(config, "0" * 64)
    write(test={}, recipe={**report["recipe"], "overall_weight": 1.0})
    assert is_complete(config, "0" * 64), "that of the architecture"
    other = tmp_path / "other.pth"
    other.write_bytes(b"other weights")
    with pytest.raises(InputError, match=f"initial weights with the sha256 '{start}', not '"):
        is_complete(dataclasses.replace(config, backbone_weights=other), "0" * 64)
