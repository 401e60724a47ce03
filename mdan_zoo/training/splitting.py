"""Split of a training run: the given file, the one in the output folder, or a new one."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from mdan_zoo.datasets.exclusion import warn_to_exclude
from mdan_zoo.datasets.file_index import FileIndex
from mdan_zoo.datasets.sample import Sample
from mdan_zoo.datasets.split_methods import describe_method, make_split
from mdan_zoo.datasets.splits import SPLIT_FILE, Split, select
from mdan_zoo.errors import DatasetError, InputError
from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.models.config import ModelConfig
from mdan_zoo.training.config import TrainingConfig
from mdan_zoo.training.distributed import is_main_process, processes
from mdan_zoo.training.state import has_state

_LOGGER = logging.getLogger("mdan_zoo.training")


def find_split(
    config: TrainingConfig,
    model: ModelConfig,
    hierarchy: Hierarchy,
    samples: Sequence[Sample],
    files: FileIndex,
) -> Split | None:
    """Return the split of a training run; None to train on everything."""
    name, recipe, path = config.dataset or model.dataset, config.recipe, config.output / SPLIT_FILE
    given = None if config.split is None else Split.load(config.split)
    if given is not None and given.dataset != name:
        raise DatasetError(f"{config.split} is a split of {given.dataset}, not of {name}")
    split = given
    if given is None and recipe.split != "all":
        if path.exists():
            split = Split.load(path)
        if split is None or split.method != describe_method(samples, recipe.split, recipe.seed):
            split = make_split(name, samples, config.folder, recipe.split, recipe.seed, files)
            if split.method == "official":
                _check_official(config, split)
    if is_main_process() and not has_state(config.output):
        tree = "FILE" if config.hierarchy else None
        warn_to_exclude(name, config.data, samples, files, hierarchy, tree)
    check_classes(samples, config.folder, hierarchy, split, custom=config.hierarchy is not None)
    if split is not None and path.exists() and Split.load(path) != split:
        raise InputError(
            f"{path} is the split {Split.load(path).method!r}, not "
            + (f"that of {config.split}" if given else f"the recipe's, {split.method!r}")
            + "; choose another output folder, or remove the file to start over"
        )
    return split


def keep_split(split: Split, folder: Path) -> None:
    """Write the split to an output folder that has none."""
    path = folder / SPLIT_FILE
    folder.mkdir(parents=True, exist_ok=True)
    with processes().main_process_first():
        if not path.exists():
            split.save(path)


def check_classes(
    samples: Sequence[Sample],
    folder: Path,
    hierarchy: Hierarchy,
    split: Split | None,
    *,
    custom: bool,
) -> None:
    """Check that every leaf has a training image, in every fold.

    Copies of published datasets may be incomplete, so a missing class is only a warning there.
    """
    sets = training_sets(samples, folder, split)
    for held_out, indices in sets.items():
        trained = {samples[index].labels[-1] for index in indices}
        missing = [leaf for k, leaf in enumerate(hierarchy.leaves) if k not in trained]
        if missing:
            where = "" if split is None else f"in the split {split.method!r}, "
            if len(sets) > 1:
                where = f"with fold {held_out} held out, "
            problem = (
                f"{where}there is no training image of {', '.join(missing)} (hierarchy "
                f"{hierarchy.name!r})"
            )
            if custom:
                raise InputError(f"{problem}; add images, or use another split or hierarchy")
            _LOGGER.warning(problem)


def training_sets(
    samples: Sequence[Sample], folder: Path, split: Split | None
) -> dict[str, list[int]]:
    """Return the training images of every network by the part that tests it, "" for none."""
    everything = list(range(len(samples)))
    if split is None:
        return {"": everything}
    parts = dict(split.parts)
    if "train" in parts:
        return {"test" if "test" in parts else "": select(split, samples, folder, "train")}
    if len(parts) < 2:
        raise InputError(
            f"the split {split.method!r} has only the part {', '.join(parts)}; it needs the parts "
            "train and test, or at least two folds"
        )
    held_out = {part: set(select(split, samples, folder, part)) for part in parts}
    return {part: [n for n in everything if n not in kept] for part, kept in held_out.items()}


def _check_official(config: TrainingConfig, split: Split) -> None:
    """Refuse an official split without training part; warn if the recipe has another split."""
    sizes = ", ".join(f"{part} ({len(names):,} images)" for part, names in split.parts)
    other = "for another split, use --set split=80/20 or --split FILE"
    if "train" not in dict(split.parts):
        raise InputError(f"{config.data} has the parts {sizes}, but no part train; {other}")
    if config.recipe.split != split.method and is_main_process():
        _LOGGER.warning(f"{config.data} has the parts {sizes}; training on train; {other}")
