"""Datasets labelled with the polarity only: Twitter I, MVSA-Single and GAPED.

Any hierarchy with a level of polarities will do. If it has no class "neutral", neutral images are
left out, which is logged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mdan_zoo.datasets.files import (
    LOGGER,
    first_folder,
    images_below,
    layout_error,
    read_cells,
    read_number,
    read_text,
    refuse_missing,
    shown,
)
from mdan_zoo.datasets.labels import Labels
from mdan_zoo.datasets.sample import Sample
from mdan_zoo.errors import DatasetError
from mdan_zoo.hierarchy.tree import Hierarchy

_RATERS = 5
_MVSA_TABLE = "labelResultAll.txt"
_GAPED_POLARITY = {
    "A": "negative",  # animal mistreatment
    "H": "negative",  # violation of human rights
    "N": "neutral",
    "P": "positive",
    "Sn": "negative",  # snakes
    "Sp": "negative",  # spiders
}
_GAPED_TABLE = "{}_with SD.txt"


def read_twitter1(folder: Path, hierarchy: Hierarchy) -> list[Sample]:
    """Read Twitter I (You et al., 2015): images of tweets, each labelled by five people.

    The lists of images on which at least three, four and five of them agree are nested. The label
    is that of the majority; the distribution is that of the answers, with 3, 4 or 5 of 5 equal.
    """
    lists = [folder / "ground_truth" / f"twitter_{n}_agrees.txt" for n in ("three", "four", "five")]
    if not all(path.is_file() for path in lists):
        layout = "images/<file> and ground_truth/twitter_{three,four,five}_agrees.txt"
        raise layout_error(folder, "Twitter I", layout)
    negative, positive = _polarities(hierarchy, folder, "negative", "positive").values()
    found: dict[str, tuple[str, int]] = {}
    for agreeing, path in enumerate(lists, start=3):
        for name, label in _read_twitter1_list(path):
            if agreeing == 3 and name in found:
                raise DatasetError(f"{path} lists {name} twice")
            if agreeing > 3 and found.get(name, ("",))[0] != label:
                raise DatasetError(
                    f"{path} lists {name} with the label {label}, and {lists[0].name} does not"
                )
            found[name] = label, agreeing
    refuse_missing([folder / "images" / name for name in found], lists[0])
    samples = []
    for name, (label, agreeing) in found.items():
        labels, other = (positive, negative) if label == "1" else (negative, positive)
        shares = [0.0] * hierarchy.sizes[len(labels) - 1]
        shares[labels[-1]], shares[other[-1]] = agreeing / _RATERS, 1 - agreeing / _RATERS
        samples.append(Sample(folder / "images" / name, labels, tuple(shares), name))
    return Labels(hierarchy).checked(samples, folder)


def _read_twitter1_list(path: Path) -> list[tuple[str, str]]:
    """Return (image, "0" for negative or "1" for positive) for every line of a list."""
    rows = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        *name, label = line.rsplit(maxsplit=1) or ["0"]
        if line.strip() and (not name or label not in ("0", "1")):
            raise DatasetError(f"{path}: line {number} is not 'image 0' or 'image 1' but {line!r}")
        rows += [(name[0].strip(), label)] if name else []
    return rows


def read_mvsa_single(folder: Path, hierarchy: Hierarchy) -> list[Sample]:
    """Read MVSA-Single (Niu et al., 2016): images of tweets, labelled by one person.

    The label is that of the image, not that of the text.
    """
    table = folder / _MVSA_TABLE
    if not table.is_file():
        raise layout_error(folder, "MVSA-Single", f"{_MVSA_TABLE} and data/<ID>.jpg")
    header, rows = read_cells(table, delimiter="\t")
    if [cell.lower() for cell in header] != ["id", "text,image"]:
        raise DatasetError(
            f"{table} has the columns {', '.join(map(repr, header))}; expected 'ID' and "
            "'text,image' (MVSA-Multiple, with the labels of three people, is another dataset)"
        )
    listed = []
    for name, cell in rows:
        label = cell.partition(",")[2].strip()
        if label not in ("positive", "neutral", "negative"):
            raise DatasetError(
                f"{table}: the labels of {name} must be two of positive, neutral and negative, as "
                f"in 'positive,neutral', not {cell!r}"
            )
        listed.append((folder / "data" / f"{name}.jpg", label))
    refuse_missing([image for image, _ in listed], table)
    return _read(listed, hierarchy, folder)


def read_gaped(folder: Path, hierarchy: Hierarchy) -> list[Sample]:
    """Read GAPED (Dan-Glauser & Scherer, 2011): images with mean ratings from 0 to 100.

    The polarity is that of the category, which file names begin with: P is positive, N neutral,
    and A (animal mistreatment), H (human rights), Sn (snakes) and Sp (spiders) are negative.
    """
    root = first_folder([folder / "GAPED", folder])
    tables = {name: root / _GAPED_TABLE.format(name) for name in _GAPED_POLARITY}
    if not all(table.is_file() for table in tables.values()):
        names = "{" + ",".join(tables) + "}"
        layout = f"{names}/<image>.bmp and {_GAPED_TABLE.format(names)}"
        raise layout_error(root, "GAPED", layout)
    files: dict[str, Path] = {}
    for path in images_below(root):
        if other := files.get(path.stem):
            raise DatasetError(f"{root} has two images named {path.stem}: {other} and {path}")
        files[path.stem] = path
    ratings = {}
    for category, table in tables.items():
        for name, valence, arousal in _read_gaped_table(table):
            if name not in files:
                raise DatasetError(f"the image {name} that {table} lists is missing")
            if files[name] in ratings:
                raise DatasetError(f"{table} lists the image {name}, which is listed before")
            ratings[files[name]] = category, (("valence", valence), ("arousal", arousal))
    unlisted = [path for path in files.values() if path not in ratings]
    if unlisted:
        raise DatasetError(
            f"{len(unlisted)} images of {root} are in none of its tables: {shown(unlisted)}"
        )
    listed = [(image, _GAPED_POLARITY[category]) for image, (category, _) in ratings.items()]
    samples = _read(listed, hierarchy, root)
    return [replace(sample, ratings=ratings[sample.image][1]) for sample in samples]


def _read_gaped_table(table: Path) -> list[tuple[str, float, float]]:
    """Return (name without suffix, mean valence, mean arousal) for every row of a table.

    A row is "A001.bmp 12.3 (4.5) 67.8 (9.0) ...": means, each with its standard deviation.
    """
    rows = []
    for line in read_text(table).splitlines():
        cells = line.split()
        name, dot, _ = (cells or [""])[0].rpartition(".")
        if not dot:  # the header
            continue
        if len(cells) < 5:
            raise DatasetError(f"{table}: {line!r} has no means and deviations of two ratings")
        what = f"{table}: the {{}} of {name}"
        valence = read_number(cells[1], what.format("valence"), 0, 100)
        rows.append((name, valence, read_number(cells[3], what.format("arousal"), 0, 100)))
    return rows


def _read(listed: Sequence[tuple[Path, str]], hierarchy: Hierarchy, source: Path) -> list[Sample]:
    """Return the samples of images with one polarity each."""
    labels = Labels(hierarchy)
    paths = _polarities(hierarchy, source, "negative", "positive")
    paths |= _at_level(hierarchy, len(paths["negative"]) - 1, "neutral")
    kept = [(image, paths[polarity]) for image, polarity in listed if polarity in paths]
    if len(kept) < len(listed):
        LOGGER.warning(
            f"{len(listed) - len(kept)} of the {len(listed)} images of {source} are left out: they "
            f"are neutral, and hierarchy {hierarchy.name!r} has no such class"
        )
    samples = [labels.coarse(image, path, image.name) for image, path in kept]
    return labels.checked(samples, source)


def _polarities(hierarchy: Hierarchy, source: Path, *names: str) -> dict[str, tuple[int, ...]]:
    """Return the paths of class ids of polarities, which must be at one level."""
    for level in range(hierarchy.depth):
        if len(paths := _at_level(hierarchy, level, *names)) == len(names):
            return paths
    raise DatasetError(
        f"{source}: the hierarchy {hierarchy.name!r} has no level with the classes "
        f"{', '.join(names)}; its levels are "
        + "; ".join(shown(level, 10) for level in hierarchy.levels)
    )


def _at_level(hierarchy: Hierarchy, level: int, *names: str) -> dict[str, tuple[int, ...]]:
    """Return the paths of those of the names that are classes of a level, or their aliases."""
    aliases = dict(hierarchy.aliases)
    classes = map(str.casefold, hierarchy.levels[level])
    paths = dict(zip(classes, hierarchy.paths(level), strict=True))
    found = {name: paths.get(aliases.get(name, name).casefold()) for name in names}
    return {name: path for name, path in found.items() if path is not None}
