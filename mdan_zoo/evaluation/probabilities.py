"""One pass over the images: the probabilities from which every number and figure follows."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mdan_zoo._util.files import open_atomically
from mdan_zoo.datasets.sample import Sample
from mdan_zoo.errors import DatasetError, ImageError
from mdan_zoo.evaluation.metrics import Ints
from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.inference.prediction import BRANCHES, Branch, Prediction

if TYPE_CHECKING:
    from mdan_zoo.inference.predictor import Predictor

Values = npt.NDArray[np.floating]

_ERRORS_SHOWN = 20


@dataclass(frozen=True, eq=False)
class Probabilities:
    """What a network says of N labelled images.

    Attributes:
        hierarchy: The emotion tree.
        alpha: Weight of the local branch in P_O.
        images: The images' names.
        labels: Class ids, (N, levels).
        local: P_L, float32 (N, K_l) for every level; empty for a flat network.
        global_: P_G, float32 (N, K_l) for every level.
    """

    hierarchy: Hierarchy
    alpha: float
    images: tuple[str, ...]
    labels: Ints
    local: tuple[Values, ...]
    global_: tuple[Values, ...]

    @property
    def branches(self) -> tuple[Branch, ...]:
        """The branches that differ: for a flat network, whose P_O is P_G, only "overall"."""
        return BRANCHES if self.local else ("overall",)

    def of(self, branch: Branch, level: int) -> Values:
        """Return a branch's probabilities of a level, (N, K_l)."""
        if branch == "overall":
            return self.overall(level, self.alpha)
        return (self.local if branch == "local" else self.global_)[level]

    def overall(self, level: int, alpha: float) -> Values:
        """Return P_O = alpha P_L + (1 - alpha) P_G of a level, (N, K_l), for any alpha."""
        if not self.local:
            return self.global_[level]
        by_local, by_global = (p[level].astype(np.float64) for p in (self.local, self.global_))
        overall: Values = alpha * by_local + (1 - alpha) * by_global
        return overall

    def save(self, path: Path) -> None:
        """Write everything to an .npz file that `numpy.load` reads.

        Its arrays are alpha; images; and for a level named "polarity", labels_polarity (N,),
        classes_polarity (K_l,), local_polarity and global_polarity (N, K_l).
        """
        arrays: dict[str, npt.NDArray[np.generic]] = {
            "alpha": np.array(self.alpha),
            "images": np.array(self.images),
        }
        for level, name in enumerate(self.hierarchy.level_names):
            arrays[f"labels_{name}"] = self.labels[:, level]
            arrays[f"classes_{name}"] = np.array(self.hierarchy.levels[level])
            arrays[f"global_{name}"] = self.global_[level]
            if self.local:
                arrays[f"local_{name}"] = self.local[level]
        with open_atomically(path) as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def predict_probabilities(
    predictor: Predictor,
    samples: Sequence[Sample],
    names: Sequence[str],
    batch_size: int | None = None,
) -> Probabilities:
    """Run a network on labelled images, with its own preprocessing.

    Args:
        predictor: The network. Its `branch` and `decode` do not matter here.
        samples: The images, with labels of the network's tree.
        names: What the images are called in the result.
        batch_size: How many images the network gets at once.

    Raises:
        DatasetError: There are no images, or a label is not of the network's tree.
        ImageError: Images cannot be read or predicted; lists them.
    """
    tree = predictor.hierarchy
    labels = _check_labels(samples, tree)
    flat = predictor.config.architecture == "flat"
    wanted: tuple[Branch, ...] = ("global",) if flat else ("local", "global")
    arrays: dict[Branch, tuple[Values, ...]] = {
        branch: tuple(np.empty((len(samples), size), np.float32) for size in tree.sizes)
        for branch in wanted
    }
    errors = []
    for row, prediction in enumerate(_stream(predictor, samples, batch_size)):
        if prediction.error is not None:
            errors.append(f"{prediction.image}: {prediction.error}")
            continue
        for branch, levels in arrays.items():
            for array, values in zip(levels, prediction.probabilities[branch], strict=True):
                array[row] = values
    if errors:
        raise ImageError(_list_errors(errors, len(samples)))
    alpha = 0.0 if flat else predictor.config.options.alpha
    return Probabilities(
        tree, alpha, tuple(names), labels, arrays.get("local", ()), arrays["global"]
    )


def _stream(
    predictor: Predictor, samples: Sequence[Sample], batch_size: int | None
) -> Iterable[Prediction]:
    from tqdm import tqdm

    stream = predictor.stream([sample.image for sample in samples], batch_size=batch_size)
    quiet = not sys.stderr.isatty()
    return tqdm(stream, total=len(samples), unit="image", disable=quiet)


def _check_labels(samples: Sequence[Sample], tree: Hierarchy) -> Ints:
    """Return the labels, (N, levels), if they are paths of the tree."""
    if not samples:
        raise DatasetError("there are no images to evaluate on")
    paths = set(tree.leaf_paths)
    for sample in samples:
        if sample.labels not in paths:
            raise DatasetError(
                f"{sample.image} has the class ids {sample.labels}, which are no path of the "
                f"network's tree {tree!r}; read the data set with that tree"
            )
    return np.array([sample.labels for sample in samples], np.int64)


def _list_errors(errors: Sequence[str], count: int) -> str:
    lines = [f"{len(errors)} of the {count} images cannot be evaluated:"]
    lines += [f"  {error}" for error in errors[:_ERRORS_SHOWN]]
    if len(errors) > _ERRORS_SHOWN:
        lines.append(f"  and {len(errors) - _ERRORS_SHOWN} more")
    return "\n".join(lines)
