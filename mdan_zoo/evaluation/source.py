"""Evaluation images: selection of a dataset, split and folds."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mdan_zoo.datasets.files import shown
from mdan_zoo.datasets.registry import folder_of
from mdan_zoo.datasets.sample import Sample
from mdan_zoo.datasets.split_methods import make_split
from mdan_zoo.datasets.splits import Split, select, split_sha256
from mdan_zoo.errors import DatasetError, InputError, did_you_mean
from mdan_zoo.evaluation.levels import Comparison, LabelMap, read_for_model
from mdan_zoo.hierarchy.tree import Hierarchy


@dataclass(frozen=True)
class SampleSource:
    """Origin of the evaluated samples.

    Attributes:
        folder: Folder of the dataset; image names are relative to it.
        split: Method of the split, such as "80/20, seed 0"; "all" for all images.
        split_sha256: Hash of the split.
        part: Part of the split; "" for all images.
        folds: Name and sample indices of every fold.
        division: The split that defines the folds, if it was created for the evaluation.
        classes: Pairs (class of the dataset, class of the model or "" if it has none), if the
            labels are those of another hierarchy.
        left_out: Number of images without a class of the model, by class of the dataset.
    """

    dataset: str = ""
    folder: Path | None = None
    split: str = ""
    split_sha256: str = ""
    part: str = ""
    folds: tuple[tuple[str, tuple[int, ...]], ...] = ()
    division: Split | None = None
    classes: tuple[tuple[str, str], ...] = ()
    left_out: tuple[tuple[str, int], ...] = ()


def find_samples(  # noqa: PLR0913 - all but three by keyword
    dataset: str,
    folder: str | os.PathLike[str],
    hierarchy: Hierarchy,
    *,
    split: Split | None = None,
    part: str | None = None,
    folds: int | None = None,
    seed: int = 0,
    level: str | None = None,
    label_map: LabelMap | None = None,
    exclude: str | os.PathLike[str] | None = None,
) -> tuple[list[Sample], SampleSource]:
    """Read a dataset and select the samples to evaluate.

    If the dataset has other classes than the model, the finest common level is compared: samples
    have labels down to that level, and images without a counterpart are left out.

    Args:
        dataset: One of `mdan_zoo.datasets.registry.DATASETS`.
        folder: Folder of the dataset; for "table", optionally the table itself.
        hierarchy: The hierarchy of the network.
        split: A split of the dataset. Default: the official split, if any.
        part: Part of the split. Default: "test", all parts if they are folds, or all images.
        folds: Number of folds to create, keeping groups and identical files together.
        seed: Random seed of the folds.
        level: Level of the hierarchy to compare at.
        label_map: The class of the model for each class of the dataset that has another name there.
        exclude: List of images to leave out; see `mdan_zoo.datasets.exclusion`.

    Raises:
        DatasetError: The folder does not contain the dataset, or the split does not match it.
        UnknownNameError: Unknown dataset, part or level.
        InputError: The label map is wrong, or `folds` is given but the split already has folds.
    """
    samples, comparison = read_for_model(dataset, folder, hierarchy, level, label_map, exclude)
    root = folder_of(Path(folder))
    fold_split = division = None
    if split is not None:
        if split.dataset != dataset:
            raise DatasetError(f"the split is of {split.dataset}, not of {dataset}")
        names = [name for name, _ in split.parts]
        if part is None and len(names) > 1 and all(name.isdigit() for name in names):
            fold_split = split
        else:
            part = part or "test"
            samples = [samples[index] for index in select(split, samples, root, part)]
    elif part is not None or any(sample.split for sample in samples):
        part = part or "test"
        chosen = _official_part(dataset, samples, root, part)
        split, samples = make_split(dataset, samples, root, "official"), chosen
    if folds is not None:
        if fold_split:
            raise InputError(f"the split {fold_split.method!r} has folds; remove folds={folds}")
        fold_split = division = make_split(dataset, samples, root, f"grouped-{folds}-fold", seed)
    method = split.method if split else "all"
    sha256 = split.sha256 if split else split_sha256(samples, [range(len(samples))])
    indices = _indices(fold_split, samples, root) if fold_split else ()
    source = SampleSource(dataset, root, method, sha256, part or "", indices, division)
    return _compared(samples, source, comparison) if comparison else (samples, source)


def _official_part(
    dataset: str, samples: Sequence[Sample], folder: Path, part: str
) -> list[Sample]:
    chosen = [sample for sample in samples if sample.split == part]
    if not chosen:
        known = sorted({sample.split for sample in samples} - {""})
        hint = "it has no official split; give a split file"
        hint = did_you_mean(part, known) if known else hint
        raise DatasetError(f"{dataset} in {folder} has no images in the part {part!r}: {hint}")
    return chosen


def _compared(
    samples: Sequence[Sample], source: SampleSource, comparison: Comparison
) -> tuple[list[Sample], SampleSource]:
    """Return the samples with classes of the model, and their source."""
    converted = [comparison.convert(sample) for sample in samples]
    kept = [index for index, sample in enumerate(converted) if sample is not None]
    position = {index: new for new, index in enumerate(kept)}
    folds = (
        (name, tuple(position[index] for index in indices if index in position))
        for name, indices in source.folds
    )
    left_out = Counter(
        comparison.name_of(sample)
        for sample, new in zip(samples, converted, strict=True)
        if new is None
    )
    if not kept:
        raise DatasetError(
            f"none of the {len(samples)} images has a class of the model; their classes are "
            + shown(left_out, 10)
        )
    return [sample for sample in converted if sample is not None], dataclasses.replace(
        source,
        folds=tuple(folds),
        classes=comparison.names,
        left_out=tuple(left_out.items()),
    )


def _indices(
    split: Split, samples: Sequence[Sample], folder: Path
) -> tuple[tuple[str, tuple[int, ...]], ...]:
    return tuple((name, tuple(select(split, samples, folder, name))) for name, _ in split.parts)
