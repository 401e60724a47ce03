"""Answers: the HTML of several images, with a table and CSV and JSON downloads."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path

from mdan_zoo.demo.panel import content_html
from mdan_zoo.errors import ImageError, InputError
from mdan_zoo.inference.explanation import Explanation, explain
from mdan_zoo.inference.formats import to_csv, to_json
from mdan_zoo.inference.prediction import Prediction
from mdan_zoo.inference.predictor import Predictor

MAX_IMAGES = 50
"""Maximum per request; larger answers are slow to transfer and display."""


@dataclass(frozen=True)
class NamedImage:
    """An image file and the name of the file that the user uploaded."""

    name: str
    path: Path


def answer_html(
    predictor: Predictor,
    images: Sequence[NamedImage],
    on_progress: Callable[[int], None] = lambda done: None,
) -> str:
    """Return the HTML of the first `MAX_IMAGES` images; report the number of completed images."""
    predictions: list[Prediction] = []
    contents: list[str] = []
    for done, image in enumerate(images[:MAX_IMAGES], start=1):
        prediction, explanation = explain_image(predictor, image)
        predictions.append(prediction)
        contents.append(content_html(prediction, explanation))
        del explanation  # 50 images of full size would exhaust the memory
        on_progress(done)
    shown = next((n for n, found in enumerate(predictions) if found.error is None), 0)
    panels = "".join(
        f'<article class="mz-panel" data-image="{n}"{"" if n == shown else " hidden"}>{content}'
        "</article>"
        for n, content in enumerate(contents)
    )
    return "".join(
        [
            _status_html(predictor, predictions, len(images)),
            _table_html(predictions, shown) if len(predictions) > 1 else "",
            f'<div class="mz-panels">{panels}</div>',
            '<p class="mz-downloads">Download every probability as ',
            _link("predictions.csv", "text/csv", to_csv(predictions, predictor.hierarchy)),
            " or ",
            f"{_link('predictions.json', 'application/json', to_json(predictions))}.</p>",
        ]
    )


def explain_image(predictor: Predictor, image: NamedImage) -> tuple[Prediction, Explanation | None]:
    """Return the prediction of an image, with the name of the user's file, and the explanation.

    If the image cannot be predicted, the prediction has an `error`, which contains no path of the
    server, and the explanation is None.
    """
    try:
        explanation = explain(image.path.read_bytes(), model=predictor)
    except OSError:
        error = "it has been deleted here: upload it again"
    except ImageError as failure:
        error = failure.reason
    except InputError as failure:  # the values of the network overflow
        error = str(failure)
    else:
        return replace(explanation.prediction, image=image.name), explanation
    return Prediction(image.name, predictor.name, predictor.hierarchy, {}, error=error), None


def _status_html(predictor: Predictor, predictions: Sequence[Prediction], given: int) -> str:
    failed = sum(prediction.error is not None for prediction in predictions)
    count = len(predictions) - failed
    parts = [f"{count} image{'' if count == 1 else 's'} predicted by {predictor.name}"]
    if failed:
        parts.append(f"{failed} could not be read")
    if given > len(predictions):
        parts.append(f"only the first {MAX_IMAGES} of {given} images were used")
    return f'<p class="mz-status" role="status">{escape("; ".join(parts))}.</p>'


def _table_html(predictions: Sequence[Prediction], shown: int) -> str:
    """Return a table whose buttons select the one or two images that are shown below it."""
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


def _link(name: str, kind: str, content: str) -> str:
    """Return a link that contains the file as a data URL, so that the server stores none."""
    encoded = base64.b64encode(content.encode()).decode()
    label = name.rpartition(".")[2].upper()
    return f'<a download="{name}" href="data:{kind};base64,{encoded}">{label}</a>'
