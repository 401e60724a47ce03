"""Pictures that weights were trained on must not be taken for new ones."""

from __future__ import annotations

from collections.abc import Iterable

from mdan_zoo.datasets.splits import Split, get_split, list_splits
from mdan_zoo.manifest import load_manifest


def count_trained_on(weights_sha256: str, dataset: str, pictures: Iterable[str]) -> int | None:
    """Count the pictures that released weights were trained on.

    Args:
        weights_sha256: Hash of the weight file.
        dataset: The data set of the pictures.
        pictures: Their names, relative to the data set's folder.

    Returns:
        None where that is not known: the weights are not in the manifest, or the package does not
        have the list of their training pictures.
    """
    for entry in load_manifest().values():
        training = (entry.details or {}).get("training") or {}
        if entry.sha256 != weights_sha256:
            continue
        for split in map(get_split, list_splits()):
            if split.sha256 == training.get("split_sha256"):
                return len(_names(split) & set(pictures)) if split.dataset == dataset else 0
    return None


def _names(split: Split) -> set[str]:
    return {f"{split.folder}/{name}" for _, names in split.parts for name in names}
