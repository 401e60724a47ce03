"""Plot of an explanation: the image, the maps over the part that the network saw, and the tree."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

from PIL import Image

from mdan_zoo.errors import InputError, UnknownNameError, did_you_mean
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
    new_figure,
    save,
)
from mdan_zoo.plots.prediction import (
    LEGEND,
    TREE_WIDTH,
    draw_header,
    draw_prediction,
    draw_tree,
    tree_height,
)

_STRENGTH = 0.6  # of the colours over the grey image
_HEADER = 0.6
_TITLE = 0.42
_BAR = 0.08
_TICKS = 0.42
_GAP = 0.12
_FOOTER = 0.4


_Panel: TypeAlias = tuple[str, str, Callable[[Axes, Axes], None]]
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
        figure = draw_prediction(result)
    else:
        raise InputError("a prediction has no maps: level and label need an explanation")
    if path is not None:
        save(figure, path)
    return figure


def _draw_explanation(
    explanation: Explanation, level: int | str | None, label: str | None
) -> Figure:
    image = explanation.image
    region = explanation.region
    inside = (
        max(0, region.left),
        max(0, region.top),
        min(image.width, region.right),
        min(image.height, region.bottom),
    )
    seen = image.resize((480, 480), Image.Resampling.BICUBIC, box=inside)
    what = "image" if without_far_ends(image).size == image.size else "middle of the image"
    whole: _Panel = (
        f"{what}, {image.width} x {image.height}",
        "frame: the part that the network saw",
        partial(_draw_image, explanation),
    )
    view: _Panel = (
        "what the network saw",
        "resized and centre-cropped",
        lambda axes, _: axes.imshow(seen, origin="upper"),
    )
    if label is not None:
        maps = _level_of(explanation, level, label)
        panels = [whole, view, *_level_panels(explanation, maps, seen, [label])]
        return _arrange(explanation, panels, columns=2)
    if level is not None:
        maps = explanation.level(level)
        panels = [whole, view, *_level_panels(explanation, maps, seen, maps.labels)]
        return _arrange(explanation, panels, columns=math.ceil(math.sqrt(1.5 * len(panels))))
    picked = {level.name: level.label for level in explanation.prediction.levels}
    by_level = [
        _level_panels(explanation, maps, seen, [picked[maps.name]]) for maps in explanation.levels
    ]
    if len(by_level[0]) == 1:  # a flat network has no attention
        return _arrange(explanation, [whole, view, *by_level[0]], columns=3)
    attention, class_maps = zip(*by_level, strict=True)
    columns = 1 + len(by_level)
    return _arrange(explanation, [whole, *attention, view, *class_maps], columns)


def _level_of(explanation: Explanation, level: int | str | None, label: str) -> LevelMaps:
    """Return the maps of the given level, or of the finest level that has the class."""
    if level is not None:
        return explanation.level(level)
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
    """Return the panels of a level: its attention, if it has any, and the maps of classes."""
    scores = {level.name: level.scores for level in explanation.prediction.levels}[maps.name]
    tree = explanation.prediction.hierarchy
    shown = {label: maps.class_maps[tree.index(maps.name, label)] for label in labels}
    low = min(float(values.min()) for values in shown.values())
    high = max(float(values.max()) for values in shown.values())  # shared, to compare classes
    panels: list[_Panel] = []
    if maps.attention is not None:
        fused = f"children of {maps.parent}" if maps.parent else "all classes"
        limits = float(maps.attention.min()), float(maps.attention.max())
        draw = partial(_draw_map, seen, maps.attention, *limits)
        panels.append((f"{maps.name}: attention", f"L-CAM of {fused}", draw))
    for label, values in shown.items():
        name = maps.labels[tree.index(maps.name, label)]  # without aliases
        draw = partial(_draw_map, seen, values, low, high)
        panels.append((f"{name} {scores[name]:.2f}", f"{maps.name}: class activation map", draw))
    return panels


def _arrange(explanation: Explanation, panels: Sequence[_Panel], columns: int) -> Figure:
    """Place panels in rows, with the hierarchy to their right and an explanation below."""
    side = 2.4 if len(panels) <= 8 else 1.7
    across, down = side + _BAR + _TICKS + _GAP, side + _TITLE + _GAP
    rows = math.ceil(len(panels) / columns)
    tree_left = MARGIN + columns * across + 0.1
    height = max(rows * down, tree_height(explanation.prediction.hierarchy) + _TITLE)
    below = MARGIN + _HEADER + height
    width = tree_left + TREE_WIDTH + MARGIN
    figure = new_figure(width, below + _FOOTER + MARGIN)
    draw_header(figure, explanation.prediction)
    room = side + _BAR + _TICKS - 0.05
    for number, (title, subtitle, draw) in enumerate(panels):
        row, column = divmod(number, columns)
        left, top = MARGIN + column * across, MARGIN + _HEADER + row * down
        heading = add_axes(figure, left, top, room, _TITLE)
        add_text(heading, 0, 0.12, title, room, fontweight="bold")
        add_text(heading, 0, 0.29, subtitle, room, fontsize=7)
        bar = add_axes(figure, left + side + 0.05, top + _TITLE, _BAR, side)
        draw(add_axes(figure, left, top + _TITLE, side, side), bar)
    heading = add_axes(figure, tree_left, MARGIN + _HEADER, TREE_WIDTH, _TITLE)
    add_text(heading, 0, 0.12, "probabilities", TREE_WIDTH, fontweight="bold")
    draw_tree(figure, explanation.prediction, tree_left, MARGIN + _HEADER + 0.5 * _TITLE)
    maps = "Maps: yellow is high, violet is low. Class activation: contribution to the logit."
    if explanation.levels[0].attention is not None:
        maps += " Attention: M; features are multiplied by 1 + M."
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
    axes.get_figure().colorbar(drawn, cax=bar, ticks=ends)
    bar.set_yticklabels([f"{value:.2g}" for value in ends], fontsize=7, usetex=False)
    bar.tick_params(length=2, pad=2)
