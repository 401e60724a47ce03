"""Images of one's own in a folder for every class."""

from __future__ import annotations

import os

import pytest
from dataset_trees import leaves_of, write_images

from mdan_zoo.datasets.readers.folder import read_folder
from mdan_zoo.errors import DatasetError
from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.hierarchy.tree import Hierarchy

# A leaf has the name of a class above others, as in Parrott's tree.
TREE = Hierarchy.from_nested(
    {"positive": {"joy": ["zest", "pride"]}, "negative": {"sadness": ["sadness", "shame"]}},
    name="four",
    aliases={"down": "sadness"},
)
ONE_EACH = ["zest/1.jpg", "pride/1.jpg", "sadness/1.jpg", "shame/1.jpg"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (ONE_EACH, ["zest", "pride", "sadness", "shame"]),
        (
            # deeper, with parents above and other folders between and below
            [
                "data/zest/flickr/1.jpg",
                "positive/joy/pride/1.PNG",
                "negative/sadness/sadness/2.jpg",
                "negative/sadness/shame/1.webp",
                "negative/sadness/3.jpg",
            ],
            ["zest", "pride", "sadness", "shame", "sadness"],
        ),
        (["Zest/1.jpg", " pride/1.jpg", "down/1.jpg", "SHAME/1.jpg"], list(TREE.leaves)),
    ],
)
def test_the_folders_name_the_class(tmp_path, names, expected):
    samples = read_folder(write_images(tmp_path, names), TREE)
    found = {s.image: TREE.leaves[s.labels[-1]] for s in samples}
    assert found == {tmp_path / n: leaf for n, leaf in zip(names, expected, strict=True)}
    assert {sample.split for sample in samples} == {""}
    assert len({sample.group for sample in samples}) == len(names)


def test_splits_are_folders_above_the_classes(tmp_path):
    splits = {"train": "train", "Validation": "val", "test": "test"}
    names = [f"{split}/{name}" for split in splits for name in ONE_EACH]
    samples = read_folder(write_images(tmp_path, names), TREE)
    assert {s.image.relative_to(tmp_path).parts[0]: s.split for s in samples} == splits
    assert len(samples) == 12


def test_other_files_are_passed_over(tmp_path):
    write_images(tmp_path, [*ONE_EACH, ".cache/zest/1.jpg", "zest/._1.jpg"])
    (tmp_path / "zest" / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "README.txt").write_text("x")
    (tmp_path / "__MACOSX").mkdir()
    assert len(read_folder(tmp_path, TREE)) == 4


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], r"is empty; expected <class>/\*\.jpg or"),
        (["zest/1.jpg"], r"has 1 image\(s\)"),
        (ONE_EACH[:2], "no image of sadness, shame, which hierarchy 'four' has; add images"),
        ([*ONE_EACH, "prid/1.jpg"], r"prid/1\.jpg: 'prid' is not a leaf .*did you mean 'pride'"),
        ([*ONE_EACH, "joi/1.jpg"], "'joi' is not a leaf of the hierarchy 'four'"),
        ([*ONE_EACH, "1.jpg"], r"1\.jpg is in no folder of a class"),
        ([*ONE_EACH, "train/zest/1.jpg"], "4 images are in none of them: .*pride"),
        ([*ONE_EACH, "zest/shame/1.jpg"], "in the folders of two classes, zest and shame"),
    ],
)
def test_a_wrong_folder_is_reported(tmp_path, names, message):
    with pytest.raises(DatasetError, match=message):
        read_folder(write_images(tmp_path, names), TREE)


def test_a_folder_of_a_coarser_class_labels_that_level_only(tmp_path):
    samples = read_folder(write_images(tmp_path, [*ONE_EACH, "Joy/1.jpg"]), TREE)
    (coarse,) = [sample for sample in samples if len(sample.labels) < TREE.depth]
    assert TREE.class_name(coarse.labels) == "joy"
    assert coarse.distribution == tuple(float(k == coarse.labels[-1]) for k in range(TREE.sizes[1]))
    only = write_images(tmp_path / "b", ["positive/1.jpg", "negative/1.jpg"])
    assert sorted(sample.labels for sample in read_folder(only, TREE)) == [(0,), (1,)]
    with pytest.raises(DatasetError, match=r"'prid' is not a leaf .* did you mean 'pride'"):
        read_folder(write_images(tmp_path / "d", [*ONE_EACH, "positive/joy/prid/1.jpg"]), TREE)
    with pytest.raises(DatasetError, match="two classes, negative and zest"):
        read_folder(write_images(tmp_path / "c", [*ONE_EACH, "negative/zest/1.jpg"]), TREE)


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_an_image_linked_into_two_classes_is_reported(tmp_path, link):
    write_images(tmp_path, ONE_EACH)
    link(tmp_path / "zest" / "1.jpg", tmp_path / "shame" / "2.jpg")
    with pytest.raises(DatasetError, match="are one file in two classes, shame and zest"):
        read_folder(tmp_path, TREE)


def test_ids_do_not_follow_the_order_of_the_folders(tmp_path):
    tree = get_hierarchy("mikels8")
    samples = read_folder(write_images(tmp_path, [f"{n}/1.jpg" for n in tree.leaves]), tree)
    assert leaves_of(samples, tree) == {f"{name}/1.jpg": name for name in tree.leaves}
