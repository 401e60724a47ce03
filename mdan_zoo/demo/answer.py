"""Images in, HTML out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path

from mdan_zoo.demo.panel import content_html, panel_html
from mdan_zoo.demo.table import downloads_html, table_html
from mdan_zoo.errors import ImageError, InputError
from mdan_zoo.inference.explanation import Explanation, explain
from mdan_zoo.inference.prediction import Prediction
from mdan_zoo.inference.predictor import Predictor

MAX_IMAGES = 50
"""At once: an answer of more would be slow to send and to show."""


@dataclass(frozen=True)
class NamedImage:
    """An image file and the name that the user knows it by."""

    name: str
    path: Path


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came of an image.

    Attributes:
        prediction: Named as the user's file; its `error` says what went wrong, if anything.
        explanation: None if the image could not be predicted.
    """

    prediction: Prediction
    explanation: Explanation | None


def answer_html(
    predictor: Predictor,
    images: Sequence[NamedImage],
    on_progress: Callable[[int], None] = lambda done: None,
) -> str:
    """Explain images and return what the page shows of them.

    Args:
        predictor: The model.
        images: Any number; of more than `MAX_IMAGES` the first ones are taken.
        on_progress: Called with the number of images that are done, after each.
    """
    predictions: list[Prediction] = []
    contents: list[str] = []
    for done, image in enumerate(images[:MAX_IMAGES], start=1):
        prediction, content = _answer(predictor, image)
        predictions.append(prediction)
        contents.append(content)
        on_progress(done)
    readable = (n for n, prediction in enumerate(predictions) if prediction.error is None)
    shown = next(readable, 0)
    panels = (panel_html(n, content, n == shown) for n, content in enumerate(contents))
    return "".join(
        [
            _status_html(predictor, predictions, len(images)),
            table_html(predictions, shown) if len(predictions) > 1 else "",
            f'<div class="mz-panels">{"".join(panels)}</div>',
            downloads_html(predictions),
        ]
    )


def _answer(predictor: Predictor, image: NamedImage) -> tuple[Prediction, str]:
    """Return what is kept of an image: 50 images of full size would fill the memory."""
    outcome = explain_image(predictor, image)
    return outcome.prediction, content_html(outcome.prediction, outcome.explanation)


def explain_image(predictor: Predictor, image: NamedImage) -> Outcome:
    """Explain an image; an error becomes part of the outcome and names no path of the server."""
    try:
        content = image.path.read_bytes()
    except OSError:
        error = "it is no longer kept here: give it again"
        return Outcome(_failed(predictor, image.name, error), None)
    try:
        explanation = explain(content, model=predictor)
    except ImageError as error:
        return Outcome(_failed(predictor, image.name, error.reason), None)
    except InputError as error:  # the values of the network overflow
        return Outcome(_failed(predictor, image.name, str(error)), None)
    return Outcome(replace(explanation.prediction, image=image.name), explanation)


def message_html(message: str) -> str:
    """Return what the page shows where there are no predictions to show."""
    return f'<p class="mz-error" role="alert">{escape(message)}</p>'


def _failed(predictor: Predictor, name: str, error: str) -> Prediction:
    return Prediction(name, predictor.name, predictor.hierarchy, {}, error=error)


def _status_html(predictor: Predictor, predictions: Sequence[Prediction], given: int) -> str:
    failed = sum(prediction.error is not None for prediction in predictions)
    count = len(predictions) - failed
    parts = [f"{count} image{'' if count == 1 else 's'} predicted by {predictor.name}"]
    if failed:
        parts.append(f"{failed} could not be read")
    if given > len(predictions):
        parts.append(f"of {given} the first {MAX_IMAGES} were taken")
    return f'<p class="mz-status" role="status">{escape("; ".join(parts))}.</p>'
