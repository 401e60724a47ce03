"""Predicted probabilities of labelled images, the input of all metrics and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mdan_zoo._util.files import open_atomically
from mdan_zoo._util.progress import progress_bar
from mdan_zoo.datasets.sample import Sample
from mdan_zoo.errors import DatasetError, ImageError, printable
from mdan_zoo.evaluation.metrics import Ints, Outcomes
from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.inference.prediction import Branch

if TYPE_CHECKING:
    from mdan_zoo.inference.predictor import Predictor

Values = npt.NDArray[np.floating]

_ERRORS_SHOWN = 20


@dataclass(frozen=True, eq=False)
class Probabilities:
    """Predicted probabilities of N labelled images.

    Attributes:
        hierarchy: The emotion hierarchy.
        alpha: Weight of the local branch in P_O = alpha P_L + (1 - alpha) P_G; None for a network
            whose overall probabilities are not such a mean.
        images: Names of the images.
        labels: Class ids, (N, labelled levels), -1 without a label. The labelled levels are the
            coarsest ones, down to the finest at which any image has a label.
        by_branch: Probabilities by branch, float32 (N, K_l) for every level. Without "overall" if
            it follows from alpha or equals the only branch.
        dimensions: Predicted ratings by name, (N,) each, if the model has dimensions.
    """

    hierarchy: Hierarchy
    alpha: float | None
    images: tuple[str, ...]
    labels: Ints
    by_branch: Mapping[Branch, tuple[Values, ...]]
    dimensions: Mapping[str, Values] = field(default_factory=dict)

    @property
    def branches(self) -> tuple[Branch, ...]:
        """The branches that differ: only "overall" for a network with one branch."""
        if len(self.by_branch) == 1:
            return ("overall",)
        return ("overall", *(branch for branch in self.by_branch if branch != "overall"))

    @property
    def labelled_levels(self) -> tuple[str, ...]:
        """Names of the levels at which images have labels, coarse to fine."""
        return self.hierarchy.level_names[: self.labels.shape[1]]

    def labelled(self, level: int) -> slice | npt.NDArray[np.bool_]:
        """Return an index that selects the images with a label at a level."""
        known = self.labels[:, level] >= 0
        return slice(None) if known.all() else known

    def of(self, branch: Branch, level: int) -> Values:
        """Return the probabilities of a branch at a level, (N, K_l)."""
        if branch in self.by_branch:
            return self.by_branch[branch][level]
        return self.overall(level, self.alpha)

    def overall(self, level: int, alpha: float | None) -> Values:
        """Return P_O = alpha P_L + (1 - alpha) P_G of a level, (N, K_l), for any alpha."""
        if alpha is None:
            return next(iter(self.by_branch.values()))[level]
        by_local, by_global = (
            self.by_branch[branch][level].astype(np.float64) for branch in ("local", "global")
        )
        overall: Values = alpha * by_local + (1 - alpha) * by_global
        return overall

    def outcomes(self, branch: Branch, level: int) -> Outcomes:
        """Return the outcomes of a branch on the images with a label at a level."""
        rows = self.labelled(level)
        return Outcomes.of(self.of(branch, level)[rows], self.labels[rows, level])

    def save(self, path: Path) -> None:
        """Write an .npz file.

        Its arrays are alpha (0 if there is none); images; and for a level named "polarity",
        labels_polarity (N,) if it is a labelled level, classes_polarity (K_l,), and for every
        branch an array such as local_polarity (N, K_l). For a dimension named "valence",
        dimension_valence (N,).
        """
        arrays: dict[str, npt.NDArray[np.generic]] = {
            "alpha": np.array(self.alpha or 0.0),
            "images": np.array(self.images),
        }
        for level, name in enumerate(self.hierarchy.level_names):
            if name in self.labelled_levels:
                arrays[f"labels_{name}"] = self.labels[:, level]
            arrays[f"classes_{name}"] = np.array(self.hierarchy.levels[level])
            for branch, levels in self.by_branch.items():
                arrays[f"{branch}_{name}"] = levels[level]
        for name, values in self.dimensions.items():
            arrays[f"dimension_{name}"] = values
        with open_atomically(path) as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def load_probabilities(paths: Sequence[Path], hierarchy: Hierarchy) -> Probabilities:
    """Read files written by `Probabilities.save`, such as those of all folds, as one."""
    files = [dict(np.load(path)) for path in paths]
    joined = {
        name: np.concatenate([file[name] for file in files]) if array.ndim else array
        for name, array in files[0].items()
        if not name.startswith("classes_") and all(name in file for file in files)
    }
    names = hierarchy.level_names
    branches: tuple[Branch, ...] = ("overall", "local", "global")
    by_branch = {
        branch: tuple(joined[f"{branch}_{name}"] for name in names)
        for branch in branches
        if f"{branch}_{names[0]}" in joined
    }
    labels = [joined[f"labels_{name}"] for name in names if f"labels_{name}" in joined]
    return Probabilities(
        hierarchy,
        float(joined["alpha"]) if {"local", "global"} <= by_branch.keys() else None,
        tuple(joined["images"].tolist()),
        np.stack(labels, axis=1),
        by_branch,
    )


def predict_probabilities(
    predictor: Predictor,
    samples: Sequence[Sample],
    names: Sequence[str],
    batch_size: int | None = None,
) -> Probabilities:
    """Predict labelled images, whose names in the result are `names`.

    Raises:
        DatasetError: No images, or a label is not in the hierarchy of the model.
        ImageError: Lists the images that cannot be read or predicted.
    """
    tree = predictor.hierarchy
    if not samples:
        raise DatasetError("no images to evaluate")
    paths = {path[:end] for path in tree.leaf_paths for end in range(1, tree.depth + 1)}
    for sample in samples:
        if sample.labels not in paths:
            raise DatasetError(
                f"{sample.image} has the class ids {sample.labels}, which are not a path of "
                f"the hierarchy {tree!r}; read the dataset with this hierarchy"
            )
    network = predictor.network
    wanted: tuple[Branch, ...] = network.branches
    if network.alpha is None and len(wanted) != 1:
        wanted = ("overall", *wanted)
    arrays: dict[Branch, tuple[Values, ...]] = {
        branch: tuple(np.empty((len(samples), size), np.float32) for size in tree.sizes)
        for branch in wanted
    }
    ratings = {scale.name: np.empty(len(samples), np.float32) for scale in network.dimensions}
    errors = []
    stream = predictor.stream([sample.image for sample in samples], batch_size=batch_size)
    progress = progress_bar("evaluating", iterable=stream, total=len(samples))
    for row, prediction in enumerate(progress):
        if prediction.error is not None:
            errors.append(f"  {printable(prediction.image)}: {prediction.error}")
            continue
        for branch, levels in arrays.items():
            for array, values in zip(levels, prediction.probabilities[branch], strict=True):
                array[row] = values
        for rating in prediction.dimensions:
            ratings[rating.name][row] = rating.value
    if errors:
        heading = f"{len(errors)} of the {len(samples)} images cannot be evaluated:"
        if len(errors) > _ERRORS_SHOWN:
            errors[_ERRORS_SHOWN:] = [f"  and {len(errors) - _ERRORS_SHOWN} more"]
        raise ImageError(None, "\n".join([heading, *errors]))
    labels = np.full((len(samples), max(len(sample.labels) for sample in samples)), -1, np.int64)
    for row, sample in enumerate(samples):
        labels[row, : len(sample.labels)] = sample.labels
    return Probabilities(tree, network.alpha, tuple(names), labels, arrays, ratings)
