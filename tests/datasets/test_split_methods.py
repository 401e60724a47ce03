"""Split methods."""

from __future__ import annotations

import random
from collections import Counter
from itertools import chain

import pytest
from clean_checkout import ROOT
from oasis_folder import write_oasis
from split_samples import FOLDER, make_sample, make_samples

from mdan_zoo.datasets.readers.oasis import read_oasis
from mdan_zoo.datasets.sample import Sample
from mdan_zoo.datasets.split_methods import make_split
from mdan_zoo.datasets.splits import (
    Split,
    grouped_folds,
    select,
    split_sha256,
)
from mdan_zoo.errors import DatasetError, InputError

SHARED = ROOT.parent / "shared" / "data" / "oasis"
METHODS = ("80/20", "80/5/15", "5-fold", "grouped-5-fold")


@pytest.mark.parametrize(
    ("method", "sizes"),
    [
        ("80/20", {"train": 160, "test": 40}),
        ("70/30", {"train": 140, "test": 60}),
        ("80/5/15", {"train": 160, "val": 10, "test": 30}),
        ("5-fold", dict.fromkeys("01234", 40)),
        ("grouped-5-fold", dict.fromkeys("01234", 40)),
        ("12-fold", {str(fold): pytest.approx(200 / 12, abs=4) for fold in range(12)}),
    ],
)
def test_the_parts_have_their_shares(method, sizes):
    split = make_split("FI", make_samples(200), FOLDER, method, seed=3)
    assert {part: len(names) for part, names in split.parts} == sizes
    assert split.method == f"{method}, seed 3"


def test_the_names_begin_inside_the_folder_that_holds_all():
    one = make_split("FI", make_samples(20), FOLDER, "80/20")
    assert one.folder == "joy"
    samples = [make_sample(f"images/{emotion}/{i}") for emotion in ("fear", "joy") for i in "12345"]
    two = make_split("FI", samples, FOLDER, "80/20")
    assert two.folder == "images"
    assert sorted(name for _, names in two.parts for name in names)[0] == "fear/1"
    loose = make_split("FI", [*samples, make_sample("last")], FOLDER, "80/20")
    assert loose.folder == "."
    for split, count in ((two, 10), (loose, 11)):
        found = [*samples, make_sample("last")][:count]
        parts = [select(split, found, FOLDER, part) for part in ("train", "test")]
        assert sorted(chain(*parts)) == list(range(count))


def test_the_official_split_is_that_of_the_samples():
    samples = [make_sample(f"{i}.jpg", split="train" if i % 3 else "test") for i in range(9)]
    split = make_split("EmoSet", samples, FOLDER, "official")
    assert split.method == "official"
    assert split.images("test") == ("0.jpg", "3.jpg", "6.jpg")
    assert len(split.images("train")) == 6
    with pytest.raises(DatasetError, match=r"no official split: 1 of its 10 .*such as 'x\.jpg'"):
        make_split("EmoSet", [*samples, make_sample("x.jpg")], FOLDER, "official")
    with pytest.raises(DatasetError, match="no official split: 0 of its 0"):
        make_split("EmoSet", [], FOLDER, "official")


def test_an_official_split_can_be_preferred():
    divided = [make_sample(f"{i}.jpg", split="train" if i % 3 else "test") for i in range(9)]
    preferred = "official or 80/20"
    official = make_split("FI", divided, FOLDER, "official")
    assert make_split("FI", divided, FOLDER, preferred) == official
    undivided = make_samples(20)
    assert make_split("FI", undivided, FOLDER, preferred, seed=3) == make_split(
        "FI", undivided, FOLDER, "80/20", seed=3
    )
    with pytest.raises(
        DatasetError, match=r"no official split: 1 of its 10 .*use another method, such as 80/20"
    ):
        make_split("FI", [*divided, make_sample("x.jpg")], FOLDER, preferred)


@pytest.mark.parametrize(
    "method",
    [
        "",
        "official or ",
        "80",
        "80/30",
        "100/0",
        "25/25/25/25",
        "080/20",
        "80/20 ",
        "k-fold",
        "-5-fold",
    ],
)
def test_unknown_methods_are_refused(method):
    with pytest.raises(InputError, match="'80/20' or '80/5/15', '5-fold' or 'grouped-5-fold', not"):
        make_split("FI", make_samples(20), FOLDER, method)


