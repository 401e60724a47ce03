"""The datasets of polarity: Twitter I, MVSA-Single and GAPED."""

from __future__ import annotations

import logging

import pytest
from dataset_trees import leaves_of, write_images

from mdan_zoo.datasets.check import check_dataset
from mdan_zoo.datasets.readers.polarity import read_gaped, read_mvsa_single, read_twitter1
from mdan_zoo.datasets.registry import read_dataset
from mdan_zoo.datasets.split_methods import make_split
from mdan_zoo.errors import DatasetError
from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.hierarchy.tree import Hierarchy

TWO, THREE = get_hierarchy("polarity2"), get_hierarchy("polarity3")
REVERSED = Hierarchy.from_nested(["positive", "negative"])


def write_twitter1(folder, three="a b.jpg 1\nb.jpg 0\nc.jpg\t0\n\n", four="b.jpg 0\nc.jpg 0"):
    write_images(folder / "images", ["a b.jpg", "b.jpg", "c.jpg"])
    for number, text in {"three": three, "four": four, "five": "c.jpg 0\n"}.items():
        path = folder / "ground_truth" / f"twitter_{number}_agrees.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return folder


@pytest.mark.parametrize("tree", [TWO, REVERSED])
def test_the_agreement_of_twitter1_is_the_distribution(tmp_path, tree):
    samples = read_twitter1(write_twitter1(tmp_path), tree)
    expected = {"a b.jpg": "positive", "b.jpg": "negative", "c.jpg": "negative"}
    assert leaves_of(samples, tree) == {f"images/{name}": leaf for name, leaf in expected.items()}
    positive = tree.leaves.index("positive")
    assert [s.distribution[positive] for s in samples] == pytest.approx([0.6, 0.2, 0.0])
    assert [sum(s.distribution) for s in samples] == pytest.approx([1, 1, 1])


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"three": "a b.jpg 2\n"}, r"line 1 is not 'image 0' or 'image 1' but 'a b\.jpg 2'"),
        ({"three": "1\n"}, "line 1 is not 'image 0' or 'image 1' but '1'"),
        ({"three": "b.jpg 0\nb.jpg 0"}, r"lists b\.jpg twice"),
        ({"four": "b.jpg 1"}, r"four_agrees\.txt lists b\.jpg with the label 1, and twitter_three"),
        ({"four": "d.jpg 1"}, r"lists d\.jpg with the label 1, and twitter_three_agrees\.txt does"),
        ({"three": "b.jpg 0\nc.jpg 0\ngone.jpg 1"}, r"1 of the 3 images .* missing: .*gone\.jpg"),
    ],
)
def test_wrong_lists_of_twitter1_are_reported(tmp_path, texts, message):
    with pytest.raises(DatasetError, match=message):
        read_twitter1(write_twitter1(tmp_path, **texts), TWO)


def test_all_lists_of_twitter1_are_required(tmp_path):
    (write_twitter1(tmp_path) / "ground_truth" / "twitter_four_agrees.txt").unlink()
    with pytest.raises(DatasetError, match=r"contains ground_truth/, images/; expected images/<f"):
        read_twitter1(tmp_path, TWO)


def write_mvsa_single(folder, *rows, header="ID\ttext,image"):
    write_images(folder / "data", ["1.jpg", "2.jpg", "3.jpg"])
    (folder / "data" / "1.txt").write_text("a tweet")
    (folder / "labelResultAll.txt").write_text("\r\n".join([header, *rows]))
    return folder


ROWS = ("1\tpositive,negative", "2\tneutral,neutral", "3\tnegative,positive")


def test_the_label_of_mvsa_is_that_of_the_image(tmp_path, caplog):
    write_mvsa_single(tmp_path, *ROWS)
    expected = {"data/1.jpg": "negative", "data/2.jpg": "neutral", "data/3.jpg": "positive"}
    assert leaves_of(read_mvsa_single(tmp_path, THREE), THREE) == expected
    assert all("has only one image" in record.getMessage() for record in caplog.records)
    del expected["data/2.jpg"]
    with caplog.at_level(logging.WARNING):
        assert leaves_of(read_mvsa_single(tmp_path, REVERSED), REVERSED) == expected
    assert "1 of the 3 images of" in caplog.text


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            ["1\tpositive,bad"],
            "of 1 must be two of positive, neutral and .* 'positive,bad'",
        ),
        (["1\tpositive"], "not 'positive'"),
        ([*ROWS, "4\tneutral,neutral"], r"1 of the 4 images .* missing: .*4\.jpg"),
        ([*ROWS, ROWS[0]], r"has .*1\.jpg twice, as negative"),
    ],
)
def test_wrong_rows_of_mvsa_are_reported(tmp_path, rows, message):
    with pytest.raises(DatasetError, match=message):
        read_mvsa_single(write_mvsa_single(tmp_path, *rows), THREE)


def test_mvsa_multiple_is_refused(tmp_path):
    labels = "\tpositive,positive\tneutral,neutral\tneutral,positive"
    header = "ID\ttext,image\ttext,image\ttext,image"
    with pytest.raises(DatasetError, match="MVSA-Multiple, with the labels of three people, is an"):
        read_mvsa_single(write_mvsa_single(tmp_path, f"1{labels}", header=header), THREE)


