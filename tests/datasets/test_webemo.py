"""WEBEmo in every layout that its downloaders leave behind, and their faults."""

from __future__ import annotations

import logging
import shutil

import pytest
from dataset_trees import leaves_of, write_image, write_images

from mdan_zoo.datasets.readers.webemo import read_webemo
from mdan_zoo.errors import DatasetError
from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.hierarchy.tree import Hierarchy

TREE = get_hierarchy("webemo25")
URL = "https://as2.example.org/jpg/01/00/220_F_{}.jpg"

# Ids of the release: they are alphabetical in the release's spellings.
IDS = {1: "cheerfulness", 11: "irritability", 19: "sadness", 24: "zest"}


def write_downloads(folder, splits=("train", "test")):
    return write_images(folder, [f"{s}/{i}/220_F_{s}{i}.jpg" for s in splits for i in IDS])


@pytest.mark.parametrize(
    "splits", [("train", "test"), ("images/train25", "images/test25"), ("train25", "test25")]
)
def test_folders_of_ids_are_read_by_the_ids_of_the_release(tmp_path, splits):
    for split in splits:
        write_images(tmp_path / split, [f"{i}/220_F_{i}.jpg" for i in IDS])
    samples = read_webemo(tmp_path, TREE)
    assert leaves_of(samples, TREE) == {f"{i}/220_F_{i}.jpg": name for i, name in IDS.items()}
    assert [sample.split for sample in samples].count("train") == len(IDS)
    assert [sample.split for sample in samples].count("test") == len(IDS)


def test_folders_of_names_are_read_in_the_spelling_of_the_release(tmp_path):
    names = ["cheerfullness", "irritabilty", "sadness", "zest", "irritability"]
    for split in ("train", "validation", "test"):
        write_images(tmp_path / split, [f"{name}/{split}.jpg" for name in names])
    samples = read_webemo(tmp_path, TREE)
    leaves = leaves_of(samples, TREE)
    assert leaves["cheerfullness/test.jpg"] == "cheerfulness"
    assert leaves["irritabilty/test.jpg"] == leaves["irritability/test.jpg"] == "irritability"
    assert {sample.split for sample in samples} == {"train", "val", "test"}


def test_every_level_gets_its_label(tmp_path):
    samples = read_webemo(write_downloads(tmp_path), TREE)
    zest = next(sample for sample in samples if sample.image.parent.name == "24")
    names = [TREE.levels[i][k] for i, k in enumerate(zest.labels)]
    assert names == ["positive", "joy", "zest"]
    assert sum(zest.distribution) == zest.distribution[zest.labels[-1]] == 1


def test_labels_cut_to_their_last_digit_are_refused(tmp_path):
    write_downloads(tmp_path / "images", ["test25"])
    write_images(tmp_path / "images", [f"train25/{i}/220_F_{i}.jpg" for i in range(10)])
    with pytest.raises(DatasetError, match=r"classes 0, 1, .* 9, but .* to 24: .* last digit"):
        read_webemo(tmp_path, TREE)


def test_folders_that_contradict_the_list_are_refused(tmp_path):
    write_downloads(tmp_path)
    write_image(tmp_path / "train/1/220_F_x.jpg")
    (tmp_path / "train25.txt").write_text(
        f"{URL.format('train19')} 19\n{URL.format('x')} 11\n", encoding="utf-8"
    )
    with pytest.raises(DatasetError, match=r"^1 images .*220_F_x\.jpg \(listed as irritability"):
        read_webemo(tmp_path, TREE)


