"""The `Hierarchy` class, which needs only the standard library."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

from mdan_zoo._util.files import write_atomically
from mdan_zoo.errors import HierarchyError, InputError, UnknownNameError, did_you_mean
from mdan_zoo.hierarchy import files
from mdan_zoo.hierarchy import validation as checks

# A hierarchy as nested mappings that end in lists of class names.
Nested: TypeAlias = Mapping[str, "Nested"] | Sequence[str]

_DEFAULT_LEVEL_NAMES = {1: ("emotion",), 2: ("coarse", "fine"), 3: ("coarse", "medium", "fine")}


@dataclass(frozen=True, repr=False)
class Hierarchy:
    """An immutable emotion hierarchy of one to three levels, coarse to fine.

    A class is identified by its name within its level, and its position there is its class id. The
    same name may occur at several levels, as "sadness" does in Parrott's hierarchy. The
    constructor requires tuples; `from_parents`, `from_nested`, `from_dict` and `load` do not.
    Methods raise `UnknownNameError` for an unknown level, class, release or id.

    Args:
        name: Name of the hierarchy.
        levels: Class names of every level, coarse to fine.
        parents: `parents[i][k]` is the name, in level i, of the parent of class k of level i + 1.
        level_names: A name for every level. Default: "emotion", or "coarse" to "fine".
        aliases: Pairs (alternative spelling, class name), for the spellings of dataset releases.
        release_ids: Pairs (release, id of every leaf), for releases with different leaf ids.

    Raises:
        HierarchyError: Invalid; the message gives the location, such as parents[1]['zest'].
    """

    name: str
    levels: tuple[tuple[str, ...], ...]
    parents: tuple[tuple[str, ...], ...] = ()
    level_names: tuple[str, ...] = ()
    aliases: tuple[tuple[str, str], ...] = ()
    release_ids: tuple[tuple[str, tuple[int, ...]], ...] = ()

    def __post_init__(self) -> None:
        checks.check_name(self.name, "name")
        checks.check_levels(self.levels)
        checks.check_parents(self.levels, self.parents)
        if self.level_names == ():
            object.__setattr__(self, "level_names", _DEFAULT_LEVEL_NAMES[self.depth])
        checks.check_unique_names(self.level_names, "level_names")
        if len(self.level_names) != self.depth:
            raise HierarchyError(
                f"level_names must hold {self.depth} names, one for every level, got "
                f"{self.level_names!r}"
            )
        checks.check_aliases(self.aliases, self.levels)
        checks.check_release_ids(self.release_ids, self.leaves)
        # Sorted, so that the order of aliases does not affect equality.
        object.__setattr__(self, "aliases", tuple(sorted(self.aliases)))
        object.__setattr__(self, "release_ids", tuple(sorted(self.release_ids)))

    def __repr__(self) -> str:
        return f"Hierarchy({self.name!r}, {'/'.join(map(str, self.sizes))})"

    def __str__(self) -> str:
        sizes = "/".join(map(str, self.sizes))
        title = f"{self.name} ({' > '.join(self.level_names)}: {sizes} classes)"
        return "\n  ".join([title, *_draw(self.to_nested())])

    @classmethod
    def from_parents(
        cls,
        name: str,
        roots: Sequence[str],
        parents: Sequence[Mapping[str, str]] = (),
        *,
        level_names: Sequence[str] = (),
        aliases: Mapping[str, str] | None = None,
        release_ids: Mapping[str, Mapping[str, int]] | None = None,
    ) -> Hierarchy:
        """Build a hierarchy from one mapping {class: parent} for every level below the first.

        Args:
            name: Name of the hierarchy.
            roots: The classes of the coarsest level, in the order of their ids.
            parents: For every further level, its classes in the order of their ids, with parents.
            level_names: A name for every level. Default: "emotion", or "coarse" to "fine".
            aliases: {alternative spelling: class name}.
            release_ids: {release: {leaf: id}}.
        """
        mappings = list(checks.each(checks.as_mapping, parents, "parents"))
        data = {
            "name": name,
            "levels": [roots, *(list(mapping) for mapping in mappings)],
            "parents": mappings,
            "level_names": level_names,
            "aliases": aliases or {},
            "release_ids": release_ids or {},
        }
        return cls.from_dict(data)

    @classmethod
    def from_nested(
        cls,
        nested: Nested,
        name: str = "custom",
        *,
        level_names: Sequence[str] = (),
        aliases: Mapping[str, str] | None = None,
    ) -> Hierarchy:
        """Build a hierarchy from nested mappings, as in {"positive": {"joy": ["zest", "pride"]}}.

        Class ids follow the given order. All leaves must be at the same depth; a list of names is
        a hierarchy of one level.
        """
        levels, parents = checks.levels_of_nested(nested)
        names = checks.as_tuple(level_names, "level_names")
        pairs = tuple(checks.as_mapping(aliases or {}, "aliases").items())
        return cls(name, levels, parents, names, pairs)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Hierarchy:
        """Build a hierarchy from the output of `to_dict`; only "name" and "levels" are required.

        Several levels also need "parents": one mapping {class: parent} per level below the first.
        """
        checks.check_fields(checks.as_mapping(data, "a hierarchy"))
        levels = tuple(checks.each(checks.as_tuple, data["levels"], "levels"))
        checks.check_levels(levels)
        aliases = checks.as_mapping(data.get("aliases", {}), "aliases")
        release_ids = checks.as_mapping(data.get("release_ids", {}), "release_ids")
        mappings = checks.as_tuple(data.get("parents", ()), "parents")
        if len(mappings) == len(levels) - 1:  # otherwise the constructor raises an error
            parents = enumerate(zip(levels[1:], mappings, strict=True))
            mappings = tuple(checks.in_order(*pair, f"parents[{i}]") for i, pair in parents)
        return cls(
            data["name"],
            levels,
            mappings,
            checks.as_tuple(data.get("level_names", ()), "level_names"),
            tuple(aliases.items()),
            tuple(
                (release, checks.in_order(levels[-1], ids, f"release_ids[{release!r}]"))
                for release, ids in release_ids.items()
            ),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the hierarchy as JSON types; `from_dict` restores it."""
        return {
            "name": self.name,
            "level_names": list(self.level_names),
            "levels": [list(names) for names in self.levels],
            "parents": [
                dict(zip(names, parents, strict=True))
                for names, parents in zip(self.levels[1:], self.parents, strict=True)
            ],
            "aliases": dict(self.aliases),
            "release_ids": {
                release: dict(zip(self.leaves, ids, strict=True))
                for release, ids in self.release_ids
            },
        }

    def to_nested(self) -> Nested:
        """Return nested mappings that end in lists of leaves; siblings are grouped.

        Class ids are preserved only if siblings have consecutive ids.
        """

        def below(level: int, names: Sequence[str]) -> Nested:
            if level == self.depth - 1:
                return list(names)
            return {name: below(level + 1, self.children(level, name)) for name in names}

        return below(0, self.levels[0])

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Hierarchy:
        """Read a hierarchy from a .json or .toml file with the fields of `to_dict`.

        The `HierarchyError` for a missing or invalid file names it and the location in it.
        """
        if not isinstance(path, (str, os.PathLike)):
            raise HierarchyError(f"cannot read hierarchy {path!r}: expected a file path")
        path = Path(path)
        try:
            return cls.from_dict(files.parse(path.read_text(encoding="utf-8-sig"), path.suffix))
        except OSError as error:
            raise HierarchyError(f"cannot read hierarchy {path}: {error.strerror}") from error
        except ValueError as error:  # as HierarchyError and errors of encodings are
            raise HierarchyError(f"{path}: {error}") from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a .json or .toml file, atomically; `HierarchyError` if it cannot be written."""
        path = Path(path)
        try:
            write_atomically(path, files.render(self.to_dict(), path.suffix).encode())
        except (InputError, OSError) as error:
            raise HierarchyError(f"cannot write hierarchy {self.name!r}: {error}") from error

    @property
    def depth(self) -> int:
        """Number of levels, 1 to 3."""
        return len(self.levels)

    @property
    def leaves(self) -> tuple[str, ...]:
        """Class names of the finest level."""
        return self.levels[-1]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of classes of every level, coarse to fine, such as (2, 6, 25)."""
        return tuple(len(names) for names in self.levels)

    def level_index(self, level: int | str) -> int:
        """Return the 0-based index of a level given by index or name."""
        if isinstance(level, str) and level in self.level_names:
            return self.level_names.index(level)
        if isinstance(level, int) and 0 <= level < self.depth:
            return level
        names = ", ".join(map(repr, self.level_names))
        raise UnknownNameError(
            f"hierarchy {self.name!r} has no level {level!r}: use 0 to {self.depth - 1}, or {names}"
        )

    def cut(self, level: int | str) -> Hierarchy:
        """Return the hierarchy of the levels down to a level, given by index or name.

        Its name is that of this hierarchy and of the level, such as "mikels8_polarity".
        """
        i = self.level_index(level)
        if i == self.depth - 1:
            return self
        known = {name for names in self.levels[: i + 1] for name in names}
        return Hierarchy(
            f"{self.name}_{self.level_names[i]}",
            self.levels[: i + 1],
            self.parents[:i],
            self.level_names[: i + 1],
            tuple(pair for pair in self.aliases if pair[1] in known),
        )

    def index(self, level: int | str, name: str) -> int:
        """Return the class id of a name or alias within a level, given by index or name."""
        names = self.levels[self.level_index(level)]
        shown = dict(self.aliases).get(name, name) if isinstance(name, str) else name
        if shown in names:
            return names.index(shown)
        raise UnknownNameError(
            f"hierarchy {self.name!r} has no class {name!r} at level {level!r}: "
            + did_you_mean(str(name), names)
        )

    def parent(self, level: int | str, name: str) -> str | None:
        """Return the name of the parent of a class; None at the first level."""
        i, k = self.level_index(level), self.index(level, name)
        return self.parents[i - 1][k] if i > 0 else None

    def children(self, level: int | str, name: str) -> tuple[str, ...]:
        """Return the names of the children of a class; empty for a leaf."""
        i, k = self.level_index(level), self.index(level, name)
        if i == self.depth - 1:
            return ()
        return tuple(self.levels[i + 1][child] for child in self.children_indices[i][k])

    def path(self, leaf: str) -> tuple[str, ...]:
        """Return the path from the first level to a leaf, given by name or alias."""
        indices = self.leaf_paths[self.index(self.depth - 1, leaf)]
        return tuple(names[k] for names, k in zip(self.levels, indices, strict=True))

    def leaf_from_release_id(self, release: str, release_id: int) -> int:
        """Return the class id of the leaf with the id `release_id` in a dataset release."""
        ids = dict(self.release_ids).get(release)
        if ids is None:
            known = [name for name, _ in self.release_ids]
            suggestion = did_you_mean(release, known) if known else "it has none"
            raise UnknownNameError(
                f"hierarchy {self.name!r} has no class ids for release {release!r}: {suggestion}"
            )
        if release_id not in ids:
            raise UnknownNameError(
                f"hierarchy {self.name!r} has no leaf with id {release_id!r} in release "
                f"{release!r}: available: {', '.join(map(str, sorted(ids)))}"
            )
        return ids.index(release_id)

    @cached_property
    def parent_indices(self) -> tuple[tuple[int, ...], ...]:
        """`parent_indices[i][k]`: id, in level i, of the parent of class k of level i + 1."""
        return tuple(
            tuple(names.index(parent) for parent in parents)
            for names, parents in zip(self.levels[:-1], self.parents, strict=True)
        )

    @cached_property
    def children_indices(self) -> tuple[tuple[tuple[int, ...], ...], ...]:
        """`children_indices[i][j]`: ids, in level i + 1, of the children of class j of level i."""
        return tuple(
            tuple(tuple(k for k, p in enumerate(parents) if p == j) for j in range(size))
            for size, parents in zip(self.sizes[:-1], self.parent_indices, strict=True)
        )

    @cached_property
    def leaf_paths(self) -> tuple[tuple[int, ...], ...]:
        """`leaf_paths[k]`: class ids, coarse to fine, on the path to leaf k; leaves x depth."""
        return self.paths(self.depth - 1)

    def paths(self, level: int | str) -> tuple[tuple[int, ...], ...]:
        """Return the class ids, coarse to fine, on the path to every class of a level."""
        i = self.level_index(level)
        paths: list[tuple[int, ...]] = [(k,) for k in range(self.sizes[i])]
        for parents in reversed(self.parent_indices[:i]):
            paths = [(parents[path[0]], *path) for path in paths]
        return tuple(paths)

    def class_name(self, path: Sequence[int]) -> str:
        """Return the name of the last class of a path of class ids, coarse to fine."""
        return self.levels[len(path) - 1][path[-1]]

    def membership(self, level: int | str) -> tuple[tuple[int, ...], ...]:
        """Return the 0/1 matrix (classes of the level, leaves) that sums leaves up (Eq. 2).

        An entry is 1 if the leaf is the class or one of its descendants.
        """
        i = self.level_index(level)
        return tuple(
            tuple(int(path[i] == j) for path in self.leaf_paths) for j in range(self.sizes[i])
        )


def _draw(nested: Nested) -> list[str]:
    if not isinstance(nested, Mapping):
        return [", ".join(nested)]
    lines = []
    for name, children in nested.items():
        below = _draw(children)
        if isinstance(children, Mapping):
            lines += [name, *(f"  {line}" for line in below)]
        else:
            lines.append(f"{name}: {below[0]}")
    return lines
