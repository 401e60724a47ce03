"""Comparison of a dataset with a model of another hierarchy, at a level that both have.

Classes are compared by name, never by position: polarity 0 is positive in Mikels' hierarchy and
negative in most others.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mdan_zoo.datasets.files import read_cells, shown
from mdan_zoo.datasets.labels import Labels
from mdan_zoo.datasets.registry import get_dataset, read_dataset
from mdan_zoo.datasets.sample import Sample
from mdan_zoo.errors import DatasetError, HierarchyError, InputError, did_you_mean
from mdan_zoo.hierarchy import files
from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.hierarchy.tree import Hierarchy

LabelMap = Mapping[str, str]
"""The class of the model for each class of a dataset, by name; "" leaves out its images."""


@dataclass(frozen=True)
class Comparison:
    """The classes of a model that the classes of a dataset correspond to.

    Attributes:
        theirs: Hierarchy of the labels of the dataset.
        ours: Hierarchy of the model.
        their_level, level: The compared levels.
        classes: For every class of their level, the class id in our level, or None.
    """

    theirs: Hierarchy
    ours: Hierarchy
    their_level: int
    level: int
    classes: tuple[int | None, ...]

    @property
    def names(self) -> tuple[tuple[str, str], ...]:
        """Pairs (class of the dataset, class of the model or "")."""
        names = self.ours.levels[self.level]
        ours = ("" if k is None else names[k] for k in self.classes)
        return tuple(zip(self.theirs.levels[self.their_level], ours, strict=True))

    def name_of(self, sample: Sample) -> str:
        """Return the name of the class of a sample in the dataset, at the compared level."""
        if len(sample.labels) <= self.their_level:
            return "no label"
        return self.theirs.levels[self.their_level][sample.labels[self.their_level]]

    def convert(self, sample: Sample) -> Sample | None:
        """Return a sample with labels of the model down to the level, or None if it has none."""
        if len(sample.labels) <= self.their_level:
            return None
        found = self.classes[sample.labels[self.their_level]]
        if found is None:
            return None
        labels = self.ours.paths(self.level)[found]
        shares = [0.0] * self.ours.sizes[self.level]
        their_paths = self.theirs.paths(len(sample.labels) - 1)
        for path, share in zip(their_paths, sample.distribution, strict=True):
            counterpart = self.classes[path[self.their_level]]
            if counterpart is not None:
                shares[counterpart] += share
        distribution = tuple(share / sum(shares) for share in shares)
        return replace(sample, labels=labels, distribution=distribution)


def read_for_model(
    dataset: str,
    folder: str | os.PathLike[str],
    ours: Hierarchy,
    level: str | None = None,
    label_map: LabelMap | None = None,
    exclude: str | os.PathLike[str] | None = None,
) -> tuple[list[Sample], Comparison | None]:
    """Read a dataset with the hierarchy of a model or, if it has other classes, with its own.

    Returns:
        The samples, and how to compare them with the model if they have labels of another
        hierarchy. The finest level at which all classes of the model, or all of the dataset, have
        a counterpart is compared, unless `level` or `label_map` is given.

    Raises:
        DatasetError: The folder does not contain the dataset, or there is no common level.
        InputError: The label map does not fit the dataset or the model.
        UnknownNameError: No dataset or level has that name.
    """
    label_map, reader = label_map or {}, get_dataset(dataset)
    plain = level is None and not label_map
    if reader.class_names is not None:
        names = reader.class_names(Path(folder), ours)
        theirs = _hierarchy_of_names(names, ours, level, label_map)
        if theirs is None or (plain and theirs == ours):
            return read_dataset(dataset, folder, ours, exclude=exclude), None
        label_map = {name: label_map[name] for name in label_map if Labels(theirs).has(name)}
    else:
        theirs = get_hierarchy(reader.hierarchy)
        if plain and all(map(Labels(ours, theirs).has, theirs.leaves)):
            try:
                return read_dataset(dataset, folder, ours, exclude=exclude), None
            except (DatasetError, HierarchyError):
                if theirs == ours:
                    raise
    comparison = _find_comparison(dataset, theirs, ours, level, label_map)
    try:
        return read_dataset(dataset, folder, theirs, exclude=exclude), comparison
    except DatasetError:
        if reader.class_names is None or label_map or theirs == ours:
            raise
    # Some of the user's own images are labelled at other levels of the model.
    comparison = _find_comparison(dataset, ours, ours, level, label_map)
    return read_dataset(dataset, folder, ours, exclude=exclude), comparison


def load_label_map(path: Path) -> dict[str, str]:
    """Read a label map: a .toml or .json file, or a .csv file with the columns `label` and `class`.

    Every name of a class of the dataset is mapped to the name of a class of the model, or to "".
    """
    if path.suffix.lower() == ".csv":
        header, rows = read_cells(path)
        if [name.lower() for name in header] != ["label", "class"]:
            raise InputError(f"{path} has the columns {', '.join(header)}; expected label,class")
        names = [label for label, _ in rows]
        repeated = [name for name in dict.fromkeys(names) if names.count(name) > 1]
        if repeated:
            raise InputError(f"{path} has several rows of {shown(repeated)}")
        return dict(rows)
    if path.suffix.lower() not in (".toml", ".json"):
        raise InputError(f"{path}: a label map must end in .toml, .json or .csv")
    try:
        content = files.parse(path.read_text(encoding="utf-8-sig"), path.suffix)
    except OSError as error:
        raise InputError(f"cannot read the label map {path}: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error
    if not isinstance(content, dict) or not all(isinstance(v, str) for v in content.values()):
        raise InputError(
            f'{path}: a label map has entries such as happiness = "positive", or = "" to leave '
            "out a class"
        )
    return content


def _by_level(hierarchy: Hierarchy, release: Hierarchy | None = None) -> list[Labels]:
    """Return the labels of every level, as those of a hierarchy of one level."""
    single = []
    for names, level_name in zip(hierarchy.levels, hierarchy.level_names, strict=True):
        aliases = tuple(pair for pair in hierarchy.aliases if pair[1] in names)
        single.append(Hierarchy(hierarchy.name, (names,), (), (level_name,), aliases))
    return [Labels(tree, release) for tree in single]


def _hierarchy_of_names(
    names: set[str], ours: Hierarchy, level: str | None, label_map: LabelMap
) -> Hierarchy | None:
    """Return the hierarchy with which to read the user's own images, given names in the dataset.

    It is that of the model if all its leaves are among the names. Otherwise it has one level: the
    names that are in the label map or classes of the compared level. By default, that is the
    coarsest level down to which all names that are classes of the model are found. None, to read
    with the hierarchy of the model, if that is the finest one.
    """
    levels = _by_level(ours)
    if level is not None or label_map:
        compared = _level_of(level, label_map, levels, ours)
    elif {levels[-1].leaf(n, n) for n in names if levels[-1].has(n)} == set(range(ours.sizes[-1])):
        return ours
    else:
        found = [[labels.has(name) for labels in levels] for name in names]
        if names and not any(map(any, found)):
            raise DatasetError(
                f"none of the names in the dataset, {shown(sorted(names), 10)}, is a class of the "
                f"model, {_described(ours)}; give a label map (--label-map)"
            )
        compared = max((has.index(True) for has in found if any(has)), default=ours.depth - 1)
        if compared == ours.depth - 1:
            return None
    mapped = Labels(Hierarchy("map", (tuple(label_map),))) if label_map else None
    known = {n for n in names if levels[compared].has(n) or (mapped and mapped.has(n))}
    if mapped and names and not any(map(mapped.has, names)):
        raise InputError(
            f"the dataset has none of the names in the label map, {shown(label_map, 10)}; it has "
            + shown(sorted(names), 10)
        )
    if not known:
        return ours if names else None
    spellings = {n.strip().casefold(): n for n in sorted(known)}  # names ignore case
    return Hierarchy("labels", (tuple(spellings.values()),), (), (ours.level_names[compared],))


def _level_of(level: str | None, label_map: LabelMap, levels: list[Labels], ours: Hierarchy) -> int:
    """Return the level of the model that is given, or that has all classes of the label map."""
    candidates = list(range(ours.depth)) if level is None else [ours.level_index(level)]
    targets = [name for name in label_map.values() if name]
    fitting = _with_all(targets, [levels[k] for k in candidates], "the model")
    if len(fitting) > 1:
        among = " and ".join(repr(ours.level_names[k]) for k in fitting)
        raise InputError(f"the label map fits the levels {among}; give the level (--level)")
    return candidates[fitting[0]]


def _with_all(names: Iterable[str], levels: Sequence[Labels], whose: str) -> list[int]:
    """Return the indices of the levels that have all names of one side of a label map."""
    names = list(names)
    fitting = [k for k, labels in enumerate(levels) if all(map(labels.has, names))]
    if not fitting:
        known = [leaf for labels in reversed(levels) for leaf in labels.hierarchy.leaves]
        for name in names:
            if not any(labels.has(name) for labels in levels):
                raise InputError(
                    f"the label map has {name!r}, which is no class of {whose} at a level that can "
                    f"be compared: {did_you_mean(name, known)}"
                )
        raise InputError(
            f"the label map has classes of several levels of {whose}, {shown(names, 10)}; use "
            "those of one level"
        )
    return fitting


def _find_comparison(
    dataset: str, theirs: Hierarchy, ours: Hierarchy, level: str | None, label_map: LabelMap
) -> Comparison:
    """Return the comparison at the given level, or at the finest that fits."""
    our_levels, their_levels = _by_level(ours, theirs), _by_level(theirs)
    explicit = level is not None or bool(label_map)
    candidates = [_level_of(level, label_map, our_levels, ours)] if explicit else range(ours.depth)
    for k in reversed(candidates):
        ranked = []
        for d in _with_all(label_map, their_levels, dataset):
            mapped: dict[int, str] = {}
            for name, target in label_map.items():
                if mapped.setdefault(their_levels[d].leaf(name, name), target) != target:
                    raise InputError(f"the label map has two entries for one class, {name!r}")
            names = [mapped.get(c, name) for c, name in enumerate(theirs.levels[d])]
            has, leaf = our_levels[k].has, our_levels[k].leaf
            classes = tuple(leaf(name, name) if has(name) else None for name in names)
            ranked.append((len({*classes} - {None}), -classes.count(None), d, classes))
        found, missing, d, classes = max(ranked, key=lambda rank: rank[:3])
        if (explicit and found) or (found > 1 and (found == ours.sizes[k] or not missing)):
            return Comparison(theirs, ours, d, k, classes)
    raise DatasetError(
        f"{dataset} has no level in common with the model{f' at {level!r}' if level else ''}; its "
        f"classes are {_described(theirs)}, those of the model {_described(ours)}; give a label map"
    )


def _described(hierarchy: Hierarchy) -> str:
    return ", or ".join(shown(names, 10) for names in hierarchy.levels)
