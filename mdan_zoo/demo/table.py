"""Table of predictions in HTML, with download links for CSV and JSON."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

from mdan_zoo.inference.formats import to_csv, to_json
from mdan_zoo.inference.prediction import Prediction


def table_html(predictions: Sequence[Prediction], shown: int) -> str:
    """Return a table whose buttons select the one or two images that are shown below it.

    Args:
        predictions: One row each.
        shown: Position of the image that is shown initially.
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
    """Return links that contain the files as data URLs, so that the server stores none."""
    hierarchy = predictions[0].hierarchy
    return (
        '<p class="mz-downloads">Download every probability as '
        f"{_link('predictions.csv', 'text/csv', to_csv(predictions, hierarchy))} or "
        f"{_link('predictions.json', 'application/json', to_json(predictions))}.</p>"
    )


def _link(name: str, kind: str, content: str) -> str:
    encoded = base64.b64encode(content.encode()).decode()
    label = name.rpartition(".")[2].upper()
    return f'<a download="{name}" href="data:{kind};base64,{encoded}">{label}</a>'