def write_gaped(folder, **changes):
    for category in ("A", "H", "N", "P", "Sn", "Sp"):
        write_images(folder / category, [f"{category}001.bmp"])
        row = f"{category}001.bmp\t{len(category)}1.5\t(9.1)\t20.25\t(8.2)\t33\t44"
        text = changes.get(category, f"Item Valence (SD) Arousal (SD)\n\n{row}\n")
        (folder / f"{category}_with SD.txt").write_text(text)
    return folder


@pytest.mark.parametrize("inner", ["", "GAPED"])
def test_the_polarity_of_gaped_is_that_of_the_category(tmp_path, inner):
    write_gaped(tmp_path / inner)
    samples = read_gaped(tmp_path, THREE)
    polarities = {"A": "negative", "H": "negative", "N": "neutral", "P": "positive"}
    polarities |= {"Sn": "negative", "Sp": "negative"}
    expected = {f"{name}/{name}001.bmp": leaf for name, leaf in polarities.items()}
    assert leaves_of(samples, THREE) == expected
    ratings = {sample.image.stem: dict(sample.ratings) for sample in samples}
    assert ratings["P001"] == {"valence": 11.5, "arousal": 20.25}
    assert ratings["Sn001"] == {"valence": 21.5, "arousal": 20.25}
    assert len(read_gaped(tmp_path, REVERSED)) == 5


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("N001.bmp 101 (1) 50 (1)", r"N_with SD\.txt: the valence of N001 must be a number in 0"),
        ("N001.bmp 50 (1) low (1)", "the arousal of N001 must be a number in .*, not 'low'"),
        ("N001.bmp 50 50", "'N001.bmp 50 50' has no means and deviations of two ratings"),
        ("N002.bmp 50 (1) 50 (1)", r"the image N002 that .*N_with SD\.txt lists is missing"),
        ("Item Valence", r"1 images of .* are in none of its tables: .*N001\.bmp"),
    ],
)
def test_wrong_tables_of_gaped_are_reported(tmp_path, row, message):
    with pytest.raises(DatasetError, match=message):
        read_gaped(write_gaped(tmp_path, N=row), THREE)


def test_files_of_gaped_that_are_missing_or_ambiguous_are_reported(tmp_path):
    write_images(write_gaped(tmp_path), ["copy/P001.jpg"])
    with pytest.raises(DatasetError, match="two images named P001: "):
        read_gaped(tmp_path, THREE)
    (tmp_path / "Sp_with SD.txt").unlink()
    with pytest.raises(DatasetError, match=r"expected \{A,H,N,P,Sn,Sp\}/<image>\.bmp and"):
        read_gaped(tmp_path, THREE)


def test_a_hierarchy_of_one_level_can_be_checked_and_split(tmp_path):
    write_gaped(tmp_path)
    report = check_dataset("GAPED", tmp_path)
    assert report.ok
    assert {count.leaf: count.images for count in report.counts} == {
        "negative": 4,
        "neutral": 1,
        "positive": 1,
    }
    split = make_split("GAPED", read_dataset("GAPED", tmp_path), tmp_path, "50/50")
    assert sum(len(names) for _, names in split.parts) == 6


@pytest.mark.parametrize("name", ["Twitter-I", "MVSA-Single", "GAPED"])
def test_a_level_of_another_hierarchy_may_have_the_polarities(tmp_path, name):
    """Polarity 0 is positive in Mikels' hierarchy, in which no class is neutral."""
    write_twitter1(tmp_path / "Twitter-I")
    write_mvsa_single(tmp_path / "MVSA-Single", *ROWS)
    write_gaped(tmp_path / "GAPED")
    own = read_dataset(name, tmp_path / name)
    names = get_hierarchy("polarity2" if name == "Twitter-I" else "polarity3").leaves
    expected = {s.image: names[s.labels[0]] for s in own if names[s.labels[0]] != "neutral"}
    mikels = get_hierarchy("mikels8")
    samples = read_dataset(name, tmp_path / name, mikels)
    assert {s.image: mikels.levels[0][s.labels[0]] for s in samples} == expected
    assert {len(s.labels) for s in samples} == {1}
    assert all(max(s.distribution) == s.distribution[s.labels[0]] for s in samples)
    with pytest.raises(DatasetError, match="no level with the classes negative, positive; its lev"):
        read_dataset(
            name, tmp_path / name, Hierarchy.from_nested({"good": ["joy"], "bad": ["woe"]})
        )


def test_neutral_may_also_be_a_leaf(tmp_path):
    write_mvsa_single(tmp_path, *ROWS)
    above = Hierarchy.from_nested(
        {"positive": ["joy"], "negative": ["fear"], "neutral": ["neutral"]}
    )
    samples = read_mvsa_single(tmp_path, above)
    assert [above.class_name(s.labels) for s in samples] == ["negative", "neutral", "positive"]
    assert {len(sample.labels) for sample in samples} == {1}
    below = Hierarchy.from_nested({"positive": ["joy", "neutral"], "negative": ["fear"]})
    samples = read_mvsa_single(tmp_path, below)
    assert [below.class_name(s.labels) for s in samples] == ["negative", "positive"]


def test_an_image_in_two_tables_of_gaped_is_refused(tmp_path):
    write_gaped(tmp_path)
    table = tmp_path / "P_with SD.txt"
    table.write_text(table.read_text() + "A001.bmp 50 (1) 50 (1)\n")
    with pytest.raises(DatasetError, match="lists the image A001, which is listed before"):
        read_gaped(tmp_path, THREE)
