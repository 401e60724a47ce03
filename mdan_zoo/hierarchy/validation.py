"""Validation of hierarchies and conversion of user input to the tuples of `Hierarchy`.

Every function raises `HierarchyError` with the location of the error, such as parents[1]['zest'].
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

from mdan_zoo.errors import HierarchyError, did_you_mean

FIELDS = ("name", "level_names", "levels", "parents", "aliases", "release_ids")
MAX_DEPTH = 3

Levels: TypeAlias = tuple[tuple[str, ...], ...]
T = TypeVar("T")

# Control characters, lone surrogates, and the line and paragraph separators of Unicode.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]")


def as_tuple(value: object, place: str) -> tuple[Any, ...]:
    """Return a list or tuple as a tuple."""
    if not isinstance(value, (list, tuple)):
        raise HierarchyError(f"{place} must be a list, got {value!r}")
    return tuple(value)


def as_mapping(value: object, place: str) -> Mapping[Any, Any]:
    """Check that a value is a mapping."""
    if not isinstance(value, Mapping):
        raise HierarchyError(f"{place} must be a mapping, got {value!r}")
    return value


def each(check: Callable[[object, str], T], values: object, place: str) -> Iterator[T]:
    """Yield `check` of every value of a list."""
    return (check(value, f"{place}[{i}]") for i, value in enumerate(as_tuple(values, place)))


def check_fields(data: Mapping[Any, Any]) -> None:
    """Check that a mapping has the fields of a hierarchy and no others."""
    for field in data:
        _check_known(field, FIELDS, "unknown field")
    for field in ("name", "levels"):
        if field not in data:
            raise HierarchyError(f"the field {field!r} is missing")


def in_order(names: tuple[str, ...], mapping: object, place: str) -> tuple[Any, ...]:
    """Return the values of a mapping in the order of `names`, which must equal its keys."""
    mapping = as_mapping(mapping, place)
    for name in mapping:
        _check_known(name, names, f"{place}: unknown class")
    for name in names:
        if name not in mapping:
            raise HierarchyError(f"{place}: missing entry for class {name!r}")
    return tuple(mapping[name] for name in names)


def levels_of_nested(nested: object) -> tuple[Levels, Levels]:
    """Return the levels and parents of nested mappings that end in lists of leaves."""
    levels: list[tuple[str, ...]] = []
    parents: list[tuple[str, ...]] = []
    groups: list[tuple[str, Any]] = [("", nested)]  # (a class, its children) of one level
    while groups:
        if len(levels) == MAX_DEPTH:
            raise HierarchyError(
                f"the hierarchy has more than {MAX_DEPTH} levels, at {groups[0][0]!r}"
            )
        for name, children in groups:
            if not isinstance(children, (Mapping, list, tuple)):
                raise HierarchyError(
                    f"{f'the children of {name!r}' if name else 'the hierarchy'} must be a "
                    f"mapping or a list of class names, got {children!r}"
                )
        inner = [name for name, children in groups if isinstance(children, Mapping)]
        leafy = [name for name, children in groups if not isinstance(children, Mapping)]
        if inner and leafy:
            raise HierarchyError(
                f"all leaves must be at the same depth, but {leafy[0]!r} has a list of leaves "
                f"where {inner[0]!r} has a mapping"
            )
        levels.append(tuple(child for _, children in groups for child in children))
        parents.append(tuple(parent for parent, children in groups for _ in children))
        groups = [item for _, children in groups for item in children.items()] if inner else []
    return tuple(levels), tuple(parents[1:])


def check_name(name: str, place: str) -> None:
    """Check that a name is a non-empty, printable, single-line string."""
    if not isinstance(name, str):
        raise HierarchyError(f"{place} must be a string, got {name!r}")
    if not name.strip():
        raise HierarchyError(f"{place} must not be empty, got {name!r}")
    if _UNPRINTABLE.search(name):
        raise HierarchyError(
            f"{place} must not contain control characters or line breaks, got {name!r}"
        )


def check_unique_names(names: tuple[str, ...], place: str) -> None:
    """Check a tuple of unique names."""
    _check_tuple(names, place)
    for i, name in enumerate(names):
        check_name(name, f"{place}[{i}]")
        if name in names[:i]:
            raise HierarchyError(f"{place}: names must be unique, {name!r} is given twice")


def check_levels(levels: Levels) -> None:
    """Check that there are 1 to 3 levels, each with unique names."""
    _check_tuple(levels, "levels")
    if not 1 <= len(levels) <= MAX_DEPTH:
        raise HierarchyError(f"a hierarchy has 1 to {MAX_DEPTH} levels, got {len(levels)}")
    for i, names in enumerate(levels):
        check_unique_names(names, f"levels[{i}]")
        if not names:
            raise HierarchyError(f"levels[{i}] must have at least one class, got none")


def check_parents(levels: Levels, parents: Levels) -> None:
    """Check that every class below the first level has one parent, and every other has a child."""
    _check_tuple(parents, "parents")
    if len(parents) != len(levels) - 1:
        raise HierarchyError(
            f"a hierarchy of {len(levels)} levels needs {len(levels) - 1} entries in parents, one "
            f"for every level except the first, got {len(parents)}"
        )
    for i, (coarser, finer, names) in enumerate(zip(levels, levels[1:], parents, strict=False)):
        place = f"parents[{i}]"
        _check_tuple(names, place)
        if len(names) != len(finer):
            raise HierarchyError(
                f"{place} must name one parent for each of the {len(finer)} classes of the finer "
                f"level, got {len(names)}"
            )
        for child, parent in zip(finer, names, strict=True):
            check_name(parent, f"{place}[{child!r}]")
            _check_known(parent, coarser, f"{place}[{child!r}]: unknown class of the coarser level")
        for name in coarser:
            if name not in names:
                raise HierarchyError(
                    f"class {name!r} of levels[{i}] must have at least one child in "
                    f"levels[{i + 1}], got none"
                )


def check_aliases(aliases: tuple[tuple[str, str], ...], levels: Levels) -> None:
    """Check that every alias is a new name of an existing class."""
    classes = [name for names in levels for name in names]
    _check_pairs(aliases, "aliases")
    for alias, name in aliases:
        place = f"aliases[{alias!r}]"
        check_name(name, place)
        _check_known(name, classes, f"{place}: unknown class")
        if alias in classes:
            raise HierarchyError(
                f"{place}: {alias!r} is already a class name; an alias must be a different name"
            )


def check_release_ids(
    release_ids: tuple[tuple[str, tuple[int, ...]], ...], leaves: tuple[str, ...]
) -> None:
    """Check that every release has a unique integer id for each leaf."""
    _check_pairs(release_ids, "release_ids")
    for release, ids in release_ids:
        place = f"release_ids[{release!r}]"
        _check_tuple(ids, place)
        if len(ids) != len(leaves):
            raise HierarchyError(
                f"{place} must hold one id for each of the {len(leaves)} leaves, got {len(ids)}"
            )
        for i, (leaf, number) in enumerate(zip(leaves, ids, strict=True)):
            # Not isinstance: bool is a subclass of int.
            if type(number) is not int:
                raise HierarchyError(f"{place}[{leaf!r}] must be an integer, got {number!r}")
            if number in ids[:i]:
                raise HierarchyError(
                    f"{place}[{leaf!r}]: leaf ids must be unique, {number} is given twice"
                )


def _check_known(name: object, known: Sequence[str], problem: str) -> None:
    if name not in known:
        raise HierarchyError(f"{problem} {name!r}: {did_you_mean(name, known)}")


def _check_tuple(value: tuple[Any, ...], place: str) -> None:
    if not isinstance(value, tuple):
        raise HierarchyError(
            f"{place} must be a tuple, got {value!r}; Hierarchy.from_parents, from_nested and "
            "from_dict accept lists and mappings"
        )


def _check_pairs(pairs: tuple[tuple[str, Any], ...], place: str) -> None:
    _check_tuple(pairs, place)
    for pair in pairs:
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise HierarchyError(f"{place} must hold pairs (name, value), got {pair!r}")
    check_unique_names(tuple(name for name, _ in pairs), place)
