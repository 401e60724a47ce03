"""Equal files never come into two parts of a new split."""

from __future__ import annotations

import os

import pytest

from mdan_zoo.datasets.sample import Sample
from mdan_zoo.datasets.split_methods import make_split


@pytest.fixture
def samples(tmp_path):
    """Twenty contents in sixty files, all of one size; files 0 to 3 are in two groups."""
    found = []
    for number in range(60):
        (tmp_path / f"{number}.jpg").write_bytes(b"%02d" % (number // 3) + bytes(9000))
        group = f"group {number % 2 if number < 4 else number}"
        found.append(Sample(tmp_path / f"{number}.jpg", (0,), (1.0,), group))
    return found


@pytest.mark.parametrize("method", ["80/20", "80/5/15", "5-fold", "grouped-5-fold"])
@pytest.mark.parametrize("seed", range(3))
def test_equal_files_stay_together_with_their_groups(method, seed, samples, tmp_path):
    split = make_split("folder", samples, tmp_path, method, seed)
    home = {name: part for part, names in split.parts for name in names}
    for first in range(0, 60, 3):
        assert len({home[f"{number}.jpg"] for number in range(first, first + 3)}) == 1
    assert home["0.jpg"] == home["3.jpg"], "3 is of the group of 1, whose content 0 has"
    assert make_split("folder", samples[::-1], tmp_path, method, seed) == split


def test_files_that_differ_in_a_byte_are_other_files(samples, tmp_path):
    """The first part of the file tells them apart, and neither their size nor their end."""
    plain = [Sample(s.image, s.labels, s.distribution, s.image.name) for s in samples[::3]]
    split = make_split("folder", plain, tmp_path, "20-fold")
    assert len(split.parts) == 20


def test_the_official_split_stays_as_it_is(samples, tmp_path):
    parts = [("train", "test")[number % 2] for number in range(60)]
    divided = [
        Sample(s.image, s.labels, s.distribution, s.group, split=part)
        for s, part in zip(samples, parts, strict=True)
    ]
    split = make_split("folder", divided, tmp_path, "official")
    assert {len(names) for _, names in split.parts} == {30}


def test_a_file_that_cannot_be_read_is_like_no_other(samples, tmp_path):
    for sample in samples[1:]:
        sample.image.chmod(0)
    if os.access(samples[1].image, os.R_OK):
        pytest.skip("this user may read every file")
    assert len(make_split("folder", samples, tmp_path, "20-fold").parts) == 20