def test_folders_that_agree_with_the_list_are_read_and_dead_links_reported(tmp_path, caplog):
    write_downloads(tmp_path)
    lines = [f"{URL.format(f'train{i}')} {i}" for i in IDS] + [f"{URL.format('gone')} 7"]
    (tmp_path / "train25.txt").write_text("\n".join(lines), encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        assert len(read_webemo(tmp_path, TREE)) == 2 * len(IDS)
    assert "1 of the 5 images of " in caplog.text
    assert "220_F_gone.jpg" in caplog.text


def test_a_url_with_several_labels_counts_under_each_and_is_reported(tmp_path, caplog):
    write_downloads(tmp_path)
    for label in (3, 22):
        write_image(tmp_path / f"test/{label}/220_F_twice.jpg", "one image")
    (tmp_path / "test25.txt").write_text(
        f"{URL.format('twice')} 3\n{URL.format('twice')} 22\n", encoding="utf-8"
    )
    with caplog.at_level(logging.WARNING):
        samples = read_webemo(tmp_path, TREE)
    twice = [sample for sample in samples if sample.image.name == "220_F_twice.jpg"]
    assert {TREE.leaves[s.labels[-1]] for s in twice} == {"contentment", "surprise"}
    assert twice[0].group == twice[1].group
    assert len({sample.group for sample in samples}) == len(samples) - 1
    assert "1 images have several labels" in caplog.text


def test_numbers_within_each_class_are_no_names_of_urls(tmp_path, caplog):
    """Equal names with other contents are other images; equal contents are copies also then."""
    for label in range(25):
        for number in (0, 1):
            write_image(tmp_path / f"train/{label}/{number}.jpg", f"{label} {number}")
    for label in (3, 22):
        write_image(tmp_path / f"train/{label}/1.jpg", "one image")
    with caplog.at_level(logging.WARNING):
        samples = read_webemo(tmp_path, TREE)
    groups = {sample.image.relative_to(tmp_path).as_posix(): sample.group for sample in samples}
    assert len(groups) == 2 * len(TREE.leaves)
    assert groups["train/3/1.jpg"] == groups["train/22/1.jpg"]
    assert len(set(groups.values())) == len(groups) - 1
    assert "1 images have several labels, as in the release, and each counts: 1.jpg" in caplog.text
    shutil.move(tmp_path / "train", tmp_path / "elsewhere" / "train")
    moved = read_webemo(tmp_path / "elsewhere", TREE)
    assert {sample.group for sample in moved} == set(groups.values())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("https://x.org/a.jpg", "line 1 is not 'URL label'"),
        ("https://x.org/a.jpg joy", "line 1 is not 'URL label'"),
        ("https://x.org/a.jpg 25", "ids run from 0 to 24, not 25"),
    ],
)
def test_a_broken_list_is_reported(tmp_path, line, message):
    write_downloads(tmp_path)
    (tmp_path / "train25.txt").write_text(line, encoding="utf-8")
    with pytest.raises(DatasetError, match=message):
        read_webemo(tmp_path, TREE)


def test_confusion_follows_the_hierarchy(tmp_path, caplog):
    write_images(write_downloads(tmp_path), ["train/2/220_F_maze.jpg"])
    maze = {
        name: [s for s in read_webemo(tmp_path, get_hierarchy(name)) if "maze" in s.group]
        for name in ("webemo25", "webemo25_release")
    }
    assert TREE.levels[1][maze["webemo25"][0].labels[1]] == "sadness"
    release = get_hierarchy("webemo25_release")
    assert release.levels[1][maze["webemo25_release"][0].labels[1]] == "confusion"
    with caplog.at_level(logging.WARNING):
        assert len(read_webemo(tmp_path, get_hierarchy("webemo24"))) == 2 * len(IDS)
    assert "1 images of confusion are skipped" in caplog.text


def test_a_class_without_images_is_only_reported(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        read_webemo(write_downloads(tmp_path), TREE)
    assert "has no image of affection, " in caplog.text
    assert "zest" not in caplog.text


def test_a_hierarchy_that_lacks_a_class_is_reported(tmp_path):
    tree = Hierarchy.from_nested({"good": ["zest", "cheerfulness"], "bad": ["sadness"]})
    with pytest.raises(
        DatasetError, match="'irritability' is not a leaf of the hierarchy 'custom'"
    ):
        read_webemo(write_downloads(tmp_path), tree)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "it is empty; expected the downloaded images in train/ and test/"),
        (["joy.jpg"], r"it contains joy\.jpg; expected"),
        (["train/25/a.jpg"], "ids run from 0 to 24, not 25"),
        (["train/joy/a.jpg"], "'joy' is not a leaf"),
        (["train/cheerfulnes/a.jpg"], "did you mean 'cheerfulness'"),
        (["train/zest/a.jpg"], r"has 1 image\(s\)"),
    ],
)
def test_a_wrong_folder_is_reported(tmp_path, names, message):
    with pytest.raises(DatasetError, match=message):
        read_webemo(write_images(tmp_path, names), TREE)


def test_a_missing_folder_is_reported(tmp_path):
    with pytest.raises(DatasetError, match=r"the folder .*absent does not exist; WEBEmo needs"):
        read_webemo(tmp_path / "absent", TREE)
