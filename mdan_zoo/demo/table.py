"""Many predictions as a table of the page, as CSV and as JSON."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Sequence
from html import escape

from mdan_zoo.inference.prediction import Prediction


def table_html(predictions: Sequence[Prediction], shown: int) -> str:
    """Return a table whose buttons choose the one or two images that are shown below it.

    Args:
        predictions: A row each.
        shown: The position of the one that is shown at first.
    """
    rows = "".join(_row_html(n, prediction, n == shown) for n, prediction in enumerate(predictions))
    return (
        '<div class="mz-table"><table><caption>Choose an image, and one to compare it with.'
        '</caption><thead><tr><th scope="col">image</th><th scope="col">prediction</th>'
        f'<th scope="col">side by side</th></tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _row_html(number: int, prediction: Prediction, shown: bool) -> str:
    name = escape(prediction.image)
    pressed = "true" if shown else "false"
    disabled = " disabled" if shown else ""
    failed = ' class="mz-error"' if prediction.error is not None else ""
    return (
        f'<tr><td><button type="button" class="mz-show" data-image="{number}" '
        f'aria-pressed="{pressed}">{name}</button></td>'
        f"<td{failed}>{escape(str(prediction))}</td>"
        f'<td><button type="button" class="mz-compare" data-image="{number}"{disabled} '
        f'aria-pressed="false" aria-label="compare with {name}">compare</button></td></tr>'
    )


def downloads_html(predictions: Sequence[Prediction]) -> str:
    """Return links whose addresses are the files themselves, so that the server keeps none."""
    return (
        '<p class="mz-downloads">Download every probability as '
        f"{_link('predictions.csv', 'text/csv', to_csv(predictions))} or "
        f"{_link('predictions.json', 'application/json', to_json(predictions))}.</p>"
    )


def _link(name: str, kind: str, content: str) -> str:
    encoded = base64.b64encode(content.encode()).decode()
    label = name.rpartition(".")[2].upper()
    return f'<a download="{name}" href="data:{kind};base64,{encoded}">{label}</a>'


def to_csv(predictions: Sequence[Prediction]) -> str:
    """Return one line an image, with the columns of `mdan-zoo predict --format csv`."""
    tree = predictions[0].hierarchy
    header = ["image", "error"]
    for level, names in zip(tree.level_names, tree.levels, strict=True):
        header += [f"{level}_label", f"{level}_score", *(f"{level}:{name}" for name in names)]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    for prediction in predictions:
        row: list[object] = [prediction.image, prediction.error]
        for level_prediction in prediction.levels:
            scores = level_prediction.scores.values()
            row += [level_prediction.label, level_prediction.score, *scores]
        writer.writerow(row + [None] * (len(header) - len(row)))
    return buffer.getvalue()


def to_json(predictions: Sequence[Prediction]) -> str:
    """Return a JSON array of `Prediction.to_dict` of every image."""
    return json.dumps([prediction.to_dict() for prediction in predictions], indent=1)
