"""Distillation: labels mixed with the predictions of teachers.

Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network, 2015.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mdan_zoo.datasets.files import read_cells, read_number
from mdan_zoo.datasets.sample import Sample
from mdan_zoo.errors import DatasetError
from mdan_zoo.hierarchy.tree import Hierarchy

_SUM_TOLERANCE = 0.01  # of rounded probabilities
_LOGGER = logging.getLogger("mdan_zoo.training")


def mix_teacher_predictions(
    samples: Sequence[Sample], files: Sequence[Path], hierarchy: Hierarchy, weight: float
) -> list[Sample]:
    """Return the samples with distributions mixed with the mean prediction of the teachers.

    Args:
        samples: The labelled images.
        files: Tables written by `mdan-zoo predict --format csv`, one for each teacher. Relative
            names in them are relative to the current folder.
        hierarchy: The hierarchy of the labels and predictions.
        weight: Weight of the predictions; that of the labels is 1 - weight.

    Returns:
        Samples whose distribution is the mixture, at the finest level of their label. Those that
        are not in the tables are unchanged.

    Raises:
        DatasetError: A table is not as expected, lists other images than the first one, or none of
            the images; probabilities do not sum to 1 at a level, or differ for the same image.
    """
    tables = [_read(path, hierarchy) for path in files]
    for path, table in zip(files[1:], tables[1:], strict=True):
        if table.keys() != tables[0].keys():
            raise DatasetError(
                f"{path} has predictions for {len(table):,} images that are not the "
                f"{len(tables[0]):,} images of {files[0]}"
            )
    mixed = []
    count = 0
    for sample in samples:
        name = os.path.abspath(sample.image)
        if tables and name in tables[0]:
            level = len(sample.labels) - 1
            predicted = np.mean([table[name][level] for table in tables], axis=0)
            shares = (1 - weight) * np.array(sample.distribution) + weight * predicted
            sample = dataclasses.replace(sample, distribution=tuple(shares.tolist()))
            count += 1
        mixed.append(sample)
    if files and not count:
        example = next(iter(tables[0]))
        raise DatasetError(
            f"none of the {len(samples):,} images is in {files[0]}, which lists {example}"
        )
    _LOGGER.info(f"teacher predictions for {count:,} of {len(samples):,} images")
    return mixed


def _read(path: Path, hierarchy: Hierarchy) -> dict[str, list[npt.NDArray[np.float64]]]:
    """Return the probabilities of every level by the absolute path of the image."""
    header, rows = read_cells(path)
    wanted = [
        [f"{name}:{label}" for label in labels]
        for name, labels in zip(hierarchy.level_names, hierarchy.levels, strict=True)
    ]
    needed = ["image", *itertools.chain(*wanted)]
    missing = [name for name in needed if name not in header]
    if missing:
        raise DatasetError(
            f"{path} has no column {missing[0]!r}; a teacher's predictions are those of a model "
            f"with the hierarchy {hierarchy.name}, as written by mdan-zoo predict --format csv"
        )
    columns = [[header.index(name) for name in level] for level in wanted]
    image, error = header.index("image"), header.index("error") if "error" in header else None
    table: dict[str, list[npt.NDArray[np.float64]]] = {}
    for row in rows:
        if error is not None and row[error]:
            continue
        about = f"{path}: {row[image]}: "
        predicted = [
            np.array([read_number(row[c], about + header[c], 0, 1) for c in level])
            for level in columns
        ]
        for name, level in zip(hierarchy.level_names, predicted, strict=True):
            if not math.isclose(level.sum(), 1, abs_tol=_SUM_TOLERANCE):
                raise DatasetError(
                    f"{about}the probabilities of level {name} must sum to 1, not {level.sum():.4g}"
                )
        known = table.setdefault(os.path.abspath(row[image]), predicted)
        if not all(map(np.array_equal, known, predicted)):
            raise DatasetError(
                f"{about}it has two rows with different predictions; pass the table of every "
                "teacher with its own --teacher-predictions"
            )
    if not table:
        raise DatasetError(f"{path} has no predictions")
    return table
