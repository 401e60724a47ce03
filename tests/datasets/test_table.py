"""Images of one's own in a table."""

from __future__ import annotations

import logging
import sys

import pytest
from dataset_trees import leaves_of, write_images

from mdan_zoo.datasets.readers.table import read_table
from mdan_zoo.errors import DatasetError
from mdan_zoo.hierarchy.tree import Hierarchy

TREE = Hierarchy.from_nested(
    {"positive": ["joy"], "negative": ["anger", "fear"]},
    name="three",
    level_names=("polarity", "emotion"),
    aliases={"afraid": "fear"},
)
LABELS = ["image,label", "p/1.jpg,joy", "p/2.jpg,anger", "p/3.jpg,afraid"]
LEAVES = {"p/1.jpg": "joy", "p/2.jpg": "anger", "p/3.jpg": "fear"}


def write_table(folder, lines, name="table.csv"):
    write_images(folder, list(LEAVES))
    path = folder / name
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "lines",
    [
        LABELS,
        ["\ufeffImage,Label", *LABELS[1:]],
        ["emotion,image", "Joy,p/1.jpg", "anger,p/2.jpg", "fear,p/3.jpg"],
        [
            "image,polarity,emotion",
            "p/1.jpg,positive,joy",
            "p/2.jpg,Negative,anger",
            "p/3.jpg,negative,fear",
        ],
        ["image,fear,joy,anger", "p/1.jpg,1,3,0", "p/2.jpg,0,0,1", "p/3.jpg,0.6,0.2,0.2"],
    ],
)
def test_every_form_is_read(tmp_path, lines):
    path = write_table(tmp_path, lines)
    samples = read_table(tmp_path, TREE)
    assert leaves_of(samples, TREE) == LEAVES
    assert samples == read_table(path, TREE)


def test_shares_become_a_distribution(tmp_path):
    lines = ["image,afraid,joy,anger", "p/1.jpg,1,3,0", "p/2.jpg,0,0,1", "p/3.jpg,4,0,0"]
    samples = read_table(write_table(tmp_path, lines), TREE)
    shares = dict(zip(TREE.leaves, samples[0].distribution, strict=True))
    assert shares == {"joy": 0.75, "anger": 0, "fear": 0.25}


@pytest.mark.parametrize(
    "lines",
    [
        ["image,label", "p/1.jpg,joy", "p/2.jpg,Negative", "p/3.jpg,negative"],
        [
            "image,polarity,emotion",
            "p/1.jpg,positive,joy",
            "p/2.jpg,negative,",
            "p/3.jpg,negative,",
        ],
    ],
)
def test_a_row_can_be_labelled_at_a_coarse_level_only(tmp_path, lines):
    samples = read_table(write_table(tmp_path, lines), TREE)
    assert [sample.labels for sample in samples] == [(0, 0), (1,), (1,)]
    assert [sample.distribution for sample in samples] == [(1, 0, 0), (0, 1), (0, 1)]
    coarse = [
        "image,polarity",
        *(f"p/{n}.jpg,{name}" for n, name in ((1, "positive"), (2, "negative"))),
    ]
    assert [s.labels for s in read_table(write_table(tmp_path / "b", coarse), TREE)] == [(0,), (1,)]


def test_a_cell_of_a_level_names_a_class_of_that_level(tmp_path):
    tree = Hierarchy.from_nested(
        {"positive": {"joy": ["zest", "pride"]}, "negative": {"sadness": ["sadness", "shame"]}}
    )
    lines = [
        "image,coarse,medium,fine",
        "p/1.jpg,negative,sadness,",
        "p/2.jpg,negative,sadness,shame",
    ]
    samples = read_table(write_table(tmp_path, lines), tree)
    assert [sample.labels for sample in samples] == [(1, 1), (1, 1, 3)]
    lines[1] = "p/1.jpg,negative,shame,"
    with pytest.raises(DatasetError, match="row 1: 'shame' is not a class of the level medium"):
        read_table(write_table(tmp_path / "b", lines), tree)


def test_columns_of_numbers_are_ratings(tmp_path, caplog):
    lines = [
        "image,label,Valence,note",
        "p/1.jpg,joy,6.5,2",
        "p/2.jpg,anger,1,",
        "p/3.jpg,fear,2,3",
    ]
    with caplog.at_level(logging.WARNING):
        samples = read_table(write_table(tmp_path, lines), TREE)
    assert [s.ratings for s in samples] == [(("valence", v),) for v in (6.5, 1.0, 2.0)]
    assert "that are not read: note" in caplog.text


