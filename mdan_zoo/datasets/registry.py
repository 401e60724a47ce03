"""Dataset registry: every dataset reader by the name that model configs use.

Neither torch nor Pillow is imported.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mdan_zoo.datasets.exclusion import exclude as without
from mdan_zoo.datasets.files import LayoutError
from mdan_zoo.datasets.readers.abstract import read_abstract
from mdan_zoo.datasets.readers.class_folders import (
    read_artphoto,
    read_emotion6_panda,
    read_fi,
    read_unbiased_emo,
)
from mdan_zoo.datasets.readers.emoset import read_emoset
from mdan_zoo.datasets.readers.emotion6_peng import read_emotion6_peng
from mdan_zoo.datasets.readers.folder import folder_class_names, read_folder
from mdan_zoo.datasets.readers.iaps import read_iaps
from mdan_zoo.datasets.readers.oasis import read_oasis
from mdan_zoo.datasets.readers.polarity import read_gaped, read_mvsa_single, read_twitter1
from mdan_zoo.datasets.readers.table import read_table, table_class_names
from mdan_zoo.datasets.readers.webemo import read_webemo
from mdan_zoo.datasets.sample import Sample
from mdan_zoo.errors import InputError, MdanZooError, UnknownNameError, did_you_mean
from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.hierarchy.tree import Hierarchy


@dataclass(frozen=True)
class DatasetReader:
    """A dataset reader and facts about the dataset.

    Attributes:
        name: Name of the dataset, as in `ModelConfig.dataset`.
        read: Reads a folder, given a hierarchy, into samples with the class ids of that hierarchy.
            Raises a `DatasetError` if the layout differs, a file is missing, or a class is not in
            the hierarchy.
        hierarchy: Name of its default built-in hierarchy; "" if the user must give one.
        source: Publication or page of the dataset.
        terms: Terms of use, in one line.
        splits: The usual split in the literature.
        images: Published number of images; None for the user's own images.
        options: Additional keyword arguments of `read`.
        rating_scale: Lower and upper end of the scale of its ratings, if it has any.
        class_names: For the user's own images, returns the names in a folder that may be classes,
            among others, given a hierarchy.
    """

    name: str
    read: Callable[..., list[Sample]]
    hierarchy: str
    source: str
    terms: str
    splits: str
    images: int | None = None
    options: tuple[str, ...] = ()
    rating_scale: tuple[float, float] | None = None
    class_names: Callable[[Path, Hierarchy], set[str]] | None = None


_PANDA = "Panda et al., Contemplating Visual Emotions, ECCV 2018"
_YOU = "You et al., Building a Large Scale Dataset for Image Emotion Recognition, AAAI 2016"
_MACHAJDIK = "Machajdik & Hanbury, Affective Image Classification, ACM Multimedia 2010"
_IAPS = (
    "images: Lang, Bradley & Cuthbert, IAPS; labels: Mikels et al., Behavior Research Methods 2005"
)
_YANG = "Yang et al., EmoSet, ICCV 2023"
_PENG = "Peng et al., A Mixed Bag of Emotions, CVPR 2015"
_KURDI = (
    "Kurdi, Lozano & Banaji, Introducing the Open Affective Standardized Image Set, Behavior "
    "Research Methods 2017"
)

_TWITTER = "You et al., Robust Image Sentiment Analysis, AAAI 2015"
_NIU = "Niu et al., Sentiment Analysis on Multi-View Social Data, MultiMedia Modeling 2016"
_DAN_GLAUSER = "Dan-Glauser & Scherer, GAPED, Behavior Research Methods 2011"

_STOCK = "URLs of images that belong to their owners; for research."
_REQUEST = "Available from the authors on request, for research; redistribution not allowed."
_RESEARCH = "Offered by the authors for research; the images belong to their owners."
_OASIS = "Offered by the authors for research use; every image has its own terms."

_READERS = (
    DatasetReader(
        "WEBEmo", read_webemo, "webemo25", _PANDA, _STOCK, "80/20, by its authors", 267_441
    ),
    DatasetReader("Emotion-6", read_emotion6_panda, "panda6", _PANDA, _RESEARCH, "80/20", 8_350),
    DatasetReader("UnBiasedEmo", read_unbiased_emo, "panda6", _PANDA, _RESEARCH, "80/20", 3_045),
    DatasetReader("FI", read_fi, "mikels8", _YOU, _REQUEST, "80/5/15", 23_308),
    DatasetReader("ArtPhoto", read_artphoto, "mikels8", _MACHAJDIK, _RESEARCH, "5-fold", 806),
    DatasetReader("Abstract", read_abstract, "mikels8", _MACHAJDIK, _RESEARCH, "5-fold", 228),
    DatasetReader("IAPSsubset", read_iaps, "mikels8", _IAPS, _REQUEST, "5-fold", 395),
    DatasetReader(
        "EmoSet-118K", read_emoset, "mikels8", _YANG, _RESEARCH, "80/5/15, by its authors", 118_102
    ),
    DatasetReader(
        "Emotion6",
        read_emotion6_peng,
        "ekman6",
        _PENG,
        _RESEARCH,
        "none",
        1_980,
        rating_scale=(1, 9),
    ),
    DatasetReader(
        "OASIS",
        read_oasis,
        "circumplex4",
        _KURDI,
        _OASIS,
        "grouped 5-fold",
        900,
        options=("label_std_scale",),
        rating_scale=(1, 7),
    ),
    DatasetReader("Twitter-I", read_twitter1, "polarity2", _TWITTER, _RESEARCH, "5-fold", 1_269),
    DatasetReader("MVSA-Single", read_mvsa_single, "polarity3", _NIU, _RESEARCH, "80/10/10", 4_869),
    DatasetReader(
        "GAPED",
        read_gaped,
        "polarity3",
        _DAN_GLAUSER,
        _RESEARCH,
        "none",
        730,
        rating_scale=(0, 100),
    ),
    DatasetReader(
        "folder",
        read_folder,
        "",
        "a folder for every class",
        "Yours.",
        "yours",
        class_names=folder_class_names,
    ),
    DatasetReader(
        "table",
        read_table,
        "",
        "a table in CSV or Parquet",
        "Yours.",
        "yours",
        class_names=table_class_names,
    ),
)

DATASETS = {reader.name: reader for reader in _READERS}

OWN_IMAGES = ("folder", "table")
"""The readers of the user's own images."""


