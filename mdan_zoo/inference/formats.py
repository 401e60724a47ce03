"""Output formats: predictions as text, JSON Lines, JSON and CSV.

To add a format to `mdan-zoo predict`, add an entry to `FORMATS`.
"""

from __future__ import annotations

import csv
import functools
import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.inference.prediction import Prediction
from mdan_zoo.models.dimensions import Dimension


def to_csv(
    predictions: Iterable[Prediction], hierarchy: Hierarchy, dimensions: Sequence[Dimension] = ()
) -> str:
    """Return predictions as CSV with a header."""
    return _csv_row(csv_columns(hierarchy, dimensions)) + "".join(map(_csv_line, predictions))


def to_json(predictions: Iterable[Prediction]) -> str:
    """Return predictions as a JSON array of `Prediction.to_dict`."""
    return json.dumps([prediction.to_dict() for prediction in predictions], indent=1)


def csv_columns(hierarchy: Hierarchy, dimensions: Sequence[Dimension] = ()) -> list[str]:
    """Return the column names of the CSV format.

    For each level: its predicted class, the probability of that class, and the probabilities of all
    classes. Then the dimensions by name.
    """
    columns = ["image", "error"]
    for level, names in zip(hierarchy.level_names, hierarchy.levels, strict=True):
        columns += [f"{level}_label", f"{level}_score", *(f"{level}:{name}" for name in names)]
    return columns + [dimension.name for dimension in dimensions]


def _csv_line(prediction: Prediction) -> str:
    row: list[object] = [prediction.image, prediction.error]
    for level in prediction.levels:
        row += [level.label, level.score, *level.scores.values()]
    row += [None] * (len(csv_columns(prediction.hierarchy)) - len(row))
    failed = prediction.error is not None
    return _csv_row(row + [None if failed else rating.value for rating in prediction.dimensions])


def _csv_row(cells: Sequence[object]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(cells)
    return buffer.getvalue()


@dataclass(frozen=True)
class Format:
    """Line-based output format: a header, then one line for every prediction.

    The header depends on the hierarchy and the dimensions of the model.
    """

    line: Callable[[Prediction], str]
    header: Callable[[Hierarchy, Sequence[Dimension]], str] = lambda hierarchy, dimensions: ""


FORMATS = {
    "text": Format(lambda prediction: f"{prediction.image}  {prediction}\n"),
    "json": Format(lambda prediction: json.dumps(prediction.to_dict()) + "\n"),
    "csv": Format(_csv_line, functools.partial(to_csv, [])),
}
