"""The three small datasets of Mikels' eight emotions: ArtPhoto, Abstract and the IAPS subset."""

from __future__ import annotations

import logging

import pytest
from dataset_trees import leaves_of, write_images

from mdan_zoo.datasets.readers.abstract import read_abstract
from mdan_zoo.datasets.readers.class_folders import read_artphoto
from mdan_zoo.datasets.readers.iaps import read_iaps
from mdan_zoo.errors import DatasetError
from mdan_zoo.hierarchy.builtin import get_hierarchy

TREE = get_hierarchy("mikels8")
HEADER = "'','Amusement','Anger','Awe','Content','Disgust','Excitement','Fear','Sad'"


def test_artphoto_is_read_by_prefix(tmp_path):
    prefixes = [name for name in TREE.leaves if name != "sadness"] + ["sad"]
    names = [f"testImages_artphoto/{prefix}_0012.jpg" for prefix in prefixes]
    samples = read_artphoto(write_images(tmp_path, names), TREE)
    expected = {f"testImages_artphoto/{name}_0012.jpg": name for name in prefixes[:-1]}
    expected["testImages_artphoto/sad_0012.jpg"] = "sadness"
    assert leaves_of(samples, TREE) == expected
    assert len(read_artphoto(tmp_path / "testImages_artphoto", TREE)) == 8


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], r"it is empty; expected testImages_artphoto/<class>_NNNN\.jpg"),
        (["awe_0001.jpg", "angry_0001.jpg"], r"angry_0001\.jpg: 'angry' is not a leaf .* 'anger'"),
        (["awe_0001.jpg", "0001.jpg"], r"0001\.jpg: '' is not a leaf"),
        (["awe_0001.jpg"], r"has 1 image\(s\)"),
    ],
)
def test_a_wrong_artphoto_is_reported(tmp_path, names, message):
    with pytest.raises(DatasetError, match=message):
        read_artphoto(write_images(tmp_path, names), TREE)


# (image, votes for amusement, anger, awe, contentment, disgust, excitement, fear, sadness)
VOTES = {
    "abstract_0001.jpg": (1, 0, 9, 14, 0, 1, 0, 0),  # as texts, 9 is more than 14
    "abstract_0002.jpg": (0, 5, 0, 0, 0, 0, 5, 0),  # a tie
    "abstract_0003.jpg": (0, 0, 0, 1, 2, 0, 3, 10),
    "abstract_0004.jpg": (0, 0, 0, 0, 0, 0, 0, 0),
}


def write_abstract(folder, votes=VOTES, table="ABSTRACT_groundTruth.csv"):
    write_images(folder / "testImages_abstract", list(votes))
    rows = [f"'{name}'," + ",".join(map(str, counts)) for name, counts in votes.items()]
    (folder / table).write_text("\n".join([HEADER, *rows]) + "\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize("place", ["", "testImages_abstract/"])
def test_abstract_keeps_clear_winners(tmp_path, caplog, place):
    (tmp_path / "testImages_abstract").mkdir()
    write_abstract(tmp_path, table=f"{place}ABSTRACT_groundTruth.csv")
    with caplog.at_level(logging.WARNING):
        samples = read_abstract(tmp_path, TREE)
    assert leaves_of(samples, TREE) == {
        "testImages_abstract/abstract_0001.jpg": "contentment",
        "testImages_abstract/abstract_0003.jpg": "sadness",
    }
    assert "2 of the 4 paintings" in caplog.text
    shares = dict(zip(TREE.leaves, samples[0].distribution, strict=True))
    assert shares["contentment"] == pytest.approx(14 / 25)
    assert shares["awe"] == pytest.approx(9 / 25)
    assert sum(shares.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("14", "many", "'many' of 'abstract_0001.jpg' is not a number of votes"),
        ("14", "1.5", "'1.5' of 'abstract_0001.jpg' is not a number of votes"),
        ("14", "-1", "'abstract_0001.jpg' has -1 votes"),
        ("14", "14,3", "line 2 has 10 cells, the header has 9"),
        ("'Content'", "'Contend'", "'Contend' is not a leaf .* did you mean 'content'"),
        ("abstract_0003", "abstract_0300", r"1 of the 4 images .*abstract_0300\.jpg"),
    ],
)
def test_a_wrong_abstract_table_is_reported(tmp_path, old, new, message):
    table = write_abstract(tmp_path) / "ABSTRACT_groundTruth.csv"
    table.write_text(table.read_text().replace(old, new))
    with pytest.raises(DatasetError, match=message):
        read_abstract(tmp_path, TREE)


def test_abstract_without_its_table_is_reported(tmp_path):
    write_images(tmp_path, ["testImages_abstract/abstract_0001.jpg"])
    with pytest.raises(DatasetError, match=r"it contains testImages_abstract/; expected .*\.csv"):
        read_abstract(tmp_path, TREE)


def write_iaps(folder, lines):
    write_images(folder, ["1050.jpg", "2900.1.jpg", "2900.jpg"])
    (folder / "labels.csv").write_text("\n".join(lines), encoding="utf-8")
    return folder


def test_iaps_is_read_by_a_table_of_ones_own(tmp_path):
    # 2900.1 is an image, not 2900 with the ending .1
    lines = ["\ufeffname,label", "1050.jpg,fear", "2900.1,Sadness", "2900,awe"]
    samples = read_iaps(write_iaps(tmp_path / "IAPS", lines), TREE)
    assert leaves_of(samples, TREE) == {
        "IAPS/1050.jpg": "fear",
        "IAPS/2900.1.jpg": "sadness",
        "IAPS/2900.jpg": "awe",
    }


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["image,label", "1050,fear"], "has the columns image, label; expected"),
        (["name,label"], "has no rows"),
        (["name,label", "1050,fear", "1051,fear"], "1 of the images .* missing.*: 1051"),
        (["name,label", "1050,fear", "2900,fears"], "2900: 'fears' is not a leaf .* 'fear'"),
        (["name,label", "1050,fear", "1050,awe"], "1050.jpg twice, as fear and awe"),
        (["name,label", "1050,fear", "1050.jpg,fear"], "1050.jpg twice, as fear$"),
        (["name,label", "1050,fear"], r"has 1 image\(s\)"),
    ],
)
def test_a_wrong_iaps_table_is_reported(tmp_path, lines, message):
    with pytest.raises(DatasetError, match=message):
        read_iaps(write_iaps(tmp_path, lines), TREE)


def test_iaps_needs_exactly_one_table(tmp_path):
    folder = write_iaps(tmp_path, ["name,label", "1050,fear"])
    (folder / "norms.csv").write_text("x")
    with pytest.raises(DatasetError, match=r"norms\.csv; expected .* one \.csv file"):
        read_iaps(folder, TREE)


def test_two_iaps_files_of_one_name_are_reported(tmp_path):
    folder = write_iaps(tmp_path, ["name,label", "1050,fear", "2900,awe"])
    write_images(folder, ["copy/1050.jpg"])
    with pytest.raises(DatasetError, match="several of that name: 1050"):
        read_iaps(folder, TREE)
