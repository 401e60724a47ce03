"""Answers: the HTML that shows predictions and explanations of uploaded images."""

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
    """Explain images and return the HTML that the page shows.

    Args:
        predictor: The model.
        images: The images; only the first `MAX_IMAGES` are explained.
        on_progress: Called after each image, with the number of completed images.
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
    """Return only what is kept of an image: 50 images of full size would exhaust the memory."""
    prediction, explanation = explain_image(predictor, image)
    return prediction, content_html(prediction, explanation)


def explain_image(predictor: Predictor, image: NamedImage) -> tuple[Prediction, Explanation | None]:
    """Explain an image.

    Returns:
        The prediction, with the name of the user's file, and the explanation. If the image cannot
        be predicted, the prediction has an `error`, which contains no path of the server, and the
        explanation is None.
    """
    try:
        content = image.path.read_bytes()
    except OSError:
        return _failed(predictor, image.name, "it has been deleted here: upload it again"), None
    try:
        explanation = explain(content, model=predictor)
    except ImageError as error:
        return _failed(predictor, image.name, error.reason), None
    except InputError as error:  # the values of the network overflow
        return _failed(predictor, image.name, str(error)), None
    return replace(explanation.prediction, image=image.name), explanation


def message_html(message: str) -> str:
    """Return the HTML of an error that concerns all images."""
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
        parts.append(f"only the first {MAX_IMAGES} of {given} images were used")
    return f'<p class="mz-status" role="status">{escape("; ".join(parts))}.</p>'
