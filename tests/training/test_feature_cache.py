"""Cached feature maps and the memory that they need."""

from __future__ import annotations

import psutil
import pytest
from tiny_model import OWN_TREE

from mdan_zoo.errors import InputError
from mdan_zoo.training import TrainingConfig, feature_cache, prepare
from mdan_zoo.training.feature_cache import available_memory
from mdan_zoo.training.recipe import Recipe


def test_maps_that_do_not_fit_into_memory_are_reported_at_the_first_image(
    model, data, tmp_path, monkeypatch
):
    """24 images x 2 views x C3, C4, C5 of 128 x 8 x 8, 256 x 4 x 4, 512 x 2 x 2 in 2 bytes."""
    views = {"cached_views": 2, "frozen_stages": 3, "min_crop_area": 0.6}
    recipe = Recipe("mdan_fi8", init=str(model), batch_size=8, split="all", **views)
    config = TrainingConfig(recipe, data, tmp_path / "run", hierarchy=OWN_TREE, workers=0)
    needed = 24 * 2 * (128 * 64 + 256 * 16 + 512 * 4) * 2
    monkeypatch.setattr(feature_cache, "available_memory", lambda: needed)
    assert prepare(config).data.views == 2
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")  # torchrun's; each process keeps all maps
    with pytest.raises(InputError, match=r"needs 0\.0 GB.*--set cached_views=0"):
        prepare(config)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    monkeypatch.setattr(feature_cache, "available_memory", lambda: needed - 1)
    with pytest.raises(InputError, match=r"2 views of 24 images"):
        prepare(config)


def test_the_memory_that_is_there_is_known():
    assert 0 < available_memory() <= psutil.virtual_memory().total
