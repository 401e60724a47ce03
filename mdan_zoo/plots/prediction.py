"""Plot of a prediction: the hierarchy with the probability of every class."""

from __future__ import annotations

from mdan_zoo.errors import InputError
from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.inference.prediction import Prediction
from mdan_zoo.plots.figures import (
    MARGIN,
    Figure,
    Rectangle,
    add_axes,
    add_text,
    file_name,
    new_figure,
)

TREE_WIDTH = 4.2
LEGEND = "bold and blue: the predicted path (highest product over levels)"

_BAR_COLOUR, _PREDICTED_COLOUR = "#b9c3cc", "#26648e"
_ROW = 0.2
_INDENT = 0.16
_NAMES = 1.9
_BARS = 1.7
_LEVEL_GAP = 0.1


def draw_prediction(prediction: Prediction) -> Figure:
    """Draw the hierarchy of a prediction with the probability of every class.

    Raises:
        InputError: The image could not be predicted.
    """
    if prediction.error is not None:
        raise InputError(f"{prediction.image}: there is nothing to draw: {prediction.error}")
    header, footer = 0.6, 0.3
    below = MARGIN + header + tree_height(prediction.hierarchy)
    figure = new_figure(TREE_WIDTH + 2 * MARGIN, below + footer + MARGIN)
    draw_header(figure, prediction)
    draw_tree(figure, prediction, MARGIN, MARGIN + header)
    axes = add_axes(figure, MARGIN, below, TREE_WIDTH, footer)
    add_text(axes, 0, 0.2, LEGEND, TREE_WIDTH)
    return figure


def draw_header(figure: Figure, prediction: Prediction) -> None:
    """Write the image's name and the prediction at the top of the figure."""
    room = float(figure.get_size_inches()[0]) - 2 * MARGIN
    axes = add_axes(figure, MARGIN, MARGIN, room, 0.5)
    add_text(axes, 0, 0.1, file_name(prediction.image), room, fontsize=10, fontweight="bold")
    add_text(axes, 0, 0.32, f"{prediction}   ({prediction.model})", room, fontsize=9)


def tree_height(hierarchy: Hierarchy) -> float:
    """Return the height of `draw_tree` in inches."""
    return _ROW * sum(hierarchy.sizes) + _LEVEL_GAP * hierarchy.sizes[0]


def draw_tree(figure: Figure, prediction: Prediction, left: float, top: float) -> None:
    """Draw a row for every class, children below their parent, and emphasise the prediction."""
    axes = add_axes(figure, left, top, TREE_WIDTH, tree_height(prediction.hierarchy))
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
        bar.set_facecolor(_PREDICTED_COLOUR if predicted else _BAR_COLOUR)
        axes.add_patch(bar)
        x = _NAMES + score * _BARS + 0.06
        add_text(axes, x, y - _ROW / 2, f"{score:.2f}", 0.5, fontweight=weight)


def _rows(hierarchy: Hierarchy) -> list[tuple[int, int]]:
    """Return level and class id of every class, each followed by its descendants."""
    paths = {path[: level + 1] for path in hierarchy.leaf_paths for level in range(hierarchy.depth)}
    return [(len(path) - 1, path[-1]) for path in sorted(paths)]
