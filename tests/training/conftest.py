"""Fixtures of the training tests: a checkpoint, images and their hierarchy."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def model(tiny_model) -> Path:
    """The checkpoint that a training starts from."""
    return tiny_model


@pytest.fixture(scope="session")
def data(own_images) -> Path:
    """The images that a training learns."""
    return own_images


@pytest.fixture(scope="session")
def tree(own_hierarchy) -> Path:
    """The hierarchy of these images, as a file."""
    return own_hierarchy
