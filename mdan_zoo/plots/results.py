"""Plots of single results: predictions and explanations."""

from __future__ import annotations

import os

from mdan_zoo.errors import InputError
from mdan_zoo.inference.explanation import Explanation
from mdan_zoo.inference.prediction import Prediction
from mdan_zoo.plots.explanation import draw_explanation
from mdan_zoo.plots.figures import Figure, save
from mdan_zoo.plots.prediction import draw_prediction


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

    Returns:
        The figure.

    Raises:
        UnknownNameError: The hierarchy has no such level or class.
        InputError: The image could not be predicted, the network has no such map, a prediction is
            plotted with a level or class, or no file can be written at `path`.
        MdanZooError: matplotlib is not installed.
    """
    if isinstance(result, Explanation):
        figure = draw_explanation(result, level, label)
    elif level is None and label is None:
        figure = draw_prediction(result)
    else:
        raise InputError("a prediction has no maps: level and label need an explanation")
    if path is not None:
        save(figure, path)
    return figure
