"""Drawings of predictions. Needs matplotlib: pip install 'mdan-zoo[explain]'.

Everything is placed in inches from the left and the top of a figure, so that nothing can overlap,
whatever the number of classes. pyplot and its global state are not used.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mdan_zoo._util.files import write_atomically
from mdan_zoo.errors import InputError, MdanZooError, did_you_mean
from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.inference.prediction import Prediction

try:  # here for every module that draws, so that all say alike what is missing
    from matplotlib import colormaps as colormaps
    from matplotlib.axes import Axes as Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_pdf import PdfPages as PdfPages
    from matplotlib.colors import Normalize as Normalize
    from matplotlib.figure import Figure as Figure
    from matplotlib.font_manager import FontProperties
    from matplotlib.patches import Rectangle as Rectangle
    from matplotlib.textpath import TextToPath
except ImportError as error:
    raise MdanZooError("drawing needs matplotlib: pip install 'mdan-zoo[explain]'") from error

FORMATS = ("png", "pdf", "svg", "jpg", "jpeg", "webp")
DPI = 150
MARGIN = 0.25
"""Around everything, in inches."""

INK, PALE, PICKED = "#202020", "#b9c3cc", "#26648e"
"""Text, bars, and what was picked; they differ in lightness too."""

PICKED_LEGEND = "bold and blue is the predicted path, of the highest product of levels"

TREE_WIDTH = 4.2
ROW = 0.2
_INDENT = 0.16
_NAMES = 1.9
_BARS = 1.7
_LEVEL_GAP = 0.1
_WEBP_SIDE = 16383  # pixels


def new_figure(width: float, height: float) -> Figure:
    """Return an empty white figure of a size in inches, with a canvas of its own."""
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def add_axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Add axes without frame or ticks, placed in inches from the figure's left and top."""
    whole_width, whole_height = figure.get_size_inches()
    bottom = whole_height - top - height
    axes = figure.add_axes(
        (left / whole_width, bottom / whole_height, width / whole_width, height / whole_height)
    )
    axes.set_axis_off()
    return axes


def add_text(axes: Axes, x: float, y: float, text: str, room: float, **style: Any) -> None:
    """Write one line of text as it stands, shortened to `room` inches.

    Args:
        axes: Where, at `x` and `y` in its data.
        x: Left end, unless the style says otherwise.
        y: Middle of the line.
        text: The text; dollar signs are no formula.
        room: Width that it may take, in inches.
        style: Of matplotlib's texts, such as fontsize and fontweight.
    """
    style = {"fontsize": 8, "color": INK, "va": "center", **style}
    shown = shorten(text, room, style["fontsize"], style.get("fontweight", "normal"))
    axes.text(x, y, shown, parse_math=False, usetex=False, **style)


def shorten(text: str, room: float, size: float, weight: str = "normal") -> str:
    """Return a text, or as much of both its ends as fits into `room` inches."""
    font = FontProperties(size=size, weight=weight)

    def fits(candidate: str) -> bool:
        width, _, _ = TextToPath().get_text_width_height_descent(candidate, font, ismath=False)
        return bool(width <= 0.95 * room * 72)  # in pixels letters come out a little wider

    if fits(text):
        return text
    for kept in range(len(text) - 1, 1, -1):
        end = kept // 2
        candidate = text[: kept - end] + "…" + text[-end:]
        if fits(candidate):
            return candidate
    return "…"


# The tree and its probabilities


@dataclass(frozen=True)
class _Row:
    level: int
    label: int


def draw_prediction(prediction: Prediction) -> Figure:
    """Draw the tree of a prediction with the probability of every class.

    Raises:
        InputError: There is no prediction, because the image could not be read.
    """
    check_predicted(prediction)
    header, footer = 0.6, 0.3
    below = MARGIN + header + tree_height(prediction.hierarchy)
    figure = new_figure(TREE_WIDTH + 2 * MARGIN, below + footer + MARGIN)
    draw_header(figure, prediction)
    draw_tree(figure, prediction, MARGIN, MARGIN + header)
    axes = inch_axes(figure, MARGIN, below, TREE_WIDTH, footer)
    add_text(axes, 0, 0.2, PICKED_LEGEND, TREE_WIDTH)
    return figure


