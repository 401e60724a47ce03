"""Confidence filter: which training images are removed from a split, and how often."""

from __future__ import annotations

import math

import pytest

from mdan_zoo.datasets.splits import Split
from mdan_zoo.errors import DatasetError, InputError
from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.training.confidence import without_uncertain

TREE = Hierarchy.from_nested({"good": ["joy", "awe"], "bad": ["rage"]}, "own")
HEADER = "image,error,coarse:good,coarse:bad,fine:joy,fine:awe,fine:rage\n"
COUNT = 4000


def write(path, folder, gaps):
    """Write predictions with the given differences between the two largest probabilities."""
    lines = []
    for name, gap in gaps.items():
        second = (1 - gap) / 2.5
        joy, rage = second + gap, 1 - gap - 2 * second
        lines.append(f"{folder}/images/{name},,{joy + second},{rage},{joy},{second},{rage}\n")
    path.write_text(HEADER + "".join(lines))
    return path


def split_of(names):
    return Split.from_parts(
        "folder", "80/20, seed 0", "images", {"train": names, "test": ["t.jpg"]}
    )


@pytest.mark.parametrize("gap", [0.0, 0.1, 0.4, 0.68, math.log(2) + 1e-9, 0.99])
def test_images_are_removed_at_the_rate_of_the_formula(gap, tmp_path):
    names = [f"{number}.jpg" for number in range(COUNT)]
    table = write(tmp_path / "p.csv", tmp_path, dict.fromkeys([*names, "t.jpg"], gap))
    given, expected = split_of(names), max(0.0, 2 - math.exp(gap))
    if expected == 1:
        with pytest.raises(DatasetError, match="all of the 4,000 training images of folder have"):
            without_uncertain(given, tmp_path, TREE, table)
        return
    found = without_uncertain(given, tmp_path, TREE, table, seed=3)
    removed = dict(found.parts).get("uncertain", ())
    margin = 4 * math.sqrt(expected * (1 - expected) * COUNT)
    assert len(removed) == pytest.approx(expected * COUNT, abs=margin)
    assert sorted([*found.images("train"), *removed]) == sorted(names)
    assert found.images("test") == ("t.jpg",)
    assert found.method == "80/20, seed 0, without uncertain images"
    assert without_uncertain(given, tmp_path, TREE, table, seed=3) == found
    if removed:
        assert without_uncertain(given, tmp_path, TREE, table, seed=4) != found


def test_images_without_a_prediction_stay(tmp_path):
    table = write(tmp_path / "p.csv", tmp_path, {"1.jpg": 0.0, "2.jpg": 0.9, "t.jpg": 0.0})
    found = without_uncertain(split_of(["1.jpg", "2.jpg", "3.jpg"]), tmp_path, TREE, table)
    assert dict(found.parts) == {
        "test": ("t.jpg",),
        "train": ("2.jpg", "3.jpg"),
        "uncertain": ("1.jpg",),
    }
    with pytest.raises(DatasetError, match=r"none of the 1 training images of folder is in"):
        without_uncertain(split_of(["3.jpg"]), tmp_path, TREE, table)


def test_what_cannot_be_filtered_is_refused(tmp_path):
    table = write(tmp_path / "p.csv", tmp_path, {"1.jpg": 0.5})
    folds = Split.from_parts("folder", "2-fold, seed 0", ".", {"0": ["1.jpg"], "1": ["2.jpg"]})
    with pytest.raises(InputError, match=r"part train can be .* '2-fold, seed 0', which .* 0, 1"):
        without_uncertain(folds, tmp_path, TREE, table)
    other = Hierarchy.from_nested(["joy", "grief"], "other")
    with pytest.raises(DatasetError, match=r"p\.csv has no column .* with the hierarchy other"):
        without_uncertain(split_of(["1.jpg"]), tmp_path, other, table)