@pytest.mark.parametrize("method", ["1-fold", "11-fold", "grouped-1-fold", "grouped-11-fold"])
def test_impossible_folds_are_refused(method):
    with pytest.raises(DatasetError, match="folds of 10 groups"):
        make_split("FI", make_samples(20), FOLDER, method)


def test_too_few_images_are_reported():
    with pytest.raises(DatasetError, match=r"FI has 4 images .*80/5/15: nothing is left for val"):
        make_split("FI", make_samples(4), FOLDER, "80/5/15")


# The numbers that were published rest on these divisions, which must therefore never change.


def test_grouped_folds_do_not_change():
    samples = [make_sample(f"{i}.jpg", group=f"theme {i % 23}") for i in range(100)]
    hashes = [split_sha256(samples, grouped_folds(samples, 5, seed)) for seed in (0, 1)]
    assert hashes == [
        "72e8a33b4f72442f56d5f0aa03c65f30f35ddc9c514927d48125ab24d106ed01",
        "960248f907b6ee9b0e5b4318b90d35e6584ed99a4a8b942f787b0db19ef99e96",
    ]
    split = make_split("OASIS", samples, FOLDER, "grouped-5-fold", seed=1)
    assert split.sha256 == hashes[1]


def test_the_hash_of_folds_is_that_of_the_split_with_their_names():
    """Equal file names in two folders are two names, and who swaps them has another split."""
    names = [f"data/{label}/{number}.jpg" for label in ("joy", "fear") for number in range(3)]
    samples = [make_sample(name) for name in names]
    folds = [[0, 1, 3], [2, 4, 5]]
    parts = {str(n): [names[i].removeprefix("data/") for i in fold] for n, fold in enumerate(folds)}
    expected = Split.from_parts("folder", "mine", "data", parts).sha256
    assert split_sha256(samples, folds) == expected
    assert split_sha256(samples, [[0, 1, 2], [3, 4, 5]]) != expected
    assert split_sha256(samples, [[3, 1, 0], [2, 5, 4]]) == expected
    assert split_sha256(samples, [[0, 4, 3], [2, 1, 5]]) != expected


@pytest.mark.skipif(not SHARED.is_dir(), reason="the OASIS images are not at ../shared")
def test_the_folds_of_the_published_numbers_do_not_change():
    samples = read_oasis(SHARED)
    hashes = [split_sha256(samples, grouped_folds(samples, 5, seed)) for seed in (0, 1, 2)]
    assert hashes == [
        "eaaa1f8d0b3a052ba4b253ef3d06edce3a9a3a9ee23cda980621f6cf03870515",
        "b8d726b2d8997e99f6d36c010f45ceed8d5f26d9a40c61e3c081262826bfc8a2",
        "9966f5da203c1af40791620272a75210f572afaf466e3be2d16f96cb0482a654",
    ]
    for seed in (0, 1, 2):
        split = make_split("OASIS", samples, SHARED, "grouped-5-fold", seed)
        assert (split.folder, split.sha256) == ("images", hashes[seed])


@pytest.mark.parametrize(
    ("method", "sha256"),
    [
        ("80/20", "7012a319f17dc970f329fcd135d43a06c6e3d73cb39a70352ae41022e0a5f246"),
        ("80/5/15", "4c2a8b86607b5007c5b3182017cf8aaea511624836c8f4f50ea7788ea46a6beb"),
        ("5-fold", "313f3eea19d137dc8a3263843bcccf3cc5c5f26c10c9e2d9e22d3bb85172e5f4"),
    ],
)
def test_the_methods_do_not_change(method, sha256):
    assert make_split("FI", make_samples(100), FOLDER, method, seed=7).sha256 == sha256


# Many small datasets


