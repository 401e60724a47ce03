"""Fixtures of the comparison tests: a small copy of FI, backbone weights, and a comparison."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from dataset_trees import write_fi

from mdan_zoo.comparison.runs import Comparison
from mdan_zoo.comparison.systems import parse_systems, shared_recipe
from mdan_zoo.training import TrainingConfig


@pytest.fixture(scope="session")
def fi(tmp_path_factory) -> Path:
    """FI with 8 training images and 16 test images; read-only."""
    return write_fi(tmp_path_factory.mktemp("data") / "fi")


@pytest.fixture(scope="session")
def weights(tmp_path_factory) -> Path:
    """Random weights of a ResNet-18."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(timm.create_model("resnet18").state_dict(), path)
    return path


@pytest.fixture
def compared(fi, weights, tmp_path) -> Callable[..., Comparison]:
    """Return a function that makes a comparison on the small copy of FI."""

    def compared(models: str, *changes: str, seeds: int = 1, **options: object) -> Comparison:
        systems = parse_systems(models, "FI")
        recipe = shared_recipe(systems, changes)
        given = {"backbone": "resnet18", "backbone_weights": weights, "size": 64, "workers": 0}
        given |= {"dataset": "FI", **options}
        config = TrainingConfig(recipe, fi, tmp_path / "compared", **given)
        return Comparison(systems, config, changes, seeds)

    return compared
