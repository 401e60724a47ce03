"""EmoSet-118K: 118,102 images under Mikels' eight emotions, in 80/5/15 (Yang et al., ICCV 2023).

The annotations of scenes, objects and the like are not read; a copy may lack them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mdan_zoo.datasets.files import layout_error, read_text, refuse_missing
from mdan_zoo.datasets.labels import Labels
from mdan_zoo.datasets.sample import Sample
from mdan_zoo.errors import DatasetError
from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.hierarchy.tree import Hierarchy

_RELEASE = get_hierarchy("mikels8")
_SPLITS = ("train", "val", "test")


def read_emoset(folder: Path, hierarchy: Hierarchy) -> list[Sample]:
    """Read EmoSet-118K.

    Args:
        folder: Holds `train.json`, `val.json`, `test.json` and `image/<emotion>/`. The class ids of
            `info.json` are compared with those known where the file is there.
        hierarchy: A tree with Mikels' eight emotions, such as "mikels8".

    Returns:
        The samples of the three splits, in the order of the files.

    Raises:
        DatasetError: A split or image is missing, a class is not in the tree, or `info.json`
            numbers the classes in another way.
    """
    if not all((folder / f"{split}.json").is_file() for split in _SPLITS):
        raise layout_error(
            folder, "EmoSet-118K", "train.json, val.json, test.json, info.json and image/<emotion>/"
        )
    _check_ids(folder / "info.json")
    labels = Labels(hierarchy, _RELEASE)
    samples = []
    for split in _SPLITS:
        path = folder / f"{split}.json"
        for number, row in enumerate(_load(path), start=1):
            place = f"{path}, row {number}"
            emotion, image = _read_row(row, place)
            samples.append(labels.hard(folder / image, labels.leaf(emotion, place), image, split))
    refuse_missing([sample.image for sample in samples], folder)
    return labels.checked(samples, folder)


def _read_row(row: object, place: str) -> tuple[str, str]:
    """Return emotion and image of [emotion, image, annotation] or [emotion, id, image, ...]."""
    if not isinstance(row, list) or len(row) not in (3, 4) or not all(map(_is_text, row)):
        raise DatasetError(
            f"{place} must be [emotion, image, annotation] or "
            f"[emotion, id, image, annotation], not {row!r}"
        )
    return row[0], row[-2]


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _check_ids(path: Path) -> None:
    """Check the ids in info.json: {"emotion": {"label2idx": ...}} or {"label2idx": ...}."""
    if not path.is_file():
        return
    info = _load(path)
    emotion = info.get("emotion", info) if isinstance(info, dict) else {}
    ids = emotion.get("label2idx") if isinstance(emotion, dict) else None
    known = dict(zip(_RELEASE.leaves, dict(_RELEASE.release_ids)["emoset"], strict=True))
    if ids != known:
        raise DatasetError(f"{path} must give the emotions the ids {known}, not {ids}")


def _load(path: Path) -> Any:
    try:
        return json.loads(read_text(path))
    except ValueError as error:
        raise DatasetError(f"{path}: {error}") from error
