"""OASIS, the Open Affective Standardized Image Set (Kurdi, Lozano & Banaji, 2017).

900 photographs, each rated by about 100 people for valence and arousal on a scale of 1 to 7. The
classes are the quadrants of the circumplex model.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from statistics import NormalDist

from mdan_zoo.datasets.files import layout_error, read_cells, read_number, refuse_missing, shown
from mdan_zoo.datasets.sample import Sample
from mdan_zoo.errors import DatasetError, HierarchyError
from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.hierarchy.tree import Hierarchy

VALENCE_THRESHOLD = 4.0
"""The middle of the scale, from which an image is positive."""

AROUSAL_THRESHOLD = 3.73
"""The median of the 900 mean ratings, from which an image is arousing."""

_CIRCUMPLEX = get_hierarchy("circumplex4")
_TABLES = ("OASIS.csv", "norms.csv")
_COLUMNS = ("theme", "valence_mean", "valence_sd", "arousal_mean", "arousal_sd")


def read_oasis(
    folder: Path, hierarchy: Hierarchy = _CIRCUMPLEX, *, label_std_scale: float = 1.0
) -> list[Sample]:
    """Read the images and norms of OASIS, in the order of the table.

    The single ratings are assumed to be normally distributed with the published mean and standard
    deviation. An image thus has a probability for each quadrant, not only the class of its means.

    Args:
        folder: Contains `OASIS.csv` as published (or `norms.csv` with the same columns) and the
            folder `images` with a file `<theme>.jpg` for every row.
        hierarchy: With the classes of "circumplex4", images have a quadrant. With any other that
            has a level of the classes positive and negative, they have their polarity only.
        label_std_scale: Factor on the standard deviations of the raters. At 1 the distribution is
            that of the raters; towards 0 it becomes the hard label.
    """
    names = {frozenset(level): number for number, level in enumerate(hierarchy.levels)}
    if (hierarchy.levels, hierarchy.parents) == (_CIRCUMPLEX.levels, _CIRCUMPLEX.parents):
        level = 1
    elif frozenset(_CIRCUMPLEX.levels[0]) in names:
        level = names[frozenset(_CIRCUMPLEX.levels[0])]
    else:
        raise HierarchyError(
            "the classes of OASIS are computed from its ratings for the hierarchy "
            f"{_CIRCUMPLEX.name!r}, or for a level with only the classes positive and negative, "
            f"which the hierarchy {hierarchy.name!r} does not have"
        )
    table = _find_table(folder)
    samples = [
        _read_sample(row, table, label_std_scale, hierarchy, level) for row in read_norms(folder)
    ]
    refuse_missing([sample.image for sample in samples], table)
    return samples


def _find_table(folder: Path) -> Path:
    for table in (folder / name for name in _TABLES):
        if table.is_file():
            return table
    raise layout_error(folder, "OASIS", f"{' or '.join(_TABLES)} and images/<theme>.jpg")


def read_norms(folder: Path) -> list[dict[str, str]]:
    """Return the rows of the table of norms, by the names of its columns in lower case."""
    table = _find_table(folder)
    header, cells = read_cells(table)
    columns = [name.lower() for name in header]
    missing = [column for column in _COLUMNS if column not in columns]
    if missing:
        raise DatasetError(f"{table} lacks the columns {', '.join(missing)}")
    rows = [dict(zip(columns, row, strict=True)) for row in cells]
    counts = Counter(row["theme"] for row in rows)
    repeated = [repr(theme) for theme, count in counts.items() if count > 1]
    if repeated:
        raise DatasetError(f"{table} has several rows of {shown(repeated, 5)}")
    return rows


def _read_sample(
    row: Mapping[str, str], table: Path, label_std_scale: float, hierarchy: Hierarchy, level: int
) -> Sample:
    theme = row["theme"]
    valence, arousal = (_read_rating(row, name, table) for name in ("valence", "arousal"))
    high_valence = _share_above(valence, VALENCE_THRESHOLD, label_std_scale)
    high_arousal = _share_above(arousal, AROUSAL_THRESHOLD, label_std_scale)
    shares = {
        "negative": 1 - high_valence,
        "positive": high_valence,
        "gloomy": (1 - high_valence) * (1 - high_arousal),
        "distressed": (1 - high_valence) * high_arousal,
        "serene": high_valence * (1 - high_arousal),
        "excited": high_valence * high_arousal,
    }
    # The class is that of the means, which need not be the quadrant with the largest share.
    positive, aroused = valence.mean >= VALENCE_THRESHOLD, arousal.mean >= AROUSAL_THRESHOLD
    quadrant = ("gloomy", "distressed", "serene", "excited")[2 * positive + aroused]
    names = hierarchy.levels[level]
    found = names.index(quadrant if quadrant in names else ("negative", "positive")[positive])
    return Sample(
        image=table.parent / "images" / row.get("file", f"{theme}.jpg"),
        labels=hierarchy.paths(level)[found],
        distribution=tuple(shares[name] for name in names),
        group=re.sub(r"\s*\d+$", "", theme).lower(),
        ratings=(("valence", valence.mean), ("arousal", arousal.mean)),
    )


def _read_rating(row: Mapping[str, str], name: str, table: Path) -> NormalDist:
    """Return the distribution of the single ratings of one image."""
    what = f"{table}: the {name} of {row['theme']!r}"
    mean = read_number(row[f"{name}_mean"], what, 1, 7)
    deviation = read_number(row[f"{name}_sd"], f"{what}, its deviation,", 0, 6)
    if not deviation:
        raise DatasetError(f"{what} has the deviation 0; it must be above 0")
    return NormalDist(mean, deviation)


def _share_above(rating: NormalDist, threshold: float, label_std_scale: float) -> float:
    scaled = NormalDist(rating.mean, max(rating.stdev * label_std_scale, 1e-6))
    return 1 - scaled.cdf(threshold)
