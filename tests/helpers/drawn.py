"""Inspection of figures: texts, and positions of texts and images."""

from __future__ import annotations

import itertools


def texts(figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def boxes(figure):
    """The boxes, in pixels, of all texts and of everything drawn from pixels."""
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    found = []
    for axes in figure.axes:
        labels = [*axes.texts, *(axes.get_yticklabels() if axes.axison else [])]
        found += [text.get_window_extent(renderer) for text in labels if text.get_text()]
        if axes.images:
            found.append(axes.get_window_extent(renderer))
    return found


def assert_nothing_overlaps(figure):
    found = boxes(figure)
    assert len(found) > 3
    for box in found:
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1
    for a, b in itertools.combinations(found, 2):
        width = min(a.x1, b.x1) - max(a.x0, b.x0)
        height = min(a.y1, b.y1) - max(a.y0, b.y0)
        assert width <= 1 or height <= 1, (a, b)
