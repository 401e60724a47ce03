"""Splits as files: what they hold, and which samples they mean."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from clean_checkout import ROOT
from split_samples import FOLDER, make_samples

from mdan_zoo.datasets.registry import read_dataset
from mdan_zoo.datasets.split_methods import make_split
from mdan_zoo.datasets.splits import (
    Split,
    get_split,
    list_splits,
    select,
    split_hashes,
)
from mdan_zoo.errors import DatasetError, UnknownNameError
from mdan_zoo.weights.manifest import load_manifest
from mdan_zoo.zoo.factory import list_models

SHARED = ROOT.parent / "shared" / "data"


@pytest.fixture
def split():
    return Split.from_parts("FI", "by hand", ".", {"train": ["b/é 2.jpg", "a/1.jpg"], "test": "cd"})


# Content and hash


def test_parts_and_names_are_sorted(split):
    assert split.parts == (("test", ("c", "d")), ("train", ("a/1.jpg", "b/é 2.jpg")))
    assert split.images("test") == ("c", "d")
    with pytest.raises(UnknownNameError, match="no part 'tests'; did you mean 'test'"):
        split.images("tests")
    with pytest.raises(DatasetError, match="must be sorted"):
        Split("FI", "by hand", ".", (("train", ("b", "a")),))


def test_the_hash_is_that_of_the_names_and_parts(split):
    content = "test\tc\ntest\td\ntrain\ta/1.jpg\ntrain\tb/é 2.jpg\n"
    assert split.sha256 == hashlib.sha256(content.encode()).hexdigest()
    same = Split.from_parts("EmoSet", "found", "images", dict(split.parts))
    assert same.sha256 == split.sha256
    moved = Split.from_parts("FI", "by hand", ".", {"train": ["a/1.jpg"], "test": ["c", "d"]})
    assert moved.sha256 != split.sha256


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({}, "at least one part"),
        ({"train": ["a", "b"], "test": ["b"]}, "'b' is listed twice, in the part 'test' and in 't"),
        ({"train": ["a", "a"]}, "'a' is listed twice"),
        ({"train": ["a"], "test": []}, "not the name 'test' and 0 images"),
        ({"#train": ["a"]}, "not the name '#train'"),
        ({"a\tb": ["a"]}, r"not the name 'a\\tb'"),
        *(
            ({"train": [name]}, "cannot list")
            for name in ("/a", "../a", "a/../b", "a//b", "./a", ".", "", "a\nb", "a\rb", "\udce4")
        ),
    ],
)
def test_impossible_parts_are_refused(parts, message):
    with pytest.raises(DatasetError, match=message):
        Split.from_parts("FI", "by hand", ".", parts)


@pytest.mark.parametrize(
    ("field", "value"),
    [("dataset", ""), ("method", "two\nlines"), ("folder", "../images"), ("folder", "/images")],
)
def test_impossible_descriptions_are_refused(field, value):
    given = {"dataset": "FI", "method": "by hand", "folder": ".", field: value}
    with pytest.raises(DatasetError, match=r"split (must|cannot)"):
        Split.from_parts(**given, parts={"train": ["a"]})


# Files

CHANGED = (
    r"its images have the hash \w{64}, but its header says \w{64}; it was changed or truncated$"
)


def test_a_split_survives_its_file(split, tmp_path):
    path = tmp_path / "split.tsv"
    split.save(path)
    assert Split.load(path) == split
    assert path.read_text(encoding="utf-8") == (
        "# mdan-zoo split 1\n# dataset: FI\n# method: by hand\n# folder: .\n"
        f"# sha256: {split.sha256}\n"
        "test\tc\ntest\td\ntrain\ta/1.jpg\ntrain\tb/é 2.jpg\n"
    )
    assert [file.name for file in tmp_path.iterdir()] == ["split.tsv"]


def test_what_an_editor_does_to_a_file_is_forgiven(split, tmp_path):
    path = tmp_path / "split.tsv"
    split.save(path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert Split.load(path) == split


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"a/1.jpg", b"a/2.jpg", CHANGED),
        (b"train\ta/1.jpg\n", b"", CHANGED),
        (b"train\ta/1.jpg\n", b"test\ta/1.jpg\n", CHANGED),
        (b"train\ta/1.jpg\n", b"train\tc\n", "'c' is listed twice, in the part 'test' and in"),
        (b"split 1\n", b"split 2\n", "only splits of version 1 can be read, not '2'"),
        (b"# mdan-zoo split 1\n", b"", "begins with '# mdan-zoo split 1'"),
        (b"# dataset: FI\n", b"", "its header lacks dataset$"),
        (b"test\tc\n", b"test c\n", r"line 6 is not 'part<TAB>image': 'test c'"),
        (
            "é".encode(),
            b"\xe9",
            r"split\.tsv is not UTF-8: 'utf-8' codec can't decode byte 0xe9 in position 174: "
            "invalid continuation byte$",
        ),
    ],
)
def test_a_damaged_file_is_reported(split, tmp_path, old, new, message):
    path = tmp_path / "split.tsv"
    split.save(path)
    assert path.read_bytes().count(old) == 1
    path.write_bytes(path.read_bytes().replace(old, new))
    with pytest.raises(DatasetError, match=message) as caught:
        Split.load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [None, b"", b"\n"])
def test_a_missing_or_empty_file_is_reported(tmp_path, content):
    path = tmp_path / "split.tsv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DatasetError, match=r"split\.tsv"):
        Split.load(path)


# The released models


SIZES = {
    "fi17460": {"train": 14841, "test": 2619},
    "oasis661": {"0": 661},
    "oasis661_fold0": {"train": 531, "test": 130},
}


@pytest.mark.parametrize(
    ("model", "splits"),
    [
        ("mdan_oasis4", {"OASIS": "oasis661"}),
        ("flat_oasis4", {"OASIS": "oasis661"}),
        ("mdan_fi8_lite0", {"FI": "fi17460", "OASIS": "oasis661_fold0"}),
        ("flat_fi8_lite0", {"FI": "fi17460", "OASIS": "oasis661_fold0"}),
    ],
)
def test_the_hash_in_the_manifest_is_that_of_the_packaged_names(model, splits):
    manifest = json.loads((ROOT / "weights_manifest.json").read_text(encoding="utf-8"))
    training = manifest["models"][model]["training"]
    recorded = training.get("splits", {training["dataset"]: training})
    assert recorded.keys() == splits.keys()
    for dataset, name in splits.items():
        split, sha256 = get_split(name), recorded[dataset]["split_sha256"]
        assert (split.dataset, split.sha256) == (dataset, sha256)
        sizes = {part: len(names) for part, names in split.parts}
        assert sizes == SIZES[name]
        file = ROOT / "mdan_zoo" / "datasets" / "split_files" / f"{name}.tsv"
        lines = [line for line in file.read_bytes().splitlines(True) if not line.startswith(b"#")]
        assert hashlib.sha256(b"".join(lines)).hexdigest() == sha256


@pytest.mark.parametrize("model", list_models(pretrained=True))
def test_released_weights_are_trained_on_their_packaged_splits_without_test_images(model):
    training = load_manifest()[model].details["training"]
    recorded = training.get("splits", {"": training}).values()
    splits = {get_split(name).sha256: get_split(name) for name in list_splits()}
    used = [splits[split["split_sha256"]] for split in recorded]
    trained = [names for split in used for part, names in split.parts if part != "test"]
    assert training["images"] == sum(map(len, trained))


def test_every_packaged_split_is_sound():
    assert list_splits() == sorted(SIZES)
    assert [get_split(name).dataset for name in list_splits()] == ["FI", "OASIS", "OASIS"]
    whole, part = get_split("oasis661"), get_split("oasis661_fold0")
    assert sorted(whole.images("0")) == sorted(name for _, names in part.parts for name in names)
    with pytest.raises(UnknownNameError, match="'oasis' in the package; did you mean 'oasis661'"):
        get_split("oasis")


@pytest.mark.parametrize(
    ("name", "folder"), [("fi17460", "fi"), ("oasis661", "oasis"), ("oasis661_fold0", "oasis")]
)
def test_the_packaged_split_fits_the_real_images(name, folder):
    if not (SHARED / folder).is_dir():
        pytest.skip(f"the images are not at {SHARED / folder}")
    samples = read_dataset(get_split(name).dataset, SHARED / folder)
    for part, size in SIZES[name].items():
        assert len(select(get_split(name), samples, SHARED / folder, part)) == size
    for line in split_hashes(name)[::300]:
        sha256, _, image = line.partition("  ")
        assert hashlib.sha256((SHARED / folder / image).read_bytes()).hexdigest() == sha256


# Selecting samples


def test_a_part_is_found_in_the_samples():
    samples = make_samples(40)
    split = make_split("FI", samples, FOLDER, "80/20")
    train, test = (select(split, samples, FOLDER, part) for part in ("train", "test"))
    assert sorted(train + test) == list(range(40))
    assert train == sorted(train)
    names = {samples[index].image.as_posix() for index in test}
    assert names == {f"images/joy/{name}" for name in split.images("test")}
    with pytest.raises(UnknownNameError, match="no part 'val'"):
        select(split, samples, FOLDER, "val")


def test_every_image_of_the_split_must_be_there():
    samples = make_samples(40)
    split = make_split("FI", samples, FOLDER, "80/20")
    for gone in (split.images("train")[0], split.images("test")[0]):
        left = [sample for sample in samples if sample.image.name != Path(gone).name]
        with pytest.raises(DatasetError, match=f"1 of the 40 .*are not in images: 'joy/{gone}'"):
            select(split, left, FOLDER, "train")
    with pytest.raises(DatasetError, match=r"40 of the 40 .*'joy/000.jpg', .* and 37 more$"):
        select(split, [], FOLDER, "train")


def test_every_sample_must_be_in_the_split():
    samples = make_samples(40)
    split = make_split("FI", samples[:38], FOLDER, "80/20")
    with pytest.raises(DatasetError, match=r"2 of the 40 .*no part.*'joy/038.jpg', 'joy/039.jpg'$"):
        select(split, samples, FOLDER, "test")


def test_samples_must_be_in_the_folder_and_differ():
    samples = make_samples(40)
    split = make_split("FI", samples, FOLDER, "80/20")
    with pytest.raises(DatasetError, match=r"joy/000\.jpg is not below elsewhere"):
        select(split, samples, Path("elsewhere"), "train")
    with pytest.raises(DatasetError, match=r"the same image, 'joy/000\.jpg'"):
        make_split("FI", [*samples, samples[0]], FOLDER, "80/20")
