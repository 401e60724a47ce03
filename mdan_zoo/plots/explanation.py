"""Plot of an explanation: the image, the maps over the part that the network saw, and the tree."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from PIL import Image

from mdan_zoo.errors import UnknownNameError, did_you_mean
from mdan_zoo.images.geometry import Map, Region
from mdan_zoo.images.preprocessing import without_far_ends
from mdan_zoo.inference.explanation import Explanation, LevelMaps
from mdan_zoo.plots.figures import (
    COLOUR_MAP,
    MARGIN,
    Axes,
    Figure,
    Normalize,
    Rectangle,
    add_axes,
    add_text,
    inch_axes,
    new_figure,
)
from mdan_zoo.plots.prediction import LEGEND, TREE_WIDTH, draw_header, draw_tree, tree_height

_STRENGTH = 0.6  # of the colours over the grey image
_HEADER = 0.6
_TITLE = 0.42
_BAR = 0.08
_TICKS = 0.42
_GAP = 0.12
_FOOTER = 0.4


@dataclass(frozen=True)
class _Cell:
    """Position of a square panel in inches from the left and top of the figure."""

    figure: Figure
    left: float
    top: float
    side: float


_Panel: TypeAlias = Callable[[_Cell], None]


def draw_explanation(
    explanation: Explanation, level: int | str | None = None, label: str | None = None
) -> Figure:
    """Draw an explanation; see `mdan_zoo.plots.plot` for the arguments and errors."""
    seen = _cut(explanation.image, explanation.region)
    image: _Panel = partial(_draw_image, explanation)
    view: _Panel = partial(_draw_seen, seen)
    if label is not None:
        maps = _level_of(explanation, level, label)
        panels = [image, view, *_level_panels(explanation, maps, seen, [label])]
        return _arrange(explanation, panels, columns=2)
    if level is not None:
        maps = explanation.level(level)
        panels = [image, view, *_level_panels(explanation, maps, seen, maps.labels)]
        return _arrange(explanation, panels, columns=math.ceil(math.sqrt(1.5 * len(panels))))
    picked = {level.name: level.label for level in explanation.prediction.levels}
    by_level = [
        _level_panels(explanation, maps, seen, [picked[maps.name]]) for maps in explanation.levels
    ]
    if len(by_level[0]) == 1:  # a flat network has no attention
        return _arrange(explanation, [image, view, *by_level[0]], columns=3)
    upper = [image, *(attention for attention, _ in by_level)]
    lower = [view, *(class_map for _, class_map in by_level)]
    return _arrange(explanation, [*upper, *lower], columns=len(upper))


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
        f"{explanation.prediction.model} has maps of no class {label!r}; "
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
    high = max(float(values.max()) for values in shown.values())
    class_limits = (low, high)  # shared, so that the maps of classes can be compared
    panels: list[_Panel] = []
    if maps.attention is not None:
        fused = f"children of {maps.parent}" if maps.parent else "all classes"
        limits = (float(maps.attention.min()), float(maps.attention.max()))
        title = (f"{maps.name}: attention", f"L-CAM of {fused}")
        panels.append(partial(_draw_map, seen, maps.attention, limits, title))
    for label, values in shown.items():
        name = tree.levels[tree.level_index(maps.name)][tree.index(maps.name, label)]
        title = (f"{name} {scores[name]:.2f}", f"{maps.name}: class activation map")
        panels.append(partial(_draw_map, seen, values, class_limits, title))
    return panels


def _arrange(explanation: Explanation, panels: Sequence[_Panel], columns: int) -> Figure:
    """Place panels in rows, with the tree to their right."""
    side = 2.4 if len(panels) <= 8 else 1.7
    across, down = side + _BAR + _TICKS + _GAP, side + _TITLE + _GAP
    rows = math.ceil(len(panels) / columns)
    tree_left = MARGIN + columns * across + 0.1
    height = max(rows * down, tree_height(explanation.prediction.hierarchy) + _TITLE)
    below = MARGIN + _HEADER + height
    figure = new_figure(tree_left + TREE_WIDTH + MARGIN, below + _FOOTER + MARGIN)
    draw_header(figure, explanation.prediction)
    for number, draw in enumerate(panels):
        row, column = divmod(number, columns)
        top = MARGIN + _HEADER + row * down
        draw(_Cell(figure, MARGIN + column * across, top, side))
    heading = inch_axes(figure, tree_left, MARGIN + _HEADER, TREE_WIDTH, _TITLE)
    add_text(heading, 0, 0.12, "probabilities", TREE_WIDTH, fontweight="bold")
    draw_tree(figure, explanation.prediction, tree_left, MARGIN + _HEADER + 0.5 * _TITLE)
    _draw_footer(figure, explanation, below)
    return figure


def _draw_footer(figure: Figure, explanation: Explanation, top: float) -> None:
    """Explain the colours and numbers."""
    maps = "Maps: yellow is high, violet is low. Class activation: contribution to the logit."
    if explanation.levels[0].attention is not None:
        maps += " Attention: M; features are multiplied by 1 + M."
    room = float(figure.get_size_inches()[0]) - 2 * MARGIN
    axes = inch_axes(figure, MARGIN, top, room, _FOOTER)
    add_text(axes, 0, 0.15, maps, room)
    add_text(axes, 0, 0.33, f"Hierarchy: {LEGEND}.", room)


def _draw_image(explanation: Explanation, cell: _Cell) -> None:
    """Draw the image, or the middle of a very long one, and frame what the network saw."""
    image = explanation.image
    middle = without_far_ends(image)
    what = "image" if middle.size == image.size else "middle of the image"
    title = (f"{what}, {image.width} x {image.height}", "frame: the part that the network saw")
    small = middle.copy()
    small.thumbnail((600, 600))
    axes = _panel(cell, title)
    left, top = (image.width - middle.width) / 2, (image.height - middle.height) / 2
    side = max(middle.size)
    extent = (left, left + middle.width, top + middle.height, top)
    axes.imshow(small, origin="upper", extent=extent)
    region = explanation.region
    frame = Rectangle(
        (region.left, region.top), region.right - region.left, region.bottom - region.top
    )
    frame.set(facecolor="none", edgecolor="#ffb000", linewidth=1.5)
    axes.add_patch(frame)
    axes.set(xlim=(left, left + side), ylim=(top + side, top))


def _draw_seen(seen: Image.Image, cell: _Cell) -> None:
    axes = _panel(cell, ("what the network saw", "resized and centre-cropped"))
    axes.imshow(seen, origin="upper")


def _draw_map(
    seen: Image.Image,
    values: Map,
    limits: tuple[float, float],
    title: tuple[str, str],
    cell: _Cell,
) -> None:
    """Draw a map over the greyscale image, with a colour bar."""
    axes = _panel(cell, title)
    low, high = limits
    extent = (0, seen.width, seen.height, 0)
    grey = seen.convert("L")
    axes.imshow(grey, origin="upper", cmap="gray", vmin=0, vmax=255, extent=extent)
    drawn = axes.imshow(
        values,
        origin="upper",
        cmap=COLOUR_MAP,
        norm=Normalize(low, high if high > low else low + 1),
        alpha=_STRENGTH,
        interpolation="bilinear",
        extent=extent,
    )
    left, top = cell.left + cell.side + 0.05, cell.top + _TITLE
    bar = add_axes(cell.figure, left, top, _BAR, cell.side)
    bar.set_axis_on()
    cell.figure.colorbar(drawn, cax=bar, ticks=sorted({low, high}))
    ends = [f"{value:.2g}" for value in sorted({low, high})]
    bar.set_yticklabels(ends, fontsize=7, usetex=False)
    bar.tick_params(length=2, pad=2)


def _panel(cell: _Cell, title: tuple[str, str]) -> Axes:
    room = cell.side + _BAR + _TICKS - 0.05
    heading = inch_axes(cell.figure, cell.left, cell.top, room, _TITLE)
    add_text(heading, 0, 0.12, title[0], room, fontweight="bold")
    add_text(heading, 0, 0.29, title[1], room, fontsize=7)
    return add_axes(cell.figure, cell.left, cell.top + _TITLE, cell.side, cell.side)


def _cut(image: Image.Image, region: Region) -> Image.Image:
    """Return the part that the network saw as a square of fixed size."""
    box = (region.left, region.top, region.right, region.bottom)
    inside = (max(0, box[0]), max(0, box[1]), min(image.width, box[2]), min(image.height, box[3]))
    return image.resize((480, 480), Image.Resampling.BICUBIC, box=inside)
