"""Evaluation images: selection of a dataset, split and folds."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mdan_zoo.datasets.registry import folder_of, read_dataset
from mdan_zoo.datasets.sample import Sample
from mdan_zoo.datasets.split_methods import make_split
from mdan_zoo.datasets.splits import Split, select, split_sha256
from mdan_zoo.errors import DatasetError, InputError, did_you_mean
from mdan_zoo.hierarchy.tree import Hierarchy

_TEST = "test"
_EVERYTHING = "all"


@dataclass(frozen=True)
class SampleSource:
    """Origin of the evaluated samples.

    Attributes:
        dataset: Name of the dataset.
        folder: Folder of the dataset; image names are relative to it.
        split: Method of the split, such as "80/20, seed 0"; "all" for all images.
        split_sha256: Hash of the split.
        part: Part of the split; "" for all images.
        folds: Name and sample indices of every fold.
        division: The split that defines the folds, if it was created for the evaluation.
    """

    dataset: str = ""
    folder: Path | None = None
    split: str = ""
    split_sha256: str = ""
    part: str = ""
    folds: tuple[tuple[str, tuple[int, ...]], ...] = ()
    division: Split | None = None


def find_samples(
    dataset: str,
    folder: str | os.PathLike[str],
    hierarchy: Hierarchy,
    *,
    split: Split | None = None,
    part: str | None = None,
    folds: int | None = None,
    seed: int = 0,
) -> tuple[list[Sample], SampleSource]:
    """Read a dataset and select the samples to evaluate.

    Args:
        dataset: One of `mdan_zoo.datasets.registry.DATASETS`.
        folder: Folder of the dataset; for "table", optionally the table itself.
        hierarchy: The hierarchy of the network.
        split: A split of the dataset. Default: the official split, if any.
        part: Part of the split. Default: "test", or all parts if they are folds, or all images
            if there is no split.
        folds: Number of folds to create, keeping groups and identical files together.
        seed: Random seed of the folds.

    Raises:
        DatasetError: The folder does not contain the dataset, or the split does not match it.
        UnknownNameError: Unknown dataset or part.
        InputError: `folds` is given but the split already has folds.
    """
    samples = read_dataset(dataset, folder, hierarchy)
    source = SampleSource(dataset, folder_of(Path(folder)))
    if split is not None:
        if split.dataset != dataset:
            raise DatasetError(f"the split is of {split.dataset}, not of {dataset}")
        samples, source = _with_split(samples, source, split, part)
    elif part is not None or any(sample.split for sample in samples):
        samples, source = _with_official_split(samples, source, part or _TEST)
    else:
        sha256 = split_sha256(samples, [range(len(samples))])
        source = dataclasses.replace(source, split=_EVERYTHING, split_sha256=sha256)
    if folds is None:
        return samples, source
    if source.folds:
        raise InputError(f"the split {source.split!r} has folds already; remove folds={folds}")
    return samples, _with_new_folds(samples, source, folds, seed)


def _with_split(
    samples: Sequence[Sample], source: SampleSource, split: Split, part: str | None
) -> tuple[list[Sample], SampleSource]:
    folder = source.folder
    assert folder is not None
    source = dataclasses.replace(source, split=split.method, split_sha256=split.sha256)
    names = [name for name, _ in split.parts]
    if part is None and len(names) > 1 and all(name.isdigit() for name in names):
        folds = _folds_of(split, samples, folder)
        return list(samples), dataclasses.replace(source, folds=folds)
    part = part or _TEST
    indices = select(split, samples, folder, part)
    return [samples[index] for index in indices], dataclasses.replace(source, part=part)


def _with_new_folds(
    samples: Sequence[Sample], source: SampleSource, count: int, seed: int
) -> SampleSource:
    assert source.folder is not None
    method = f"grouped-{count}-fold"
    division = make_split(source.dataset, samples, source.folder, method, seed)
    folds = _folds_of(division, samples, source.folder)
    return dataclasses.replace(source, folds=folds, division=division)


def _folds_of(
    split: Split, samples: Sequence[Sample], folder: Path
) -> tuple[tuple[str, tuple[int, ...]], ...]:
    return tuple((name, tuple(select(split, samples, folder, name))) for name, _ in split.parts)


def _with_official_split(
    samples: Sequence[Sample], source: SampleSource, part: str
) -> tuple[list[Sample], SampleSource]:
    assert source.folder is not None
    chosen = [sample for sample in samples if sample.split == part]
    if not chosen:
        known = sorted({sample.split for sample in samples} - {""})
        raise DatasetError(
            f"{source.dataset} in {source.folder} has no images in the part {part!r}: "
            + (
                did_you_mean(part, known)
                if known
                else "it has no official split; give a split file"
            )
        )
    split = make_split(source.dataset, samples, source.folder, "official")
    about = dataclasses.replace(source, split=split.method, split_sha256=split.sha256, part=part)
    return chosen, about