def check_predicted(prediction: Prediction) -> None:
    """Raise `InputError` unless there are probabilities to draw."""
    if prediction.error is not None:
        raise InputError(f"{prediction.image}: there is nothing to draw: {prediction.error}")


def draw_header(figure: Figure, prediction: Prediction) -> None:
    """Write the image's name and the prediction along the figure's top."""
    room = float(figure.get_size_inches()[0]) - 2 * MARGIN
    axes = inch_axes(figure, MARGIN, MARGIN, room, 0.5)
    add_text(axes, 0, 0.1, file_name(prediction.image), room, fontsize=10, fontweight="bold")
    add_text(axes, 0, 0.32, f"{prediction}   ({prediction.model})", room, fontsize=9)


def file_name(image: str) -> str:
    """Return the last part of an image's name, which is printable as the whole is."""
    return image.rstrip("/").rpartition("/")[2] or image


def inch_axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Add axes whose data are inches from their own left and top."""
    axes = add_axes(figure, left, top, width, height)
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    return axes


def tree_height(hierarchy: Hierarchy) -> float:
    """Return the height in inches that `draw_tree` takes."""
    return ROW * sum(hierarchy.sizes) + _LEVEL_GAP * hierarchy.sizes[0]


def draw_tree(figure: Figure, prediction: Prediction, left: float, top: float) -> None:
    """Draw a row for every class, children below their parent, and set off what was picked."""
    axes = inch_axes(figure, left, top, TREE_WIDTH, tree_height(prediction.hierarchy))
    y = 0.0
    for row in _rows(prediction.hierarchy):
        level = prediction.levels[row.level]
        label = prediction.hierarchy.levels[row.level][row.label]
        score = level.scores[label]
        picked = label == level.label
        y += ROW if row.level else ROW + _LEVEL_GAP
        weight = "bold" if picked else "normal"
        indent = _INDENT * row.level
        add_text(axes, indent, y - ROW / 2, label, _NAMES - indent - 0.1, fontweight=weight)
        bar = Rectangle((_NAMES, y - 0.85 * ROW), score * _BARS, 0.7 * ROW)
        bar.set_facecolor(PICKED if picked else PALE)
        axes.add_patch(bar)
        x = _NAMES + score * _BARS + 0.06
        add_text(axes, x, y - ROW / 2, f"{score:.2f}", 0.5, fontweight=weight)


def _rows(hierarchy: Hierarchy, level: int = 0, labels: tuple[int, ...] = ()) -> Iterator[_Row]:
    """Yield every class, each followed by those below it."""
    for label in labels if level else range(hierarchy.sizes[0]):
        yield _Row(level, label)
        if level + 1 < hierarchy.depth:
            yield from _rows(hierarchy, level + 1, hierarchy.children_indices[level][label])


# Files


def finish(figure: Figure, path: str | os.PathLike[str] | None) -> Figure:
    """Return the figure; write it before if there is a path.

    Raises:
        InputError: No figure can be written at `path`.
    """
    if path is not None:
        save(figure, path)
    return figure


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure as a whole or not at all.

    Raises:
        InputError: The suffix is none of `FORMATS`, or no file can be written there.
    """
    kind = check_output(path)
    _check_size(figure, kind)
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind)
    write_atomically(Path(path), buffer.getvalue())


def _check_size(figure: Figure, kind: str) -> None:
    width, height = (round(side * figure.dpi) for side in figure.get_size_inches())
    if kind == "webp" and max(width, height) > _WEBP_SIDE:
        raise InputError(
            f"a webp file has at most {_WEBP_SIDE} pixels a side, and this figure {width} x "
            f"{height}; name a .pdf or .png"
        )


def check_output(path: str | os.PathLike[str]) -> str:
    """Return the format that a path's suffix names.

    Raises:
        InputError: It names none of `FORMATS`, or the folder is missing.
    """
    path = Path(path)
    kind = path.suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise InputError(
            f"figures are written as {', '.join(FORMATS)}, not as {path.suffix or 'nothing'!r}; "
            f"{did_you_mean(kind, FORMATS)}"
        )
    if not path.parent.is_dir():
        raise InputError(f"no figure can be written at {path}: there is no folder {path.parent}")
    if path.exists() and not path.is_file():
        raise InputError(f"no figure can be written at {path}: it is a folder or a device")
    return kind
