"""Emotion6: 1,980 photographs with votes for Ekman's six and neutral (Peng et al., CVPR 2015).

Not to be confused with Emotion-6 of Panda et al. (2018); see `read_emotion6_panda`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mdan_zoo.datasets.files import LOGGER, layout_error, read_cells, read_number, refuse_missing
from mdan_zoo.datasets.labels import Labels
from mdan_zoo.datasets.sample import Sample
from mdan_zoo.errors import DatasetError
from mdan_zoo.hierarchy.tree import Hierarchy

_TABLE = "ground_truth.txt"
_EMOTIONS = ("anger", "disgust", "fear", "joy", "sadness", "surprise", "neutral")


def read_emotion6_peng(folder: Path, hierarchy: Hierarchy) -> list[Sample]:
    """Read Emotion6: the distribution of the votes, and the mean valence and arousal.

    "Neutral" is an answer of the raters but not a class of the dataset. If the hierarchy has no
    such leaf, its share is dropped and the others are scaled to sum to one; images with neutral
    votes only are left out, which is logged. The class is the emotion with most votes; a tie is
    decided by the folder of the image.
    """
    table = folder / _TABLE
    if not table.is_file():
        raise layout_error(folder, "Emotion6", f"{_TABLE} and images/<emotion>/<n>.jpg")
    header, rows = read_cells(table, delimiter="\t")
    columns = [cell.strip("[] ").lower().removeprefix("prob.").strip() for cell in header]
    needed = ("image_filename", "valence", "arousal", *_EMOTIONS)
    if not set(needed) <= set(columns):
        raise DatasetError(
            f"{table} has the columns {', '.join(columns)}; expected {', '.join(needed)}"
        )
    found = [dict(zip(columns, row, strict=True)) for row in rows]
    refuse_missing([folder / "images" / row["image_filename"] for row in found], table)
    labels = Labels(hierarchy)
    read = [_read_sample(row, table, labels) for row in found]
    samples = [sample for sample in read if sample is not None]
    if len(samples) < len(read):
        LOGGER.warning(
            f"{len(read) - len(samples)} images of {table} are left out: all their votes are "
            "neutral"
        )
    return labels.checked(samples, folder)


def _read_sample(row: Mapping[str, str], table: Path, labels: Labels) -> Sample | None:
    """Return the sample of a row, or None if it has no votes for a leaf of the hierarchy."""
    name = row["image_filename"]
    shares = [0.0] * len(labels.hierarchy.leaves)
    for emotion in _EMOTIONS:
        share = read_number(row[emotion], f"{table}: {emotion} of {name}", 0, 1)
        if emotion != "neutral" or labels.has(emotion):
            shares[labels.leaf(emotion, table)] = share
    if not any(shares):
        return None
    return labels.soft(
        table.parent / "images" / name,
        shares,
        name,
        preferred=labels.leaf(name.partition("/")[0], f"{table}, {name}"),
        ratings=tuple(
            (rating, read_number(row[rating], f"{table}: {rating} of {name}"))
            for rating in ("valence", "arousal")
        ),
    )
