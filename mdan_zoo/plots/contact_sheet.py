"""Contact sheet: thumbnails of many images, sorted by predicted emotion."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TypeAlias

from PIL import Image, ImageOps

from mdan_zoo._util.files import write_atomically
from mdan_zoo.errors import ImageError, InputError
from mdan_zoo.images.load import ImageOptions, load_image
from mdan_zoo.inference.prediction import Prediction
from mdan_zoo.plots.figures import (
    MARGIN,
    Figure,
    PdfPages,
    add_axes,
    add_text,
    check_output,
    file_name,
    new_figure,
    save,
)

MAX_THUMBNAILS = 200
"""Maximum for an image file; a PDF has pages and no limit."""

_COLUMNS = 8
_SIDE = 1.25
_CAPTION = 0.2
_GAP = 0.1
_HEADING = 0.4
_LEGEND = 0.25
_PAGE_HEIGHT = 11.0
_WIDTH = 2 * MARGIN + _COLUMNS * (_SIDE + _GAP) - _GAP
_THUMBNAIL = 240  # pixels


_Entry: TypeAlias = tuple["str | os.PathLike[str]", Prediction]
_Row: TypeAlias = tuple[str, Sequence[_Entry]]
"""Up to `_COLUMNS` images of one emotion; the first row of each emotion has a heading, not ""."""


def _height(row: _Row) -> float:
    return (_HEADING if row[0] else 0) + _SIDE + _CAPTION + _GAP


def check_sheet(path: str | os.PathLike[str], count: int) -> None:
    """Raise `InputError` if a sheet of `count` images cannot be written at `path`."""
    if check_output(path) != "pdf" and count > MAX_THUMBNAILS:
        raise InputError(
            f"a sheet with more than {MAX_THUMBNAILS} images, here {count}, needs a .pdf, which "
            f"has pages, instead of {path}"
        )


def plot_contact_sheet(
    images: Sequence[str | os.PathLike[str]],
    predictions: Sequence[Prediction],
    path: str | os.PathLike[str],
) -> None:
    """Draw the centre squares of images, sorted by emotion and then by descending probability.

    Args:
        images: Paths of the images.
        predictions: Predictions of the images, in the same order. Failed images are left out.
        path: The file to write: a PDF with pages, or an image for up to `MAX_THUMBNAILS` images.

    Raises:
        InputError: No file can be written at `path`, or it cannot hold that many images.
        ImageError: No image could be predicted, or one can no longer be read.
    """
    entries = [pair for pair in zip(images, predictions, strict=True) if pair[1].error is None]
    check_sheet(path, len(entries))
    if not entries:
        raise ImageError(None, f"none of {len(predictions)} images could be read")
    rows = list(_rows(entries))
    if check_output(path) == "pdf":
        buffer = io.BytesIO()
        with PdfPages(buffer) as document:
            for page in _paginate(rows):
                document.savefig(_draw_page(page))
        write_atomically(Path(path), buffer.getvalue())
    else:
        save(_draw_page(rows), path)


def _rows(entries: Sequence[_Entry]) -> Iterator[_Row]:
    """Yield the rows of the sheet in the order of the hierarchy."""

    def place(entry: _Entry) -> tuple[int, ...]:
        tree, path = entry[1].hierarchy, entry[1].path
        return tuple(tree.index(i, label) for i, label in enumerate(path))

    by_score = sorted(entries, key=lambda entry: entry[1].levels[-1].score, reverse=True)
    for _, group in groupby(sorted(by_score, key=place), key=place):
        members = list(group)
        count = f"{len(members)} image{'s' if len(members) > 1 else ''}"
        heading = f"{' > '.join(members[0][1].path)}: {count}"
        for start in range(0, len(members), _COLUMNS):
            yield "" if start else heading, members[start : start + _COLUMNS]


def _paginate(rows: Sequence[_Row]) -> Iterator[list[_Row]]:
    page: list[_Row] = []
    for row in rows:
        if page and sum(map(_height, [*page, row])) > _PAGE_HEIGHT:
            yield page
            page = []
        page.append(row)
    yield page


def _draw_page(rows: Sequence[_Row]) -> Figure:
    figure = new_figure(_WIDTH, sum(map(_height, rows)) + _LEGEND + 2 * MARGIN)
    room = _WIDTH - 2 * MARGIN
    shown = rows[0][1][0][1]
    level = shown.levels[-1].name
    legend = f"{shown.model}; below an image: the probability of its class, level {level}"
    axes = add_axes(figure, MARGIN, MARGIN, room, _LEGEND)
    add_text(axes, 0, _LEGEND / 2, legend, room, fontsize=9)
    top = MARGIN + _LEGEND
    for row in rows:
        heading, entries = row
        if heading:
            axes = add_axes(figure, MARGIN, top, room, _HEADING)
            add_text(axes, 0, _HEADING / 2, heading, room, fontsize=11, fontweight="bold")
        top += _height(row)
        for column, entry in enumerate(entries):
            left = MARGIN + column * (_SIDE + _GAP)
            _draw_entry(figure, entry, left, top - _SIDE - _CAPTION - _GAP)
    return figure


def _draw_entry(figure: Figure, entry: _Entry, left: float, top: float) -> None:
    path, prediction = entry
    image = load_image(path, ImageOptions(shrink_to=_THUMBNAIL))
    square = ImageOps.fit(image, (_THUMBNAIL, _THUMBNAIL), Image.Resampling.BICUBIC)
    add_axes(figure, left, top, _SIDE, _SIDE).imshow(square, origin="upper")
    text = f"{prediction.levels[-1].score:.2f}  {file_name(prediction.image)}"
    add_text(add_axes(figure, left, top + _SIDE, _SIDE, _CAPTION), 0, 0.1, text, _SIDE, fontsize=7)
