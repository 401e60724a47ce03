"""Ratings: the classes whose probability is compared with mean ratings. Needs no torch."""

from __future__ import annotations

from mdan_zoo.hierarchy.tree import Hierarchy

_RATED_CLASSES = {"valence": ("positive",), "arousal": ("excited", "distressed")}
"""The classes whose summed probability is correlated with each rating."""


def rated_classes(rating: str, hierarchy: Hierarchy) -> tuple[int, list[int]] | None:
    """Return the level and class ids whose summed probability is compared with a rating.

    Args:
        rating: Name of the rating, such as "valence".
        hierarchy: The hierarchy.

    Returns:
        None if no level has these classes, or the rating is not supported.
    """
    classes = _RATED_CLASSES.get(rating)
    for level, names in enumerate(hierarchy.levels):
        if classes and set(classes) <= set(names):
            return level, [names.index(name) for name in classes]
    return None
