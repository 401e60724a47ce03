"""A training's images: read, with what is to be learned of each, and checked against a split."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mdan_zoo.datasets.readers.oasis import read_oasis
from mdan_zoo.datasets.registry import read_dataset
from mdan_zoo.datasets.sample import Sample
from mdan_zoo.datasets.splits import Split, select
from mdan_zoo.errors import InputError
from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.models.config import ModelConfig
from mdan_zoo.training.recipe import Recipe

if TYPE_CHECKING:
    from mdan_zoo.training.run import Plan

LOGGER = logging.getLogger("mdan_zoo.training")
"""Says here what a training decides that its user may not expect."""


def dataset_name(plan: Plan, config: ModelConfig) -> str:
    """Return the name of the data set that a plan reads."""
    return plan.dataset or config.dataset


def read_samples(plan: Plan, config: ModelConfig, tree: Hierarchy) -> list[Sample]:
    """Read the plan's data set.

    Raises:
        DatasetError: The folder is not a copy of the data set.
        HierarchyError: The data set's labels are not made for the tree.
    """
    name = dataset_name(plan, config)
    if name == "OASIS" and plan.recipe.label_std_scale:
        samples = read_oasis(plan.data, plan.recipe.label_std_scale, tree)
    else:
        samples = read_dataset(name, plan.data, tree)
    if len(samples) < 2:
        raise InputError(f"{plan.data} has {len(samples)} image; a training needs more")
    return samples


def targets(samples: Sequence[Sample], tree: Hierarchy, recipe: Recipe) -> Tensor:
    """Return the distribution over the leaves that each image is to have, (N, K_n)."""
    if recipe.label_std_scale:
        return torch.tensor([sample.distribution for sample in samples])
    divided = sum(max(sample.distribution) < 1 for sample in samples)
    if divided:
        LOGGER.warning(
            f"{divided:,} of the {len(samples):,} images have votes for several classes, and the "
            "class with most alone is learned; --set label_std_scale=1 learns the votes"
        )
    labels = torch.tensor([sample.labels[-1] for sample in samples])
    return torch.nn.functional.one_hot(labels, tree.sizes[-1]).float()


def check_classes(
    samples: Sequence[Sample], folder: Path, tree: Hierarchy, split: Split | None, *, own_tree: bool
) -> None:
    """Check that every leaf has an image to learn from, in every fold.

    Args:
        samples: The data set.
        folder: Its folder.
        tree: The emotion tree.
        split: How it is divided; None trains on everything.
        own_tree: Whether it is the user's. Copies of the published data sets may be incomplete, so
            that there it is only told.

    Raises:
        InputError: A leaf of an own tree has no training image, or the split is nothing to train
            with.
    """
    for where, indices in _learned_from(samples, folder, split).items():
        learned = {samples[index].labels[-1] for index in indices}
        missing = [leaf for k, leaf in enumerate(tree.leaves) if k not in learned]
        if missing:
            problem = (
                f"{where}no image of {', '.join(missing)} is trained on, which hierarchy "
                f"{tree.name!r} has"
            )
            if own_tree:
                raise InputError(f"{problem}; add images, or use another split or tree")
            LOGGER.warning(problem)


def _learned_from(
    samples: Sequence[Sample], folder: Path, split: Split | None
) -> dict[str, list[int]]:
    """Return what every training that a split demands takes, by what a message says of it."""
    everything = list(range(len(samples)))
    if split is None:
        return {"": everything}
    parts = dict(split.parts)
    if "train" in parts:
        return {f"in the split {split.method!r}, ": select(split, samples, folder, "train")}
    if len(parts) < 2:
        raise InputError(
            f"the split {split.method!r} has the part {', '.join(parts)} alone; needed are the "
            "parts train and test, or two folds or more"
        )
    held_out = {part: set(select(split, samples, folder, part)) for part in parts}
    return {
        f"where the fold {part} is kept aside, ": [n for n in everything if n not in kept]
        for part, kept in held_out.items()
    }
