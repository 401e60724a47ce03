"""Exclusion lists: images of a dataset that are left out, such as placeholders.

A list is plain text: a line "image<TAB>reason" for every image that is left out, with the name
relative to the folder of the dataset. The reason is optional; lines that begin with "#" are
ignored. Images that are not listed stay, so a list also serves copies with additional images.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mdan_zoo._util.files import write_atomically
from mdan_zoo.datasets.duplicates import DuplicateImages, find_identical
from mdan_zoo.datasets.file_index import FileIndex
from mdan_zoo.datasets.files import LOGGER, read_text, shown
from mdan_zoo.datasets.sample import Sample
from mdan_zoo.datasets.splits import image_names
from mdan_zoo.errors import DatasetError
from mdan_zoo.hierarchy.tree import Hierarchy


def exclude(samples: Sequence[Sample], folder: Path, path: Path) -> list[Sample]:
    """Return the samples of a dataset in `folder` that the list at `path` does not name.

    Raises:
        DatasetError: A name is not that of a sample, or fewer than two samples are left.
    """
    lines = [line for line in read_text(path).split("\n") if line.strip() and line[0] != "#"]
    listed, names = {line.partition("\t")[0] for line in lines}, image_names(samples, folder)
    absent = sorted(listed.difference(names))
    if absent:
        raise DatasetError(
            f"{len(absent)} of the {len(listed)} images that {path} lists are not among the "
            f"{len(names)} images in {folder}: {shown(map(repr, absent))}; correct these lines, "
            "or write the list of this folder with `mdan-zoo dataset --write-clean`"
        )
    kept = [sample for sample, name in zip(samples, names, strict=True) if name not in listed]
    if len(kept) < 2:
        raise DatasetError(f"{path} leaves {len(kept)} image(s); at least two are required")
    LOGGER.warning(f"{len(listed)} of the {len(names)} images are excluded, as {path} says")
    return kept


def write_exclusions(
    path: Path,
    dataset: str,
    folder: Path,
    images: Mapping[str, str],
    doubtful: Iterable[DuplicateImages] = (),
) -> None:
    """Write the list of images, given with reasons, atomically; doubtful ones are comments."""
    lines = [
        f"# images of {dataset} to exclude: name relative to the folder of the dataset, TAB, reason"
    ]
    lines += [f"{_name(image, folder)}\t{reason}" for image, reason in images.items()]
    for found in doubtful:
        about = f"{len(found.images)} near-duplicates in {', '.join(found.leaves)}"
        others = (image for image in found.images if image not in images)
        lines += [f"# {_name(image, folder)}\t{about}" for image in others]
    write_atomically(path, "".join(f"{line}\n" for line in lines).encode())


def warn_to_exclude(
    dataset: str,
    data: Path,
    samples: Sequence[Sample],
    files: FileIndex,
    hierarchy: Hierarchy,
    given: str | None,
) -> None:
    """Log a warning if some images should not be trained on; see `IdenticalFiles.to_exclude`.

    `given` is the hierarchy as given on the command line, if any.
    """
    images = find_identical(samples, files, hierarchy).to_exclude(samples)
    if images:
        LOGGER.warning(advice(dataset, data, images, given))


def advice(dataset: str, data: Path, images: Mapping[str, str], hierarchy: str | None) -> str:
    """Return which images should be left out, by reason, and the command that lists them."""
    kinds = Counter(reason.partition(":")[0] for reason in images.values())
    counts = ", ".join(f"{kind} {count:,}" for kind, count in kinds.items())
    command = ["mdan-zoo", "dataset", dataset, "--data", str(data)]
    command += ["--hierarchy", hierarchy] if hierarchy else []
    return (
        f"{len(images):,} images in {data} should not be trained on ({counts}); list them with\n"
        f"  {shlex.join([*command, '--write-clean', 'exclude.tsv'])}\n"
        "and leave them out with --exclude exclude.tsv, an option of dataset, split, train and "
        "evaluate"
    )


def _name(image: str, folder: Path) -> str:
    name = Path(image).relative_to(folder).as_posix()
    if re.search(r"^#|[\t\r\n\ud800-\udfff]", name):  # surrogates are not UTF-8
        raise DatasetError(
            f"an exclusion list cannot name {name!r}; rename the file, so that the name is one "
            "line of UTF-8 without tabs and does not begin with '#'"
        )
    return name
