"""Answers: the HTML of several images, with their maps, a table, and CSV and JSON downloads.

Maps are small PNGs in `data-map` of a button; page.js overlays them on the image.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from mdan_zoo.errors import ImageError, InputError
from mdan_zoo.images.geometry import Map
from mdan_zoo.images.preprocessing import without_far_ends
from mdan_zoo.inference.explanation import Explanation, explain
from mdan_zoo.inference.formats import to_csv, to_json
from mdan_zoo.inference.prediction import Prediction, dimension_predictions
from mdan_zoo.inference.predictor import Predictor
from mdan_zoo.plots.figures import colour_table

_PHOTO_SIDE = 640  # pixels of the longer side
_MAP_SIDE = 128

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
        contents.append(_content_html(prediction, explanation))
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
            _link(
                "predictions.csv",
                "text/csv",
                to_csv(predictions, predictor.hierarchy, predictor.config.dimensions, True),
            ),
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
        content = image.path.read_bytes()
    except OSError:
        error = "it has been deleted here: upload it again"
    else:
        try:
            explanation = explain(content, model=predictor, require_maps=False)
            return replace(explanation.prediction, image=image.name), explanation
        except ImageError as failure:
            error = failure.reason
        except InputError as failure:  # the values of the network overflow
            error = str(failure)
    dimensions = dimension_predictions(predictor.config.dimensions)
    about = image.name, predictor.name, predictor.hierarchy
    return Prediction(*about, {}, error=error, dimensions=dimensions), None


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


def _content_html(prediction: Prediction, explanation: Explanation | None) -> str:
    """Return the content of a panel; `explanation` is None if the prediction has an error."""
    if explanation is None:
        reason = f"{prediction.image}: {prediction.error}"
        return f'<p class="mz-error" role="alert">{escape(reason)}</p>'
    items = _items(explanation, 0, range(prediction.hierarchy.sizes[0]))
    return (
        f"<h3>{escape(prediction.image)}</h3>"
        f'<p class="mz-path">{escape(str(prediction))}</p>'
        f'<div class="mz-body">{_photo_html(prediction.image, explanation)}'
        f'<div class="mz-classes">{_looks_html(explanation)}'
        f'<ul class="mz-tree" aria-label="Emotion hierarchy">{items}</ul></div></div>'
    )


def _photo_html(name: str, explanation: Explanation) -> str:
    shown = without_far_ends(explanation.image)
    left = (explanation.image.width - shown.width) / 2
    top = (explanation.image.height - shown.height) / 2
    region, (width, height) = explanation.region, shown.size
    place = (
        f"left:{100 * (region.left - left) / width:.3f}%;"
        f"top:{100 * (region.top - top) / height:.3f}%;"
        f"width:{100 * (region.right - region.left) / width:.3f}%;"
        f"height:{100 * (region.bottom - region.top) / height:.3f}%"
    )
    small = shown.copy()
    small.thumbnail((_PHOTO_SIDE, _PHOTO_SIDE))
    caption = "Choose a class to see its activation map." if explanation.levels else ""
    return (
        '<figure><div class="mz-image">'
        f'<img class="mz-photo" alt="{escape(name)}" src="{_data_url(small, "JPEG")}">'
        f'<img class="mz-map" alt="" style="{place}" hidden></div>'
        '<figcaption aria-live="polite"><span class="mz-caption">'
        f"{caption}</span>"
        '<span class="mz-scale" hidden><span class="mz-low"></span>'
        '<span class="mz-colours"></span><span class="mz-high"></span></span>'
        "</figcaption></figure>"
    )


def _looks_html(explanation: Explanation) -> str:
    """Return the buttons for the image without maps and for the attention maps, if it has maps."""
    if not explanation.levels:
        return ""
    buttons = ['<button type="button" class="mz-look" aria-pressed="true">image</button>']
    for maps in explanation.levels:
        if maps.attention is not None:
            classes = f"the children of {maps.parent}" if maps.parent else "all classes"
            caption = f"{maps.name}: {explanation.attention_name} of {classes}."
            data = _map_data(maps.attention, maps.attention, caption)
            label = f"attention: {escape(maps.name)}"
            buttons.append(f'<button type="button" class="mz-look" {data}>{label}</button>')
    return f'<div class="mz-looks" role="group" aria-label="What to show">{"".join(buttons)}</div>'


def _items(explanation: Explanation, level: int, classes: Iterable[int]) -> str:
    """Return the list items of some classes of a level, with their descendants."""
    tree = explanation.prediction.hierarchy
    items = []
    for number in classes:
        below = ""
        if level + 1 < tree.depth:
            children = tree.children_indices[level][number]
            below = f"<ul>{_items(explanation, level + 1, children)}</ul>"
        items.append(f"<li>{_class_html(explanation, level, number)}{below}</li>")
    return "".join(items)


def _class_html(explanation: Explanation, level: int, number: int) -> str:
    """Return a class with its bar, as a button if the class has a map."""
    predicted = explanation.prediction.levels[level]
    label = explanation.prediction.hierarchy.levels[level][number]
    score = predicted.scores[label]
    picked = " mz-picked" if label == predicted.label else ""
    content = (
        f'<span class="mz-name">{escape(label)}</span>'
        f'<span class="mz-bar"><span style="width:{100 * score:.1f}%"></span></span>'
        f'<span class="mz-score">{score:.2f}</span>'
    )
    for maps in explanation.levels:
        if maps.name == predicted.name:
            caption = f"{maps.name}: class activation map of {label}."
            data = _map_data(maps.class_maps[number], maps.class_maps, caption)
            return f'<button type="button" class="mz-row{picked}" {data}>{content}</button>'
    return f'<div class="mz-row{picked}">{content}</div>'


def _map_data(values: Map, among: Map, caption: str) -> str:
    """Return the button attributes that page.js shows a map from; `among` sets its colours."""
    low, high = float(among.min()), float(among.max())
    side = (_MAP_SIDE, _MAP_SIDE)
    laid = np.asarray(Image.fromarray(values).resize(side, Image.Resampling.BILINEAR))
    scaled = (laid - low) / (high - low if high > low else 1)
    image = Image.fromarray(np.clip(scaled * 255, 0, 255).round().astype(np.uint8))
    image.putpalette(colour_table())
    return (
        f'aria-pressed="false" data-map="{_data_url(image, "PNG")}" data-low="{low:.2g}" '
        f'data-high="{high:.2g}" data-caption="{escape(caption)}"'
    )


def _data_url(image: Image.Image, kind: str) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    encoded = base64.b64encode(buffer.getvalue()).decode()
    return f"data:image/{kind.lower()};base64,{encoded}"
