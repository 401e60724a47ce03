"""Plots of single results: predictions and explanations."""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

from PIL import Image

from mdan_zoo.errors import InputError, UnknownNameError, did_you_mean, printable
from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.images.geometry import Map
from mdan_zoo.images.preprocessing import without_far_ends
from mdan_zoo.inference.explanation import Explanation, LevelMaps
from mdan_zoo.inference.prediction import Prediction
from mdan_zoo.plots.figures import (
    COLOUR_MAP,
    MARGIN,
    Axes,
    Figure,
    Normalize,
    Rectangle,
    add_axes,
    add_text,
    file_name,
    new_figure,
    save,
)

LEGEND = "bold and blue: the predicted path (highest product over levels)"

# The hierarchy
_WIDTH = 4.2
_ROW = 0.2
_INDENT = 0.16
_NAMES = 1.9
_BARS = 1.7
_LEVEL_GAP = 0.1

# The panels
_STRENGTH = 0.6  # of the colours over the grey image
_TITLE = 0.42
_BAR = 0.08
_TICKS = 0.42
_GAP = 0.12
_FOOTER = 0.4

_Panel: TypeAlias = tuple[str, str, Callable[[Axes, Axes], object]]
"""Title, subtitle, and a function that draws into the panel's square axes and its colour bar."""


def plot(
    result: Prediction | Explanation,
    path: str | os.PathLike[str] | None = None,
    *,
    level: int | str | None = None,
    label: str | None = None,
) -> Figure:
    """Plot a prediction or an explanation.

    A prediction is drawn as its hierarchy with the probability of every class; an explanation also
    shows the image, and maps over the part of it that the network saw.

    Args:
        result: The prediction or explanation.
        path: Also write the figure to this file, atomically; the suffix determines the format.
        level: For an explanation, draw the attention of this level and the maps of all its classes.
            By default, draw the attention and the map of the predicted class of every level.
        label: For an explanation, draw the attention and the map of this class only, at `level` or
            at the finest level that has the class.

    Raises:
        UnknownNameError: The hierarchy has no such level or class.
        InputError: The image could not be predicted, the network has no such map, a prediction is
            plotted with a level or class, or no file can be written at `path`.
        MdanZooError: matplotlib is not installed.
    """
    if isinstance(result, Explanation):
        figure = _draw_explanation(result, level, label)
    elif level is None and label is None:
        figure = _draw_prediction(result)
    else:
        raise InputError("a prediction has no maps: level and label need an explanation")
    if path is not None:
        save(figure, path)
    return figure


def _draw_prediction(prediction: Prediction) -> Figure:
    if prediction.error is not None:
        name = printable(prediction.image)
        raise InputError(f"{name}: there is nothing to draw: {prediction.error}")
    footer = 0.3
    top = MARGIN + _header_height(prediction)
    below = top + _tree_height(prediction.hierarchy)
    figure = new_figure(_WIDTH + 2 * MARGIN, below + footer + MARGIN)
    _draw_header(figure, prediction)
    _draw_tree(figure, prediction, MARGIN, top)
    axes = add_axes(figure, MARGIN, below, _WIDTH, footer)
    add_text(axes, 0, 0.2, LEGEND, _WIDTH)
    return figure


def _header_height(prediction: Prediction) -> float:
    return 0.82 if prediction.dimensions else 0.6


def _draw_header(figure: Figure, prediction: Prediction) -> None:
    room = float(figure.get_size_inches()[0]) - 2 * MARGIN
    axes = add_axes(figure, MARGIN, MARGIN, room, _header_height(prediction) - 0.1)
    classes = dataclasses.replace(prediction, dimensions=())
    add_text(axes, 0, 0.1, file_name(prediction.image), room, fontsize=10, fontweight="bold")
    add_text(axes, 0, 0.32, f"{classes}   ({prediction.model})", room, fontsize=9)
    add_text(axes, 0, 0.54, ", ".join(map(str, prediction.dimensions)), room, fontsize=9)


def _tree_height(hierarchy: Hierarchy) -> float:
    return _ROW * sum(hierarchy.sizes) + _LEVEL_GAP * hierarchy.sizes[0]


