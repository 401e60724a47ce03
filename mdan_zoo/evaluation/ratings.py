"""Which probability stands for a mean rating. No torch."""

from __future__ import annotations

from mdan_zoo.hierarchy.tree import Hierarchy

_RATED_CLASSES = {"valence": ("positive",), "arousal": ("excited", "distressed")}
"""The classes whose summed probability stands for a rating."""


def rated_classes(rating: str, hierarchy: Hierarchy) -> tuple[int, list[int]] | None:
    """Return a level and the ids of its classes whose summed probability stands for a rating.

    Args:
        rating: Its name, such as "valence".
        hierarchy: The emotion tree.

    Returns:
        None if no level has these classes, or nothing stands for that rating.
    """
    classes = _RATED_CLASSES.get(rating)
    for level, names in enumerate(hierarchy.levels):
        if classes and set(classes) <= set(names):
            return level, [names.index(name) for name in classes]
    return None
