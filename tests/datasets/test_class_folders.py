"""Emotion-6, UnBiasedEmo and FI: a folder for every class."""

from __future__ import annotations

import logging

import pytest
from dataset_trees import leaves_of, write_images

from mdan_zoo.datasets.readers.class_folders import (
    read_emotion6_panda,
    read_fi,
    read_unbiased_emo,
)
from mdan_zoo.errors import DatasetError
from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.hierarchy.tree import Hierarchy

PANDA = get_hierarchy("panda6")
MIKELS = get_hierarchy("mikels8")

WSCNET = {
    "amuse": "amusement",
    "anger": "anger",
    "awe": "awe",
    "content": "contentment",
    "disgust": "disgust",
    "excit": "excitement",
    "fear": "fear",
    "sad": "sadness",
}


def test_emotion6_counts_the_emotion_and_not_the_query(tmp_path):
    names = [f"{emotion}/love letter/1/p.jpg" for emotion in PANDA.leaves]
    samples = read_emotion6_panda(
        write_images(tmp_path, [f"images/{n}" for n in [*names, "joy/love/2/p.jpg"]]), PANDA
    )
    found = [(s.image.relative_to(tmp_path).parts[1], s.labels[-1]) for s in samples]
    assert len(found) == 7
    assert all(PANDA.leaves[leaf] == emotion for emotion, leaf in found)
    # The files are all called p.jpg, and yet each is an image of its own.
    assert len({sample.group for sample in samples}) == 7


def test_unbiased_emo_is_read_by_emotion(tmp_path):
    names = [f"images/{emotion}/{thing}/1.jpg" for emotion in PANDA.leaves for thing in "ab"]
    samples = read_unbiased_emo(write_images(tmp_path, names), PANDA)
    assert [PANDA.leaves[s.labels[-1]] for s in samples] == sorted([*PANDA.leaves, *PANDA.leaves])
    assert {sample.split for sample in samples} == {""}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            [],
            "the layout of UnBiasedEmo: it is empty; expected images/<emotion>/<object>",
        ),
        (["images/cat/1.jpg"], "expected images/<emotion>/<object>/<file>"),
        (["images/joy/a/1.jpg", "images/disgust/a/1.jpg"], "'disgust' is not a leaf .* 'panda6'"),
        (["images/joy/a/1.jpg", "images/surprised/a/1.jpg"], "did you mean 'surprise'"),
        (["images/joy/a/1.jpg"], r"has 1 image\(s\)"),
    ],
)
def test_a_wrong_folder_is_reported(tmp_path, names, message):
    with pytest.raises(DatasetError, match=message):
        read_unbiased_emo(write_images(tmp_path, names), PANDA)


def test_fi_is_read_from_emotion_dataset(tmp_path):
    names = [f"emotion_dataset/{emotion}/{emotion}_0001.jpg" for emotion in MIKELS.leaves]
    samples = read_fi(write_images(tmp_path, names), MIKELS)
    assert leaves_of(samples, MIKELS) == {
        f"{emotion}/{emotion}_0001.jpg": emotion for emotion in MIKELS.leaves
    }
    # The order of the folders is not that of the ids.
    assert [sample.labels[-1] for sample in samples] != list(range(8))
    assert len(read_fi(tmp_path / "emotion_dataset", MIKELS)) == 8


@pytest.mark.parametrize("place", ["FI", "."])
def test_fi_is_read_in_the_split_of_wscnet_with_its_short_names(tmp_path, place):
    splits = ("train", "val", "test")
    write_images(tmp_path / place, [f"{s}/{short}/{s}.jpg" for s in splits for short in WSCNET])
    samples = read_fi(tmp_path, MIKELS)
    assert leaves_of(samples, MIKELS) == {
        f"{short}/{split}.jpg": name for short, name in WSCNET.items() for split in splits
    }
    for split in splits:
        found = {s.image.name for s in samples if s.split == split}
        assert found == {f"{split}.jpg"}


def test_fi_in_a_custom_hierarchy_needs_no_aliases(tmp_path):
    tree = Hierarchy.from_nested(
        {"up": ["amusement", "awe", "contentment", "excitement"], "down": list(MIKELS.leaves[4:])}
    )
    names = [f"FI/train/{short}/1.jpg" for short in WSCNET]
    samples = read_fi(write_images(tmp_path, names), tree)
    assert leaves_of(samples, tree) == {f"{short}/1.jpg": name for short, name in WSCNET.items()}


def test_the_lists_of_fi_alone_are_explained(tmp_path):
    (tmp_path / "agg").mkdir()
    (tmp_path / "agg" / "anger_1.csv").write_text("anger,http://x.org/1.jpg,1,4\n")
    with pytest.raises(DatasetError, match=r"contains only FI's lists .*anger_1\.csv; download"):
        read_fi(tmp_path, MIKELS)


def test_a_class_of_fi_without_images_is_reported(tmp_path, caplog):
    names = [f"emotion_dataset/{emotion}/1.jpg" for emotion in MIKELS.leaves if emotion != "fear"]
    with caplog.at_level(logging.WARNING):
        assert len(read_fi(write_images(tmp_path, names), MIKELS)) == 7
    assert "has no image of fear, which" in caplog.text