def get_dataset(name: str) -> DatasetReader:
    """Return the reader of a dataset, given its name."""
    if name not in DATASETS:
        raise UnknownNameError(f"there is no dataset {name!r}: {did_you_mean(name, DATASETS)}")
    return DATASETS[name]


def read_dataset(
    name: str,
    folder: str | os.PathLike[str],
    hierarchy: Hierarchy | None = None,
    *,
    exclude: str | os.PathLike[str] | None = None,
    **options: float,
) -> list[Sample]:
    """Read a dataset.

    Args:
        name: One of `DATASETS`.
        folder: The folder of the dataset; for "table" also the table itself.
        hierarchy: The hierarchy; by default that of the dataset. Required for "folder" and "table".
        exclude: List of images to leave out; see `mdan_zoo.datasets.exclusion`.
        options: Options of the reader; see `DatasetReader.options`.

    Returns:
        Its samples. Warnings, such as skipped files, are logged by `mdan_zoo.datasets`.

    Raises:
        HierarchyError: The hierarchy does not fit the dataset.
        DatasetError: See `DatasetReader.read` and `exclusion.exclude`.
        UnknownNameError: No dataset has that name.
        InputError: A hierarchy is required, or the dataset has no such option.
    """
    reader = get_dataset(name)
    for option in options:
        if option not in reader.options:
            known = ", ".join(reader.options) or "none"
            raise InputError(f"the dataset {name!r} has no option {option!r}; its options: {known}")
    folder, hierarchy = Path(folder), choose_hierarchy(name, hierarchy)
    try:
        samples = reader.read(folder, hierarchy, **options)
    except LayoutError as error:
        for inner in sorted(path for path in folder.glob("*") if path.is_dir()):
            try:
                reader.read(inner, hierarchy, **options)
            except MdanZooError:
                continue
            raise LayoutError(f"{error}; {inner} has this layout: use --data {inner}") from error
        raise
    return samples if exclude is None else without(samples, folder_of(folder), Path(exclude))


def folder_of(data: Path) -> Path:
    """Return the folder that image names are relative to; `data` may be a table."""
    return data.parent if data.is_file() else data


def choose_hierarchy(name: str, hierarchy: Hierarchy | None) -> Hierarchy:
    """Return the given hierarchy, or the default hierarchy of the dataset, which it must have."""
    own = get_dataset(name).hierarchy
    if hierarchy is None and not own:
        raise InputError(
            f"the dataset {name!r} has no default hierarchy; give one with --hierarchy "
            "FILE, or in Python with Hierarchy.from_nested({'positive': ['joy'], "
            "'negative': ['anger', 'fear']})"
        )
    return hierarchy or get_hierarchy(own)