def _draw_tree(figure: Figure, prediction: Prediction, left: float, top: float) -> None:
    """Draw a row for every class, children below their parent, and emphasise the prediction."""
    axes = add_axes(figure, left, top, _WIDTH, _tree_height(prediction.hierarchy))
    y = 0.0
    for depth, k in _rows(prediction.hierarchy):
        level = prediction.levels[depth]
        label = prediction.hierarchy.levels[depth][k]
        score = level.scores[label]
        predicted = label == level.label
        y += _ROW if depth else _ROW + _LEVEL_GAP
        weight = "bold" if predicted else "normal"
        indent = _INDENT * depth
        add_text(axes, indent, y - _ROW / 2, label, _NAMES - indent - 0.1, fontweight=weight)
        bar = Rectangle((_NAMES, y - 0.85 * _ROW), score * _BARS, 0.7 * _ROW)
        bar.set_facecolor("#26648e" if predicted else "#b9c3cc")
        axes.add_patch(bar)
        x = _NAMES + score * _BARS + 0.06
        add_text(axes, x, y - _ROW / 2, f"{score:.2f}", 0.5, fontweight=weight)


def _rows(hierarchy: Hierarchy) -> list[tuple[int, int]]:
    """Return level and class id of every class, each followed by its descendants."""
    paths = {path[: level + 1] for path in hierarchy.leaf_paths for level in range(hierarchy.depth)}
    return [(len(path) - 1, path[-1]) for path in sorted(paths)]


def _draw_explanation(
    explanation: Explanation, level: int | str | None, label: str | None
) -> Figure:
    image = explanation.image
    region = explanation.region
    right, bottom = min(image.width, region.right), min(image.height, region.bottom)
    inside = (max(0, region.left), max(0, region.top), right, bottom)
    seen = image.resize((480, 480), Image.Resampling.BICUBIC, box=inside)
    what = "image" if without_far_ends(image).size == image.size else "middle of the image"
    whole: _Panel = (
        f"{what}, {image.width} x {image.height}",
        "frame: the part that the network saw",
        partial(_draw_image, explanation),
    )
    whole_seen = inside == (0, 0, image.width, image.height)
    view: _Panel = (
        "what the network saw",
        "resized to a square" if whole_seen else "resized and centre-cropped",
        lambda axes, _: axes.imshow(seen, origin="upper"),
    )
    if level is not None or label is not None:
        maps = _level_of(explanation, str(label)) if level is None else explanation.level(level)
        labels = maps.labels if label is None else [label]
        panels = _level_panels(explanation, maps, seen, labels)
        if label is not None:
            return _arrange(explanation, [[whole, view], panels])
        first, classes = panels[: -len(labels)], panels[-len(labels) :]
        return _arrange(explanation, [[whole, view, *first], *_even_rows(classes)])
    picked = {found.name: [found.label] for found in explanation.prediction.levels}
    by_level = [
        _level_panels(explanation, maps, seen, picked[maps.name]) for maps in explanation.levels
    ]
    if explanation.levels[0].attention is None:  # a flat network, or one without L-CAM
        return _arrange(explanation, [[whole, view, *itertools.chain(*by_level)]])
    attention, class_maps = zip(*by_level, strict=True)
    return _arrange(explanation, [[whole, *attention], [view, *class_maps]])


