"""Emotion6 of Peng et al., whose raters could also answer "neutral"."""

from __future__ import annotations

import logging

import pytest
from dataset_trees import leaves_of, write_images

from mdan_zoo.datasets.readers.emotion6_peng import read_emotion6_peng
from mdan_zoo.errors import DatasetError
from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.hierarchy.tree import Hierarchy

TREE = get_hierarchy("ekman6")
EMOTIONS = ("anger", "disgust", "fear", "joy", "sadness", "surprise", "neutral")
HEADER = ["[image_filename]", "[valence]", "[arousal]", *(f"[prob. {e}]" for e in EMOTIONS)]
ROWS = [
    ["anger/1.jpg", "3.2", "5.5", "0.5", "0.1", "0.1", "0", "0.1", "0", "0.2"],
    # The raters saw joy where the search had been for surprise.
    ["surprise/1.jpg", "6.9", "4.5", "0", "0", "0", "0.6", "0", "0.1", "0.3"],
    ["joy/1.jpg", "4.4", "3.5", "0", "0", "0", "0", "0", "0", "1"],
    ["sadness/1.jpg", "2.4", "3.5", "0.3", "0", "0", "0", "0.3", "0", "0.4"],
]


def write_emotion6(folder, rows=ROWS, header=HEADER):
    write_images(folder / "images", [row[0] for row in ROWS])
    lines = ["\t".join(row) for row in [header, *rows]]
    (folder / "ground_truth.txt").write_text("\r\n".join(lines) + "\r\n", encoding="utf-8")
    return folder


def test_neutral_is_left_out_of_the_distribution(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        samples = read_emotion6_peng(write_emotion6(tmp_path), TREE)
    assert leaves_of(samples, TREE) == {
        "anger/1.jpg": "anger",
        "surprise/1.jpg": "joy",
        "sadness/1.jpg": "sadness",  # equal votes for anger, but this is what was searched for
    }
    angry = dict(zip(TREE.leaves, samples[0].distribution, strict=True))
    assert angry["anger"] == pytest.approx(0.5 / 0.8)
    assert all(sum(sample.distribution) == pytest.approx(1) for sample in samples)
    assert dict(samples[0].ratings) == {"valence": 3.2, "arousal": 5.5}
    assert "1 images of " in caplog.text
    assert "all their votes are neutral" in caplog.text


def test_a_hierarchy_with_neutral_keeps_it(tmp_path):
    tree = Hierarchy.from_nested(list(EMOTIONS))
    samples = read_emotion6_peng(write_emotion6(tmp_path), tree)
    assert leaves_of(samples, tree)["joy/1.jpg"] == "neutral"
    assert leaves_of(samples, tree)["sadness/1.jpg"] == "neutral"
    assert dict(zip(tree.leaves, samples[0].distribution, strict=True))["neutral"] == 0.2


def test_columns_may_lack_their_brackets(tmp_path):
    folder = write_emotion6(tmp_path, header=[cell.strip("[]") for cell in HEADER])
    plain = [cell.strip("[]").removeprefix("prob. ") for cell in HEADER]
    assert read_emotion6_peng(folder, TREE) == read_emotion6_peng(
        write_emotion6(tmp_path, header=plain), TREE
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[prob. joy]", "[prob. bliss]", "has the columns .*bliss.*; expected .*joy"),
        ("6.9", "high", r"valence of surprise/1\.jpg must be a number, not 'high'"),
        ("6.9", "nan", r"valence of surprise/1\.jpg must be a number, not 'nan'"),
        ("0.6", "60", r"joy of surprise/1\.jpg must be a number in 0\.\.1, not '60'"),
        ("0.6", "-0.6", r"joy of surprise/1\.jpg must be a number in 0\.\.1, not '-0\.6'"),
        ("\t0.6", "", "line 3 has 9 cells, the header has 10"),
        ("surprise/1.jpg", "surprise/2.jpg", r"1 of the 4 images .*2\.jpg"),
    ],
)
def test_a_wrong_table_is_reported(tmp_path, old, new, message):
    table = write_emotion6(tmp_path) / "ground_truth.txt"
    table.write_text(table.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    with pytest.raises(DatasetError, match=message):
        read_emotion6_peng(tmp_path, TREE)


def test_a_folder_without_the_table_is_reported(tmp_path):
    (write_emotion6(tmp_path) / "ground_truth.txt").unlink()
    with pytest.raises(DatasetError, match=r"it contains images/; expected ground_truth\.txt"):
        read_emotion6_peng(tmp_path, TREE)


def test_a_hierarchy_without_disgust_is_reported(tmp_path):
    with pytest.raises(DatasetError, match="'disgust' is not a leaf of the hierarchy 'panda6'"):
        read_emotion6_peng(write_emotion6(tmp_path), get_hierarchy("panda6"))
