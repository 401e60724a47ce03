"""Which images a training takes, and which it is tested on."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mdan_zoo.datasets.sample import Sample
from mdan_zoo.datasets.split_methods import make_split
from mdan_zoo.datasets.splits import SPLIT_FILE, Split
from mdan_zoo.errors import DatasetError, InputError
from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.models.config import ModelConfig
from mdan_zoo.training.distributed import is_main_process, processes
from mdan_zoo.training.targets import LOGGER, check_classes, dataset_name

if TYPE_CHECKING:
    from mdan_zoo.training.run import Plan


def find_split(
    plan: Plan,
    config: ModelConfig,
    tree: Hierarchy,
    samples: Sequence[Sample],
    given: Split | None,
) -> Split | None:
    """Return the split that the output folder has, or a new one; None to train on everything.

    Args:
        plan: What is trained.
        config: The model's config.
        tree: The emotion tree.
        samples: The data set.
        given: The split of the plan's file, if it names one.

    Raises:
        DatasetError: The split is of another data set, or cannot be made.
        InputError: A class has no image to learn from, or the folder has another split.
    """
    recipe, name = plan.recipe, dataset_name(plan, config)
    if given is not None and given.dataset != name:
        raise DatasetError(f"{plan.split} is a split of {given.dataset}, not of {name}")
    split = given
    if given is None and recipe.split != "all":
        split = make_split(name, samples, plan.folder, recipe.split, recipe.seed)
        if split.method == "official":
            _check_official(plan, split)
    check_classes(samples, plan.folder, tree, split, own_tree=plan.hierarchy is not None)
    path = plan.output / SPLIT_FILE
    if split is None or not path.exists():
        return split
    kept = Split.load(path)
    if kept.method != split.method or given not in (None, kept):
        raise InputError(
            f"{path} is the split {kept.method!r}, and not "
            + (f"that of {plan.split}" if given else f"the recipe's, {split.method!r}")
            + "; give another output folder, or remove the file to start anew"
        )
    return kept


def keep_split(split: Split, folder: Path) -> None:
    """Write the split into an output folder that has none."""
    path = folder / SPLIT_FILE
    folder.mkdir(parents=True, exist_ok=True)
    with processes().main_process_first():
        if not path.exists():
            split.save(path)


def fingerprint(samples: list[Sample]) -> str:
    """Return a hash of the samples' files, by name and size, and of their labels.

    Names begin in the folder that all files share: a copy of a data set is the same data set, which
    a job on a cluster may have elsewhere every time.
    """
    base = os.path.commonpath([sample.image.parent for sample in samples])
    digest = hashlib.sha256()
    for sample in samples:
        name = sample.image.relative_to(base).as_posix()
        about = (name, sample.image.stat().st_size, sample.labels)
        digest.update(repr((*about, sample.distribution)).encode())
    return digest.hexdigest()


def _check_official(plan: Plan, split: Split) -> None:
    """Refuse parts without one to train on, and tell of parts that the recipe does not demand."""
    sizes = ", ".join(f"{part} ({len(names):,} images)" for part, names in split.parts)
    anew = "to divide it anew, give --set split=80/20 or --split FILE"
    if "train" not in dict(split.parts):
        raise InputError(f"{plan.data} comes in the parts {sizes}, none of which is train; {anew}")
    if plan.recipe.split != split.method and is_main_process():
        LOGGER.warning(f"{plan.data} comes in the parts {sizes}; train is trained on; {anew}")
