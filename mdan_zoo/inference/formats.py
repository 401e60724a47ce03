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

from mdan_zoo.errors import printable
from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.inference.prediction import Prediction
from mdan_zoo.models.dimensions import Dimension

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def to_csv(
    predictions: Iterable[Prediction],
    hierarchy: Hierarchy,
    dimensions: Sequence[Dimension] = (),
    spreadsheet: bool = False,
) -> str:
    """Return predictions as CSV with a header.

    With `spreadsheet`, texts that a spreadsheet would take for formulas, such as the file name
    "=1+1.jpg", begin with an apostrophe.
    """
    lines = (_csv_line(prediction, spreadsheet) for prediction in predictions)
    return _csv_row(csv_columns(hierarchy, dimensions), spreadsheet) + "".join(lines)


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


def _csv_line(prediction: Prediction, spreadsheet: bool = False) -> str:
    row: list[object] = [prediction.image, prediction.error]
    for level in prediction.levels:
        row += [level.label, level.score, *level.scores.values()]
    row += [None] * (len(csv_columns(prediction.hierarchy)) - len(row))
    failed = prediction.error is not None
    row += [None if failed else rating.value for rating in prediction.dimensions]
    return _csv_row(row, spreadsheet)


def _csv_row(cells: Sequence[object], spreadsheet: bool) -> str:
    if spreadsheet:
        formulas = (isinstance(cell, str) and cell.startswith(_FORMULA_STARTS) for cell in cells)
        cells = [f"'{cell}" if f else cell for cell, f in zip(cells, formulas, strict=True)]
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(cells)
    return buffer.getvalue()


@dataclass(frozen=True)
class Format:
    """Line-based output format: a header, then one line (in CSV one row) for every prediction.

    The header depends on the hierarchy and the dimensions of the model.
    """

    line: Callable[[Prediction], str]
    header: Callable[[Hierarchy, Sequence[Dimension]], str] = lambda hierarchy, dimensions: ""


FORMATS = {
    "text": Format(lambda prediction: f"{printable(prediction.image)}  {prediction}\n"),
    "json": Format(lambda prediction: json.dumps(prediction.to_dict()) + "\n"),
    "csv": Format(_csv_line, functools.partial(to_csv, [])),
    "excel": Format(
        functools.partial(_csv_line, spreadsheet=True),
        lambda hierarchy, dimensions: "\ufeff" + to_csv([], hierarchy, dimensions, True),
    ),
}