def test_group_and_split_are_read(tmp_path, caplog):
    lines = [
        "image,label,group,split,author",
        "p/1.jpg,joy,a,train,x",
        "p/2.jpg,anger,a,Validation,x",
        "p/3.jpg,fear,b,,x",
    ]
    with caplog.at_level(logging.WARNING):
        samples = read_table(write_table(tmp_path, lines), TREE)
    assert [(s.group, s.split) for s in samples] == [("a", "train"), ("a", "val"), ("b", "")]
    assert caplog.text.count("that are not read: author") == 1
    lines[1:] = ["p/1.jpg,joy,a,,x", "p/2.jpg,anger,,,x", "p/3.jpg,fear, ,,x"]
    groups = [sample.group for sample in read_table(write_table(tmp_path / "b", lines), TREE)]
    assert len(set(groups)) == 3, "images without a group do not belong together"
    plain = read_table(write_table(tmp_path, LABELS), TREE)
    assert len({sample.group for sample in plain}) == 3


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["image,label"], "has no rows"),
        (["file,label", "p/1.jpg,joy"], "has the columns file, label; expected one table"),
        (["image,polarity", "p/1.jpg,positive"], r"has 1 image\(s\)"),
        (["image,mood", "p/1.jpg,positive"], "the columns image, mood; expected"),
        (["image,joy", "p/1.jpg,1"], "columns for some leaves but none for anger, fear"),
        (["image,joy,fear,afraid,anger", "p/1.jpg,1,0,0,0"], "leaf, fear and afraid"),
        ([*LABELS[:3], "p/3.jpg,feer"], "row 3: 'feer' is not a leaf .* did you mean 'fear'"),
        (["image,polarity", "p/1.jpg,positive", "p/2.jpg,positive"], "no image of negative"),
        (LABELS[:3], "no image of fear, which hierarchy 'three' has; add images"),
        (LABELS[:2], r"has 1 image\(s\)"),
        ([*LABELS, "p/1.jpg,fear"], r"p/1\.jpg twice, as joy and fear"),
        ([*LABELS, "p/1.jpg,joy"], r"p/1\.jpg twice, as joy$"),
        ([*LABELS, "p/4.jpg,joy", "p/5.jpg,joy"], r"2 of the 5 images .*4\.jpg, .*5\.jpg"),
        ([*LABELS, "p/1.jpg,joy,x"], "line 5 has 3 cells, the header has 2"),
        (
            ["image,polarity,emotion", "p/1.jpg,negative,joy"],
            "row 1: 'joy' belongs to polarity 'positive', not to 'negative'",
        ),
        (["image,emotion,label", "p/1.jpg,joy,fear"], "'fear' belongs to emotion 'fear', not"),
        (["image,joy,anger,fear", "p/1.jpg,1,x,0"], "row 1: a share must be .* not 'x'"),
        (["image,joy,anger,fear", "p/1.jpg,1,-1,0"], "row 1: a share must be .* not '-1'"),
        (["image,joy,anger,fear", "p/1.jpg,1,nan,0"], "row 1: a share must be .* not 'nan'"),
        (["image,joy,anger,fear", "p/1.jpg,0,0,0"], "row 1: all shares are 0"),
        ([*LABELS, "x" * 200_000 + ",joy"], "line 5: field larger than field limit"),
        (["image,label,split", "p/1.jpg,joy,dev"], "train, val or test, not 'dev'"),
    ],
)
def test_a_wrong_table_is_reported(tmp_path, lines, message):
    path = write_table(tmp_path, lines)
    with pytest.raises(DatasetError, match=message):
        read_table(path, TREE)


def test_a_table_that_is_no_text_is_reported(tmp_path):
    path = tmp_path / "table.csv"
    path.write_bytes(b"image,label\n\xff\xfe,joy\n")
    with pytest.raises(DatasetError, match=r"table\.csv is not UTF-8"):
        read_table(path, TREE)


@pytest.mark.parametrize("names", [[], ["a.csv", "b.csv"]])
def test_a_folder_must_hold_one_table(tmp_path, names):
    for name in names:
        write_table(tmp_path, LABELS, name)
    with pytest.raises(DatasetError, match="expected one table"):
        read_table(tmp_path, TREE)


def test_parquet_is_read(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    write_images(tmp_path, list(LEAVES))
    columns = {"image": list(LEAVES), "label": list(LEAVES.values()), "split": ["train"] * 3}
    parquet.write_table(pyarrow.table(columns), tmp_path / "table.parquet")
    samples = read_table(tmp_path, TREE)
    assert leaves_of(samples, TREE) == LEAVES
    assert {sample.split for sample in samples} == {"train"}
    shares = {"image": list(LEAVES), "joy": [1, 0, None], "anger": [0, 1, 0], "fear": [0, 0, 1]}
    parquet.write_table(pyarrow.table(shares), tmp_path / "table.parquet")
    with pytest.raises(DatasetError, match="row 3: a share must be a number of at least 0, not ''"):
        read_table(tmp_path, TREE)


def test_a_broken_parquet_file_is_reported(tmp_path):
    pytest.importorskip("pyarrow")
    (tmp_path / "table.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(DatasetError, match=r"table\.parquet: "):
        read_table(tmp_path, TREE)


def test_parquet_without_pyarrow_is_reported(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # as where it is not installed
    (tmp_path / "table.parquet").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"pip install pyarrow, or save the table as \.csv"):
        read_table(tmp_path, TREE)


@pytest.mark.parametrize("name", ["../other.jpg", "p/../../other.jpg", "{outside}/other.jpg"])
def test_images_outside_the_folder_are_refused(name, tmp_path):
    name = name.format(outside=tmp_path)
    write_images(tmp_path, ["other.jpg"])
    path = write_table(tmp_path / "inner", [*LABELS, f"{name},joy"])
    with pytest.raises(DatasetError, match=rf"row 4: the image '{name}' is not below .*/inner"):
        read_table(path, TREE)


def test_a_folder_can_be_given_by_a_path_with_dots(tmp_path):
    write_table(tmp_path / "inner", LABELS)
    assert len(read_table(tmp_path / "inner" / ".." / "inner", TREE)) == 3
