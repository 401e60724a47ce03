"""EmoSet-118K: 118,102 images under Mikels' eight emotions, in 80/5/15 (Yang et al., ICCV 2023).

The annotations of scenes, objects and other attributes are not read and need not be present.
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
    """Read the three splits of EmoSet-118K, in the order of their files.

    If `info.json` exists, it must number the classes as the release does.
    """
    if not all((folder / f"{split}.json").is_file() for split in _SPLITS):
        layout = "train.json, val.json, test.json, info.json and image/<emotion>/"
        raise layout_error(folder, "EmoSet-118K", layout)
    _check_ids(folder / "info.json")
    labels = Labels(hierarchy, _RELEASE)
    samples = []
    for split in _SPLITS:
        path = folder / f"{split}.json"
        for number, row in enumerate(_load(path), start=1):
            place = f"{path}, row {number}"
            texts = isinstance(row, list) and all(isinstance(cell, str) for cell in row)
            if not texts or len(row) not in (3, 4):
                raise DatasetError(
                    f"{place} must be [emotion, image, annotation] or "
                    f"[emotion, id, image, annotation], not {row!r}"
                )
            emotion, image = row[0], row[-2]
            samples.append(labels.hard(folder / image, labels.leaf(emotion, place), image, split))
    refuse_missing([sample.image for sample in samples], folder)
    return labels.checked(samples, folder)


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
        raise DatasetError(f"{path} is not valid JSON: {error}") from error
