"""Splits of a training run: the given files, those in the output folder, or new ones."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mdan_zoo.datasets.exclusion import warn_to_exclude
from mdan_zoo.datasets.file_index import FileIndex
from mdan_zoo.datasets.registry import folder_of
from mdan_zoo.datasets.sample import Sample
from mdan_zoo.datasets.split_methods import describe_method, make_split
from mdan_zoo.datasets.splits import SPLIT_FILE, Split, select
from mdan_zoo.errors import DatasetError, InputError
from mdan_zoo.hierarchy.builtin import builtin_name
from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.training.config import TrainingConfig
from mdan_zoo.training.distributed import is_main_process, processes
from mdan_zoo.training.state import has_state

_LOGGER = logging.getLogger("mdan_zoo.training")


@dataclass(frozen=True)
class Source:
    """One dataset of a training run.

    Attributes:
        name: Name of its reader.
        folder: Folder that the names of its images are relative to.
        samples: Its samples.
        first: Position of the first of them among the samples of the run.
        split: Its split; None trains on all of its images.
        split_file: File of the split in the output folder.
    """

    name: str
    folder: Path
    samples: Sequence[Sample]
    first: int
    split: Split | None
    split_file: Path

    def part(self, name: str) -> list[int]:
        """Return the positions of the samples of a part of the split in the run."""
        assert self.split is not None, "only a split has parts"
        return [self.first + n for n in select(self.split, self.samples, self.folder, name)]

    @property
    def positions(self) -> range:
        """Positions of all samples in the run."""
        return range(self.first, self.first + len(self.samples))


def find_sources(
    config: TrainingConfig,
    datasets: Mapping[str, tuple[Path, Sequence[Sample]]],
    hierarchy: Hierarchy,
    files: FileIndex,
) -> tuple[Source, ...]:
    """Return the datasets of a run with their splits, given their paths and samples by name."""
    sources: list[Source] = []
    given = config.by_dataset("split", list(datasets))
    for name, (path, samples) in datasets.items():
        file = SPLIT_FILE if len(datasets) == 1 else f"split_{name}.tsv"
        first = sum(len(source.samples) for source in sources)
        source = Source(name, folder_of(path), samples, first, None, config.output / file)
        split = _find_split(config, source, given.get(name), files)
        sources.append(dataclasses.replace(source, split=split))
        if is_main_process() and not has_state(config.output):
            custom = builtin_name(hierarchy, "FILE") if config.hierarchy else None
            warn_to_exclude(name, path, samples, files, hierarchy, custom)
    check_classes(sources, hierarchy, custom=config.hierarchy is not None)
    for source in sources:
        path, split = source.split_file, source.split
        if split is not None and path.exists() and Split.load(path) != split:
            raise InputError(
                f"{path} is the split {Split.load(path).method!r}, not "
                + (f"that of {given[source.name]}" if source.name in given else "")
                + (f"the recipe's, {split.method!r}" if source.name not in given else "")
                + "; choose another output folder, or remove the file to start over"
            )
    return tuple(sources)


def _find_split(
    config: TrainingConfig, source: Source, given: Path | None, files: FileIndex
) -> Split | None:
    """Return the split of a dataset; None to train on everything."""
    name, recipe, path, samples = source.name, config.recipe, source.split_file, source.samples
    if given is not None:
        split = Split.load(given)
        if split.dataset != name:
            raise DatasetError(f"{given} is a split of {split.dataset}, not of {name}")
        return split
    if recipe.split == "all":
        return None
    if path.exists():
        split = Split.load(path)
        if split.method == describe_method(samples, recipe.split, recipe.seed):
            return split
    split = make_split(name, samples, source.folder, recipe.split, recipe.seed, files)
    if split.method == "official":
        _check_official(config, source.folder, split)
    return split


def keep_splits(sources: Sequence[Source], folder: Path) -> None:
    """Write the splits to an output folder that has none."""
    folder.mkdir(parents=True, exist_ok=True)
    with processes().main_process_first():
        for source in sources:
            if source.split is not None and not source.split_file.exists():
                source.split.save(source.split_file)


def check_classes(sources: Sequence[Source], hierarchy: Hierarchy, *, custom: bool) -> None:
    """Check that every leaf has a training image, in every fold.

    Copies of published datasets may be incomplete, so a missing class is only a warning there.
    """
    samples = [sample for source in sources for sample in source.samples]
    sets = training_sets(sources)
    for held_out, indices in sets.items():
        trained = {samples[index].labels for index in indices}
        paths = zip(hierarchy.leaves, hierarchy.leaf_paths, strict=True)
        missing = [leaf for leaf, path in paths if path not in trained]
        if missing:
            methods = [repr(source.split.method) for source in sources if source.split]
            where = f"in the split {' and '.join(methods)}, " if methods else ""
            if len(sets) > 1:
                where = f"with fold {held_out} held out, "
            problem = (
                f"{where}there is no training image of {', '.join(missing)} (hierarchy "
                f"{hierarchy.name!r})"
            )
            if custom:
                raise InputError(f"{problem}; add images, or use another split or hierarchy")
            _LOGGER.warning(problem)


def training_sets(sources: Sequence[Source]) -> dict[str, list[int]]:
    """Return the training images of every network by the part that tests it, "" for none."""
    by_source = [_training_sets(source) for source in sources]
    kinds = {frozenset(sets) - {""} for sets in by_source} - {frozenset()}
    if len(kinds) > 1:
        listed = "; ".join(f"{s.name}: {s.split.method}" for s in sources if s.split is not None)
        raise InputError(
            f"all datasets must have train and test parts, or equal folds, not {listed}"
        )
    names = [name for sets in by_source for name in sets if name] or [""]
    # A dataset without test part contributes the same images to all networks.
    return {
        name: [index for sets in by_source for index in sets.get(name, sets.get("", []))]
        for name in dict.fromkeys(names)
    }


def _training_sets(source: Source) -> dict[str, list[int]]:
    split = source.split
    if split is None:
        return {"": list(source.positions)}
    parts = dict(split.parts)
    if "train" in parts:
        return {"test" if "test" in parts else "": source.part("train")}
    if len(parts) < 2:
        raise InputError(
            f"the split {split.method!r} has only the part {', '.join(parts)}; it needs the parts "
            "train and test, or at least two folds"
        )
    held_out = {part: set(source.part(part)) for part in parts}
    return {part: [n for n in source.positions if n not in kept] for part, kept in held_out.items()}


def _check_official(config: TrainingConfig, folder: Path, split: Split) -> None:
    """Refuse an official split without training part; warn if the recipe has another split."""
    sizes = ", ".join(f"{part} ({len(names):,} images)" for part, names in split.parts)
    other = "for another split, use --set split=80/20 or --split FILE"
    if "train" not in dict(split.parts):
        raise InputError(f"{folder} has the parts {sizes}, but no part train; {other}")
    if config.recipe.split != split.method and is_main_process():
        _LOGGER.warning(f"{folder} has the parts {sizes}; training on train; {other}")
