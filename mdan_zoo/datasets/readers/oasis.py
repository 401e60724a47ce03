"""OASIS, the Open Affective Standardized Image Set (Kurdi, Lozano & Banaji, 2017).

900 photographs, each rated by about 100 people for valence and arousal on a scale of 1 to 7. The
tree is the circumplex: pleasant or not, and calm or aroused within each.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from statistics import NormalDist

from mdan_zoo.datasets.sample import Sample
from mdan_zoo.errors import DatasetError, HierarchyError
from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.hierarchy.tree import Hierarchy

VALENCE_THRESHOLD = 4.0
"""The middle of the scale: from here on an image counts as positive."""

AROUSAL_THRESHOLD = 3.73
"""The median of the 900 mean ratings: from here on an image counts as arousing."""

_TREE = "circumplex4"
_TABLES = ("OASIS.csv", "norms.csv")
_COLUMNS = ("theme", "valence_mean", "valence_sd", "arousal_mean", "arousal_sd")


def read_oasis(
    folder: Path, hierarchy: Hierarchy | None = None, *, label_std_scale: float = 1.0
) -> list[Sample]:
    """Read the images and norms of OASIS.

    The single ratings are taken to be normally distributed with the published mean and standard
    deviation, so an image has a probability for each quadrant, rather than the hard label that
    its mean alone would give.

    Args:
        folder: Holds `OASIS.csv` as published (or `norms.csv` with the same columns) and the
            folder `images` with a file `<theme>.jpg` for every row.
        hierarchy: The tree that the labels are meant for, "circumplex4" by default. The ratings
            give the classes of no other.
        label_std_scale: Factor on the raters' standard deviations. At 1 the distribution is that
            of the raters; towards 0 it becomes the hard label.

    Returns:
        A sample for each row, in the table's order.

    Raises:
        HierarchyError: The tree has other classes.
        DatasetError: The table or an image is missing, or a value is not a rating.
    """
    if hierarchy is not None:
        _check_classes(hierarchy)
    table = _find_table(folder)
    rows = _read_rows(table)
    samples = [_read_sample(row, folder, table, label_std_scale) for row in rows]
    missing = [sample.image for sample in samples if not sample.image.is_file()]
    if missing:
        raise DatasetError(
            f"{len(missing)} of the {len(samples)} images of {table} are missing, "
            f"such as {missing[0]}"
        )
    return samples


def read_norms(folder: Path) -> list[dict[str, str]]:
    """Return the rows of the table of norms, by the names of its columns in small letters.

    Raises:
        DatasetError: The table is missing or damaged.
    """
    return _read_rows(_find_table(folder))


def _check_classes(hierarchy: Hierarchy) -> None:
    own = get_hierarchy(_TREE)
    if (hierarchy.levels, hierarchy.parents) != (own.levels, own.parents):
        raise HierarchyError(
            f"the classes of OASIS are made from its ratings for the tree {own.name!r}; hierarchy "
            f"{hierarchy.name!r} does not fit"
        )


def _find_table(folder: Path) -> Path:
    for name in _TABLES:
        if (folder / name).is_file():
            return folder / name
    raise DatasetError(
        f"{folder} is not a copy of OASIS: it contains none of {', '.join(_TABLES)}; "
        "expected a folder 'images' and the table of norms"
    )


def _read_rows(table: Path) -> list[dict[str, str]]:
    # The published table has bare carriage returns for line ends; splitlines knows them all.
    try:
        lines = table.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DatasetError(f"{table} is not UTF-8: {error}") from error
    found = list(csv.DictReader(lines))
    long = [number for number, row in enumerate(found, start=2) if None in row]
    if long:
        raise DatasetError(f"{table}: line {long[0]} has more fields than the header")
    rows = [
        {(key or "").strip().lower(): (value or "").strip() for key, value in row.items()}
        for row in found
    ]
    if not rows:
        raise DatasetError(f"{table} has no rows")
    missing = [column for column in _COLUMNS if column not in rows[0]]
    if missing:
        raise DatasetError(f"{table} lacks the columns {', '.join(missing)}")
    counts = Counter(row["theme"] for row in rows)
    repeated = [repr(theme) for theme, count in counts.items() if count > 1]
    if repeated:
        more = f" and {len(repeated) - 5} more" if len(repeated) > 5 else ""
        raise DatasetError(f"{table} has several rows of {', '.join(repeated[:5])}{more}")
    return rows


def _read_sample(
    row: Mapping[str, str], folder: Path, table: Path, label_std_scale: float
) -> Sample:
    theme = row["theme"]
    valence, arousal = (_read_rating(row, name, table) for name in ("valence", "arousal"))
    high_valence = _share_above(valence, VALENCE_THRESHOLD, label_std_scale)
    high_arousal = _share_above(arousal, AROUSAL_THRESHOLD, label_std_scale)
    polarity = "positive" if valence.mean >= VALENCE_THRESHOLD else "negative"
    aroused = arousal.mean >= AROUSAL_THRESHOLD
    quadrants = {
        "gloomy": (1 - high_valence) * (1 - high_arousal),
        "distressed": (1 - high_valence) * high_arousal,
        "serene": high_valence * (1 - high_arousal),
        "excited": high_valence * high_arousal,
    }
    calm, excited = ("serene", "excited") if polarity == "positive" else ("gloomy", "distressed")
    tree = get_hierarchy(_TREE)
    return Sample(
        image=folder / "images" / row.get("file", f"{theme}.jpg"),
        labels=(tree.index(0, polarity), tree.index(1, excited if aroused else calm)),
        distribution=tuple(quadrants[leaf] for leaf in tree.leaves),
        group=re.sub(r"\s*\d+$", "", theme).lower(),
        ratings=(("valence", valence.mean), ("arousal", arousal.mean)),
    )


def _read_rating(row: Mapping[str, str], name: str, table: Path) -> NormalDist:
    """Return the distribution of the single ratings of one image."""
    try:
        mean, deviation = float(row[f"{name}_mean"]), float(row[f"{name}_sd"])
    except ValueError as error:
        raise DatasetError(f"{table}: the {name} of {row['theme']!r} is no number") from error
    if not (1 <= mean <= 7 and 0 < deviation <= 6):
        raise DatasetError(
            f"{table}: {row['theme']!r} has {name} {mean} with deviation {deviation}; "
            "ratings run from 1 to 7"
        )
    return NormalDist(mean, deviation)


def _share_above(rating: NormalDist, threshold: float, label_std_scale: float) -> float:
    scaled = NormalDist(rating.mean, max(rating.stdev * label_std_scale, 1e-6))
    return 1 - scaled.cdf(threshold)
