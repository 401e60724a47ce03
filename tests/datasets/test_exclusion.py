"""Exclusion lists: written, edited by hand, read again, and refused if they do not fit."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from command_line import call
from dataset_trees import write_flawed_fi, write_image, write_images

from mdan_zoo.datasets.check import check_dataset
from mdan_zoo.datasets.exclusion import write_exclusions
from mdan_zoo.datasets.registry import read_dataset
from mdan_zoo.datasets.splits import Split, select
from mdan_zoo.errors import DatasetError, InputError
from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.hierarchy.tree import Hierarchy


@pytest.fixture
def data(tmp_path):
    return write_flawed_fi(tmp_path / "dataset")


@pytest.fixture
def listed(data, tmp_path):
    """The list of the images of `data` that are not fit for training."""
    path = tmp_path / "exclude.tsv"
    assert call("dataset", "FI", "--data", data, "--write-clean", path) == 0
    return path


def test_the_list_has_names_and_reasons(listed):
    lines = listed.read_text().splitlines()
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    assert len(rows) == 18
    assert ["anger/3.jpg", "contradiction: 2 identical files in anger, sadness"] in rows
    assert [name for name, reason in rows if reason.startswith("placeholder: 16 ")] == sorted(
        f"{leaf}/{number}.jpg" for leaf in get_hierarchy("mikels8").leaves for number in (8, 9)
    )
    assert not any("copy" in line for line in lines), "ordinary duplicates stay"


def test_near_duplicates_with_different_labels_are_for_the_reader_to_decide(listed, data):
    pytest.importorskip("imagehash")
    lines = listed.read_text().splitlines()
    about = "\t2 near-duplicates in awe, fear"
    assert lines[-2:] == [f"# awe/1.jpg{about}", f"# fear/resized.png{about}"]
    listed.write_text("\n".join(lines).replace("# fear", "fear"))
    names = {sample.image.name for sample in read_dataset("FI", data, exclude=listed)}
    assert "resized.png" not in names
    assert "1.jpg" in names


def test_what_remains_is_fit(data, listed, tmp_path, capsys):
    report = check_dataset("FI", data, exclude=listed)
    assert report.ok
    assert report.images == 37
    assert f"18 of the 55 images are excluded, as {listed} says" in report.notes
    assert call("dataset", "FI", "--data", data, "--exclude", listed) == 0
    assert "placeholder" not in capsys.readouterr().out


def test_a_split_has_the_remaining_images(data, listed, tmp_path, caplog):
    given = ("split", "FI", "--data", data, "--method", "80/20", "--output")
    assert call(*given, tmp_path / "clean.tsv", "--exclude", listed) == 0
    assert "should not be trained on" not in caplog.text
    clean = Split.load(tmp_path / "clean.tsv")
    assert sum(len(names) for _, names in clean.parts) == 37
    assert call(*given, tmp_path / "all.tsv") == 0
    assert "18 images in" in caplog.text
    assert "should not be trained on (placeholder 16, contradiction 2)" in caplog.text
    with pytest.raises(DatasetError, match=r"18 of the 55 .*no part .*same --exclude"):
        select(clean, read_dataset("FI", data), data, "train")
    samples = read_dataset("FI", data, exclude=listed)
    with pytest.raises(DatasetError, match=r"18 of the 55 .*same --exclude\?\) are not"):
        select(Split.load(tmp_path / "all.tsv"), samples, data, "train")


@pytest.mark.parametrize("name", ["awe/08.jpg", "dataset/awe/8.jpg", "8.jpg", "awe/8.jpg wrong"])
def test_a_name_that_is_not_there_is_refused(name, data, listed):
    with listed.open("a") as file:
        file.write(name + "\n")
    with pytest.raises(DatasetError, match=r"1 of the 19 .* not among the 55") as caught:
        read_dataset("FI", data, exclude=listed)
    assert repr(name) in str(caught.value)


def test_a_list_by_hand_needs_no_reasons(data, tmp_path):
    path = tmp_path / "mine.txt"
    path.write_bytes(b"# mine\r\nawe/8.jpg\r\n\r\nawe/9.jpg\twrong\r\nawe/9.jpg\r\n")
    assert len(read_dataset("FI", data, exclude=path)) == 53


def test_a_list_that_leaves_too_little_or_is_missing_is_refused(tmp_path):
    tree = Hierarchy.from_nested({"good": ["joy"], "bad": ["anger"]})
    data = write_images(tmp_path / "data", ["joy/1.jpg", "anger/1.jpg"])
    path = tmp_path / "exclude.tsv"
    with pytest.raises(DatasetError, match=f"cannot read {path}"):
        read_dataset("folder", data, tree, exclude=path)
    path.write_text("joy/1.jpg\n")
    with pytest.raises(DatasetError, match=r"leaves 1 image\(s\); at least two"):
        read_dataset("folder", data, tree, exclude=path)


def test_of_copies_in_several_splits_the_test_image_is_kept(tmp_path):
    names = [f"FI/{part}/{leaf}/0.jpg" for part in ("train", "test") for leaf in ("awe", "fear")]
    data = write_images(tmp_path / "data", names)
    for part in ("train", "test"):
        write_image(data / f"FI/{part}/awe/same.jpg", "same")
    (data / "FI/train/fear/page.jpg").write_text("<html>")
    report = check_dataset("FI", data)
    assert {name.removeprefix(f"{data}/FI/"): r for name, r in report.to_exclude.items()} == {
        "train/awe/same.jpg": "across splits: also in test",
        "train/fear/page.jpg": "unreadable: it is an HTML page, not an image",
    }


def test_a_list_is_not_overwritten(data, listed):
    before = listed.read_text()
    with pytest.raises(InputError, match=r"exclude\.tsv already exists, and a list is never"):
        call("dataset", "FI", "--data", data, "--write-clean", listed)
    assert listed.read_text() == before


def test_a_name_that_is_no_line_leaves_no_list(tmp_path):
    for name in ("a\tb.jpg", "a\nb.jpg", "#1.jpg", "\udcff.jpg"):
        with pytest.raises(DatasetError, match="an exclusion list cannot name"):
            write_exclusions(tmp_path / "list.tsv", "FI", tmp_path, {str(tmp_path / name): ""})
    assert not list(tmp_path.iterdir())


def test_classes_without_images_stay_a_problem(data, tmp_path, capsys):
    for image in (data / "fear").iterdir():
        image.unlink()
    path = tmp_path / "exclude.tsv"
    assert call("dataset", "FI", "--data", data, "--write-clean", path, "--json") == 1
    assert json.loads(capsys.readouterr().out)["empty_classes"] == ["fear"]
    assert path.is_file()


def test_the_two_options_exclude_each_other(data, listed):
    command = [sys.executable, "-m", "mdan_zoo", "dataset", "FI", "--data", data]
    more = ["--exclude", listed, "--write-clean", "new.tsv"]
    done = subprocess.run([*command, *more], capture_output=True, text=True)
    assert done.returncode == 2
    assert "not allowed with argument" in done.stderr