def _even_rows(panels: Sequence[_Panel]) -> list[Sequence[_Panel]]:
    """Divide panels into rows whose lengths differ by at most one."""
    count = len(panels)
    rows = math.ceil(count / max(4, math.ceil(math.sqrt(1.5 * count))))
    return [panels[count * row // rows : count * (row + 1) // rows] for row in range(rows)]


def _level_of(explanation: Explanation, label: str) -> LevelMaps:
    """Return the maps of the finest level that has the class."""
    tree = explanation.prediction.hierarchy
    aliases = dict(tree.aliases)
    for maps in reversed(explanation.levels):
        if aliases.get(label, label) in maps.labels:
            return maps
    known = [name for maps in explanation.levels for name in maps.labels]
    raise UnknownNameError(
        f"{explanation.prediction.model} has no map for a class {label!r}; "
        + did_you_mean(label, known)
    )


def _level_panels(
    explanation: Explanation, maps: LevelMaps, seen: Image.Image, labels: Sequence[str]
) -> list[_Panel]:
    """Return the panels of a level: its attention, if any, and the maps of classes."""
    scores = {level.name: level.scores for level in explanation.prediction.levels}[maps.name]
    tree = explanation.prediction.hierarchy
    shown = {label: maps.class_maps[tree.index(maps.name, label)] for label in labels}
    low = min(float(values.min()) for values in shown.values())
    high = max(float(values.max()) for values in shown.values())  # shared, to compare classes
    panels: list[_Panel] = []
    if maps.attention is not None:
        classes = f"children of {maps.parent}" if maps.parent else "all classes"
        subtitle = f"{explanation.attention_name} of {classes}"
        limits = float(maps.attention.min()), float(maps.attention.max())
        draw = partial(_draw_map, seen, maps.attention, *limits)
        panels.append((f"{maps.name}: attention", subtitle, draw))
    for label, values in shown.items():
        name = maps.labels[tree.index(maps.name, label)]  # without aliases
        draw = partial(_draw_map, seen, values, low, high)
        panels.append((f"{name} {scores[name]:.2f}", f"{maps.name}: class activation map", draw))
    return panels


def _arrange(explanation: Explanation, rows: Sequence[Sequence[_Panel]]) -> Figure:
    """Place rows of panels, with the hierarchy to their right and an explanation below."""
    side = 2.4 if sum(map(len, rows)) <= 8 else 1.7
    across, down = side + _BAR + _TICKS + _GAP, side + _TITLE + _GAP
    tree_left = MARGIN + max(map(len, rows)) * across + 0.1
    height = max(len(rows) * down, _tree_height(explanation.prediction.hierarchy) + _TITLE)
    under_header = MARGIN + _header_height(explanation.prediction)
    below = under_header + height
    width = tree_left + _WIDTH + MARGIN
    figure = new_figure(width, below + _FOOTER + MARGIN)
    _draw_header(figure, explanation.prediction)
    room = side + _BAR + _TICKS - 0.05
    places = [(i, j, panel) for i, panels in enumerate(rows) for j, panel in enumerate(panels)]
    for row, column, (title, subtitle, draw) in places:
        left, top = MARGIN + column * across, under_header + row * down
        heading = add_axes(figure, left, top, room, _TITLE)
        add_text(heading, 0, 0.12, title, room, fontweight="bold")
        add_text(heading, 0, 0.29, subtitle, room, fontsize=7)
        bar = add_axes(figure, left + side + 0.05, top + _TITLE, _BAR, side)
        draw(add_axes(figure, left, top + _TITLE, side, side), bar)
    heading = add_axes(figure, tree_left, under_header, _WIDTH, _TITLE)
    add_text(heading, 0, 0.12, "probabilities", _WIDTH, fontweight="bold")
    _draw_tree(figure, explanation.prediction, tree_left, under_header + 0.5 * _TITLE)
    maps = f"Maps: yellow is high, violet is low. {explanation.legend}"
    room = width - 2 * MARGIN
    footer = add_axes(figure, MARGIN, below, room, _FOOTER)
    add_text(footer, 0, 0.15, maps, room)
    add_text(footer, 0, 0.33, f"Hierarchy: {LEGEND}.", room)
    return figure


def _draw_image(explanation: Explanation, axes: Axes, bar: Axes) -> None:
    """Draw the image, or the middle of a very long one, and frame what the network saw."""
    image, region = explanation.image, explanation.region
    middle = without_far_ends(image)
    small = middle.copy()
    small.thumbnail((600, 600))
    left, top = (image.width - middle.width) / 2, (image.height - middle.height) / 2
    side = max(middle.size)
    extent = (left, left + middle.width, top + middle.height, top)
    axes.imshow(small, origin="upper", extent=extent)
    size = region.right - region.left, region.bottom - region.top
    frame = Rectangle((region.left, region.top), *size)
    frame.set(facecolor="none", edgecolor="#ffb000", linewidth=1.5)
    axes.add_patch(frame)
    axes.set(xlim=(left, left + side), ylim=(top + side, top))


def _draw_map(
    seen: Image.Image, values: Map, low: float, high: float, axes: Axes, bar: Axes
) -> None:
    """Draw a map over the greyscale image, with a colour bar."""
    extent = (0, seen.width, seen.height, 0)
    axes.imshow(seen.convert("L"), origin="upper", cmap="gray", vmin=0, vmax=255, extent=extent)
    drawn = axes.imshow(
        values,
        origin="upper",
        cmap=COLOUR_MAP,
        norm=Normalize(low, high if high > low else low + 1),
        alpha=_STRENGTH,
        interpolation="bilinear",
        extent=extent,
    )
    bar.set_axis_on()
    bar.invert_yaxis()
    ends = sorted({low, high})
    drawn.figure.colorbar(drawn, cax=bar, ticks=ends)
    bar.set_yticklabels([f"{value:.2g}" for value in ends], fontsize=7, usetex=False)
    bar.tick_params(length=2, pad=2)