def random_samples(seed: int, *, pure: bool) -> list[Sample]:
    """Return a dataset with groups of 1 to 5 images.

    Args:
        seed: Decides everything.
        pure: All images of a group have one class.
    """
    generator = random.Random(seed)
    classes = generator.randint(1, 9)
    weights = [generator.random() + 0.05 for _ in range(classes)]
    samples: list[Sample] = []
    for group in range(generator.randint(60, 120)):
        size = generator.choice((1, 1, 1, 2, 5))
        leaves = generator.choices(range(classes), weights, k=size)
        for leaf in [leaves[0]] * size if pure else leaves:
            name = f"{generator.choice('abc')}/{len(samples)}.jpg"
            samples.append(make_sample(name, leaf, f"theme {group}" if size > 1 else ""))
    return samples


def shares_of(method: str) -> dict[str, float]:
    if method.endswith("-fold"):
        return dict.fromkeys("01234", 1 / 5)
    percentages = [int(text) for text in method.split("/")]
    names = ("train", "test") if len(percentages) == 2 else ("train", "val", "test")
    return {name: share / 100 for name, share in zip(names, percentages, strict=True)}


@pytest.fixture(params=[method for method in METHODS if not method.startswith("grouped")])
def stratified(request) -> str:
    return request.param


@pytest.mark.parametrize("seed", range(25))
def test_no_image_is_lost_or_in_two_parts(seed, stratified):
    samples = random_samples(seed, pure=False)
    split = make_split("any", samples, FOLDER, stratified, seed)
    chosen = [select(split, samples, FOLDER, part) for part, _ in split.parts]
    assert sorted(chain(*chosen)) == list(range(len(samples)))


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("method", METHODS)
def test_no_group_is_divided(seed, method):
    samples = random_samples(seed, pure=False)
    split = make_split("any", samples, FOLDER, method, seed)
    parts_of: dict[str, set[str]] = {}
    for part, _ in split.parts:
        for index in select(split, samples, FOLDER, part):
            parts_of.setdefault(samples[index].group, set()).add(part)
    assert set(map(len, parts_of.values())) == {1}


@pytest.mark.parametrize("seed", range(25))
def test_the_classes_have_their_shares(seed, stratified):
    samples = random_samples(seed, pure=True)
    split = make_split("any", samples, FOLDER, stratified, seed)
    classes = Counter(sample.labels[-1] for sample in samples)
    largest = max(Counter(sample.group for sample in samples).values())
    shares = shares_of(stratified)
    assert shares.keys() == dict(split.parts).keys()
    for part, share in shares.items():
        chosen = select(split, samples, FOLDER, part)
        assert abs(len(chosen) - share * len(samples)) < (len(shares) - 1) * largest
        found = Counter(samples[index].labels[-1] for index in chosen)
        for leaf, count in classes.items():
            assert abs(found[leaf] - share * count) < len(shares) * largest


@pytest.mark.parametrize("seed", range(25))
def test_folds_of_single_images_are_exact(seed):
    samples = [
        make_sample(str(i), s.labels[-1]) for i, s in enumerate(random_samples(seed, pure=True))
    ]
    split = make_split("any", samples, FOLDER, "5-fold", seed)
    counts = [
        Counter(samples[i].labels[-1] for i in select(split, samples, FOLDER, part))
        for part, _ in split.parts
    ]
    for leaf, count in Counter(sample.labels[-1] for sample in samples).items():
        assert {found[leaf] for found in counts} <= {count // 5, -(-count // 5)}


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_the_samples_does_not_matter_and_the_seed_does(seed, method):
    samples = random_samples(seed, pure=False)
    shuffled = random.Random(seed).sample(samples, len(samples))
    assert shuffled != samples
    first = make_split("any", samples, FOLDER, method, seed)
    assert make_split("any", shuffled, FOLDER, method, seed) == first
    assert make_split("any", samples, FOLDER, method, seed + 1).sha256 != first.sha256


def test_a_split_of_oasis_can_be_saved_and_used(tmp_path):
    folder = write_oasis(tmp_path / "oasis")
    samples = read_oasis(folder)
    make_split("OASIS", samples, folder, "grouped-3-fold", seed=1).save(tmp_path / "folds.tsv")
    split = Split.load(tmp_path / "folds.tsv")
    assert split.folder == "images"
    folds = [select(split, samples, folder, part) for part in "012"]
    assert folds == grouped_folds(samples, 3, seed=1)
