"""Splits: assignment of images to parts such as train and test. Groups are never divided.

The file of a split is plain text: comment lines with metadata, then a line "part<TAB>image" for
every image, in byte order. The SHA-256 of a split is that of the lines without comments, as in
`grep -v '^#' FILE | sha256sum`.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mdan_zoo._util.files import write_atomically
from mdan_zoo.datasets.files import read_text, shown
from mdan_zoo.datasets.sample import Sample
from mdan_zoo.errors import DatasetError, UnknownNameError, did_you_mean

VERSION = 1
SPLIT_FILE = "split.tsv"
"""File name of the split in the output folder of a training."""

_FIRST_LINE = "# mdan-zoo split "
_FIELDS = ("dataset", "method", "folder")
_PACKAGED = Path(__file__).parent / "split_files"


@dataclass(frozen=True)
class Split:
    """A split of a dataset into named parts; `from_parts` accepts parts and names in any order.

    Creating one raises a `DatasetError` if an image is in two parts, a part is empty, or a name is
    not valid.

    Attributes:
        dataset: Name of the dataset.
        method: How the split was made, such as "80/20, seed 0".
        folder: Folder that the image names are relative to, itself relative to the folder of the
            dataset, such as "images" or ".".
        parts: (part, image names), sorted; with "/" between folders.
    """

    dataset: str
    method: str
    folder: str
    parts: tuple[tuple[str, tuple[str, ...]], ...]

    def __post_init__(self) -> None:
        for field in ("dataset", "method"):
            text = getattr(self, field)
            if not text.strip() or not text.isprintable():
                raise DatasetError(f"the {field} of a split must be one line of text, not {text!r}")
        if self.folder != ".":
            _check_name(self.folder)
        if not self.parts:
            raise DatasetError("a split must have at least one part")
        if list(self.parts) != sorted((part, tuple(sorted(names))) for part, names in self.parts):
            raise DatasetError("the parts of a split and the names in them must be sorted")
        home: dict[str, str] = {}
        for part, names in self.parts:
            if not re.fullmatch(r"[\w-]+", part, re.ASCII) or not names:
                raise DatasetError(
                    "a part of a split must have a name of letters, digits, '_' and '-' and at "
                    f"least one image, not the name {part!r} and {len(names)} images"
                )
            for name in names:
                _check_name(name)
                if name in home:
                    raise DatasetError(
                        f"{name!r} is listed twice, in the part {home[name]!r} and in {part!r}"
                    )
                home[name] = part

    @classmethod
    def from_parts(
        cls, dataset: str, method: str, folder: str, parts: Mapping[str, Iterable[str]]
    ) -> Split:
        """Create a split from parts and names in any order."""
        ordered = tuple((part, tuple(sorted(parts[part]))) for part in sorted(parts))
        return cls(dataset, method, folder, ordered)

    @property
    def sha256(self) -> str:
        """SHA-256 of the lines "part<TAB>image<LF>", sorted, as UTF-8."""
        return _sha256(_lines(self.parts))

    def images(self, part: str) -> tuple[str, ...]:
        """Return the image names of a part."""
        known = dict(self.parts)
        if part not in known:
            raise UnknownNameError(
                f"the split {self.method!r} of {self.dataset} has no part {part!r}; "
                f"{did_you_mean(part, known)}"
            )
        return known[part]

    def save(self, path: Path) -> None:
        """Write the split to a file; an existing file is replaced atomically."""
        header = [f"{_FIRST_LINE}{VERSION}\n"]
        header += [f"# {field}: {getattr(self, field)}\n" for field in _FIELDS]
        header += [f"# sha256: {self.sha256}\n"]
        write_atomically(path, "".join(header + _lines(self.parts)).encode())

    @classmethod
    def load(cls, path: Path) -> Split:
        """Read a file written by `save`; a `DatasetError` if it is not intact."""
        lines = read_text(path).removesuffix("\n").split("\n")
        try:
            version = lines[0].removeprefix(_FIRST_LINE)
            if version == lines[0]:
                raise DatasetError(f"a split begins with {_FIRST_LINE + str(VERSION)!r}")
            if version != str(VERSION):
                raise DatasetError(f"only splits of version {VERSION} can be read, not {version!r}")
            header = dict(line[2:].partition(": ")[::2] for line in lines[1:] if line[:1] == "#")
            missing = {*_FIELDS, "sha256"} - header.keys()
            if missing:
                raise DatasetError(f"its header lacks {', '.join(sorted(missing))}")
            parts: dict[str, list[str]] = {}
            for number, line in enumerate(lines[1:], start=2):
                if not line.startswith("#"):
                    part, tab, name = line.partition("\t")
                    if not tab:
                        raise DatasetError(f"line {number} is not 'part<TAB>image': {line!r}")
                    parts.setdefault(part, []).append(name)
            split = cls.from_parts(header["dataset"], header["method"], header["folder"], parts)
            if split.sha256 != header["sha256"]:
                raise DatasetError(
                    f"its images have the hash {split.sha256}, but its header says "
                    f"{header['sha256']}; it was changed or truncated"
                )
        except DatasetError as error:
            raise DatasetError(f"{path}: {error}") from error
        return split


def list_splits() -> list[str]:
    """Return the names of the splits in the package, sorted."""
    return sorted(path.stem for path in _PACKAGED.glob("*.tsv"))


def get_split(name: str) -> Split:
    """Return a split in the package, one of `list_splits()`.

    "oasis661" has the images of OASIS on which the OASIS models were trained, all in part "0".
    "fi17460" and "oasis661_fold0" have the images of FI and OASIS on which the FI models were
    trained, in part "train", and those on which they were validated, in part "test".
    """
    if name not in list_splits():
        raise UnknownNameError(
            f"there is no split {name!r} in the package; {did_you_mean(name, list_splits())}"
        )
    return Split.load(_PACKAGED / f"{name}.tsv")


def split_hashes(name: str) -> list[str]:
    """Return a line "SHA-256  name" for every image of a split of the package but those of "test".

    The hashes are those of the files published by the authors of OASIS, and of the files of the
    copy of FI that the models were trained on.
    """
    split = get_split(name)
    test = {f"{split.folder}/{image}" for image in dict(split.parts).get("test", ())}
    lines = (_PACKAGED / f"{split.dataset.lower()}.sha256").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.partition("  ")[2] not in test]


def select(split: Split, samples: Sequence[Sample], folder: Path, part: str) -> list[int]:
    """Return the indices of the samples of a dataset that are in a part, ascending.

    Raises:
        DatasetError: An image of any part is missing, or a sample is in no part.
    """
    base = PurePosixPath(split.folder)
    wanted = [str(base / name) for name in split.images(part)]
    indices = {name: index for index, name in enumerate(image_names(samples, folder))}
    listed = {str(base / name) for _, names in split.parts for name in names}
    missing, unlisted = sorted(listed - indices.keys()), sorted(indices.keys() - listed)
    described = f"the split {split.method!r} of {split.dataset} (made with the same --exclude?)"
    if missing:
        raise DatasetError(
            f"{len(missing)} of the {len(listed)} images of {described} are not in {folder}: "
            + shown(map(repr, missing))
        )
    if unlisted:
        raise DatasetError(
            f"{len(unlisted)} of the {len(indices)} images in {folder} are in no part of "
            f"{described}: {shown(map(repr, unlisted))}"
        )
    return sorted(indices[name] for name in wanted)


def image_names(samples: Sequence[Sample], folder: Path) -> list[str]:
    """Return the image names relative to a folder, with "/" between folders."""
    names: dict[str, None] = {}
    for sample in samples:
        try:
            name = sample.image.relative_to(folder).as_posix()
        except ValueError as error:
            raise DatasetError(f"{sample.image} is not below {folder}") from error
        if name in names:
            raise DatasetError(f"two samples have the same image, {name!r}")
        names[name] = None
    return list(names)


def grouped_folds(samples: Sequence[Sample], folds: int, seed: int) -> list[list[int]]:
    """Return the indices of nearly equally large folds, ascending; no group is divided.

    Raises `DatasetError` for less than two folds, or fewer groups than folds.
    """
    groups = group_members(samples, folds)
    random.Random(seed).shuffle(groups)
    result: list[list[int]] = [[] for _ in range(folds)]
    for members in groups:
        min(result, key=len).extend(members)
    return [sorted(fold) for fold in result]


def group_members(samples: Sequence[Sample], folds: int | None = None) -> list[list[int]]:
    """Return the indices of the samples of every group, sorted by the name of the group.

    There must be at least as many groups as folds, and at least two folds.
    """
    members: dict[str, list[int]] = {}
    for index, sample in enumerate(samples):
        members.setdefault(sample.group, []).append(index)
    if folds is not None and not 2 <= folds <= len(members):
        raise DatasetError(f"cannot make {folds} folds of {len(members)} groups of images")
    return [members[group] for group in sorted(members)]


def split_sha256(samples: Sequence[Sample], folds: Sequence[Sequence[int]]) -> str:
    """Return the SHA-256 of the `Split` whose parts "0", "1"... are these folds of samples.

    Names are relative to the common folder of all samples, as in `make_split`.
    """
    base = os.path.commonpath([sample.image.parent for sample in samples])
    names = [sample.image.relative_to(base).as_posix() for sample in samples]
    parts = ((str(number), [names[i] for i in fold]) for number, fold in enumerate(folds))
    return _sha256(_lines(parts))


def _lines(parts: Iterable[tuple[str, Iterable[str]]]) -> list[str]:
    # The order of code points is also that of the UTF-8 bytes.
    return sorted(f"{part}\t{name}\n" for part, names in parts for name in names)


def _sha256(lines: Sequence[str]) -> str:
    # Names that are not UTF-8 can be hashed, although no split lists them.
    return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()


def _check_name(name: str) -> None:
    path = PurePosixPath(name)
    plain = str(path) == name and path.name and not path.is_absolute() and ".." not in path.parts
    if not plain or re.search(r"[\r\n\ud800-\udfff]", name):  # surrogates are not UTF-8
        raise DatasetError(
            f"a split cannot list {name!r}; a name must be a relative path and one line of UTF-8, "
            "such as 'joy/1.jpg'"
        )
