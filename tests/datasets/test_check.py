"""`mdan-zoo dataset`: problems of a dataset are found."""

from __future__ import annotations

import json
import re
import sys

import pytest
from command_line import call
from dataset_trees import write_flawed_fi, write_image, write_images

from mdan_zoo.datasets.check import check_dataset
from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.hierarchy.tree import Hierarchy

TREE = get_hierarchy("mikels8")
SPLITS = ("train", "val", "test")


@pytest.fixture
def folder(tmp_path):
    """A sound copy of FI with one image of every class in every split."""
    names = [f"FI/{split}/{leaf}/{split}.jpg" for split in SPLITS for leaf in TREE.leaves]
    return write_images(tmp_path / "data", names)


@pytest.fixture
def run(capsys):
    """Run the command; return its exit status and output."""

    def run(*arguments: object) -> tuple[int, str]:
        return call("dataset", *arguments), capsys.readouterr().out

    return run


def test_a_sound_data_set_passes(folder, run):
    report = check_dataset("FI", folder)
    assert report.ok
    assert report.images == 24
    assert {(c.split, c.images) for c in report.counts} == {(s, 1) for s in SPLITS}
    assert report.equal_files == report.unreadable == report.empty_classes == ()
    status, output = run("FI", "--data", folder)
    assert status == 0
    lines = output.splitlines()
    assert "24 images, hierarchy mikels8" in lines[0]
    assert next(line for line in lines if "train" in line).split() == list(SPLITS)
    assert next(line for line in lines if line.startswith("awe")).split() == ["awe", "1", "1", "1"]
    assert lines[-1] == "no problems: fit for training"


def test_files_without_an_ending_are_reported(folder, run):
    for name in ("b", "a"):
        write_image(folder / "FI/train/awe" / name)
    (folder / "FI/train/awe/.hidden").touch()
    status, output = run("FI", "--data", folder)
    assert status == 0
    a, b = (folder / "FI/train/awe" / name for name in "ab")
    assert f"note: files without a suffix, such as .jpg, are skipped: {a}, {b}\n" in output


def test_files_that_cannot_be_read_are_found(folder, run):
    (folder / "FI/train/awe/cut.jpg").write_bytes(
        (folder / "FI/train/awe/train.jpg").read_bytes()[:300]
    )
    (folder / "FI/train/awe/page.jpg").write_text("<!DOCTYPE html><html>Not found</html>")
    report = check_dataset("FI", folder)
    assert not report.ok
    assert len(report.unreadable) == 2
    assert any("cut.jpg" in problem for problem in report.unreadable)
    assert any("page.jpg: it is an HTML page" in problem for problem in report.unreadable)
    status, output = run("FI", "--root", folder)
    assert status == 1
    assert "files that cannot be read: 2" in output
    assert output.splitlines()[-1] == "NOT fit for training"


def test_equal_files_of_one_class_and_split_are_only_reported(folder, run):
    for name in "ab":
        write_image(folder / f"FI/train/awe/{name}.jpg", "same")
    report = check_dataset("FI", folder)
    assert report.ok
    (files,) = report.equal_files
    assert [name[-5:] for name in files.images] == ["a.jpg", "b.jpg"]
    assert (files.leaves, files.splits) == (("awe",), ("train",))
    assert report.placeholders == ()
    status, output = run("FI", "--data", folder)
    assert status == 0
    assert "identical files: 1" in output


def test_many_equal_files_in_several_classes_are_placeholders(folder, run):
    for name in ("awe/a", "awe/b", "fear/c"):
        write_image(folder / f"FI/train/{name}.jpg", "photo removed")
    report = check_dataset("FI", folder)
    assert report.placeholders == report.equal_files
    assert len(report.placeholders) == 1
    assert report.contradictions == ()
    assert not report.ok
    status, output = run("FI", "--data", folder)
    assert status == 1
    assert "placeholders (3 or more identical files in several classes): 1\n" in output
    assert f"  3 files in awe, fear: {folder}/FI/train/awe/a.jpg" in output


def test_many_equal_files_of_one_class_are_ordinary_duplicates(folder, run):
    for name in "abc":
        for leaf in ("awe", "fear"):
            write_image(folder / f"FI/train/{leaf}/{name}.jpg", f"drawing for {leaf}")
    report = check_dataset("FI", folder)
    assert [len(files.images) for files in report.equal_files] == [3, 3]
    assert report.placeholders == report.contradictions == ()
    assert report.ok
    assert run("FI", "--data", folder)[0] == 0


def test_the_flaws_of_a_circulating_copy_are_named(tmp_path, run):
    pytest.importorskip("imagehash")
    data = write_flawed_fi(tmp_path / "dataset")
    status, output = run("FI", "--data", data)
    assert status == 1
    assert "several classes): 1\n  16 files in amusement, anger, awe, contentment, dis" in output
    assert f"labels: 1\n  2 files in anger, sadness: {data}/anger/3.jpg, {data}/sad" in output
    assert f"labels: 1\n  2 files in awe, fear: {data}/awe/1.jpg, {data}/fear/resi" in output
    assert "\nnear-duplicates: 2\n" in output
    command = f"mdan-zoo dataset FI --data {data} --write-clean exclude.tsv"
    told = "18 images in .* should not be trained on .placeholder 16, contradiction 2.;.*\n  "
    assert re.search(told + re.escape(command) + "\nand leave them out with --exclude", output)
    found = json.loads(run("FI", "--data", data, "--json")[1])
    assert len(found["to_exclude"]) == 18
    assert found["near_duplicates"][0]["leaves"] == ["awe"]


def test_without_imagehash_only_near_duplicates_are_not_found(tmp_path, run, monkeypatch):
    monkeypatch.setitem(sys.modules, "imagehash", None)  # Python's mark of a missing package
    status, output = run("FI", "--data", write_flawed_fi(tmp_path / "dataset"))
    assert status == 1
    assert "note: no search for near-duplicates: it needs pip install 'mdan-zoo[train]'" in output
    assert "near-duplicates: 2" not in output
    assert "18 images" in output


def test_a_class_of_one_image_is_noted(tmp_path, run):
    names = ["joy/1.jpg", "joy/2.jpg", "anger/1.jpg"]
    data = write_images(tmp_path / "data", names)
    tree = Hierarchy.from_nested({"good": ["joy"], "bad": ["anger"]}, name="mine")
    report = check_dataset("folder", data, tree)
    assert report.ok
    (note,) = [note for note in report.notes if "only one" in note]
    assert note.startswith(f"{data} has only one image of anger; a new split puts it either")


def test_contradicting_labels_are_found(folder, run):
    write_image(folder / "FI/train/awe/a.jpg", "same")
    write_image(folder / "FI/train/fear/b.jpg", "same")
    report = check_dataset("FI", folder)
    assert not report.ok
    assert [files.leaves for files in report.contradictions] == [("awe", "fear")]
    assert report.across_splits == ()
    status, output = run("FI", "--data", folder)
    assert status == 1
    assert "identical files with different labels: 1" in output


def write_webemo(folder):
    """Write an image of every class in either split, as they are downloaded."""
    names = [f"{split}/{label}/{split}{label}.jpg" for split in SPLITS[::2] for label in range(25)]
    return write_images(folder, names)


def test_several_labels_of_the_release_are_no_contradiction(tmp_path, run):
    """WEBEmo lists some URLs under two classes; both copies have the name that is in the URL."""
    folder = write_webemo(tmp_path)
    for label in (3, 4, 5):
        write_image(folder / f"test/{label}/twice.jpg", "same")
    report = check_dataset("WEBEmo", folder)
    assert report.ok
    assert report.contradictions == ()
    (files,) = report.several_labels
    assert len(files.leaves) == 3
    assert report.placeholders == ()
    status, output = run("WEBEmo", "--data", folder)
    assert status == 0
    assert "note: 1 images have several labels, as in the release" in output
    assert "images with several labels, as in the release: 1" in output


@pytest.mark.parametrize("other", ["test/4/another.jpg", "train/4/twice.jpg"])
def test_equal_files_of_another_name_or_split_are_a_contradiction(other, tmp_path):
    folder = write_webemo(tmp_path)
    for name in ("test/3/twice.jpg", other):
        write_image(folder / name, "same")
    report = check_dataset("WEBEmo", folder)
    assert not report.ok
    assert len(report.contradictions) == 1
    assert report.several_labels == ()


def test_equal_files_across_splits_are_found(folder, run):
    write_image(folder / "FI/train/awe/a.jpg", "same")
    write_image(folder / "FI/test/awe/a.jpg", "same")
    report = check_dataset("FI", folder)
    assert not report.ok
    assert [set(files.splits) for files in report.across_splits] == [{"train", "test"}]
    assert report.contradictions == ()
    status, output = run("FI", "--data", folder)
    assert status == 1
    assert "identical files in different splits: 1\n  2 files in awe (" in output


def test_a_class_without_training_images_is_found(folder, run):
    (folder / "FI/train/fear/train.jpg").unlink()
    report = check_dataset("FI", folder)
    assert report.empty_classes == ("fear",)
    status, output = run("FI", "--data", folder)
    assert status == 1
    assert "classes without a training image: 1\n  fear" in output


def test_a_copy_of_the_test_images_alone_is_judged_by_these(folder):
    for split in ("train", "val"):
        for image in (folder / "FI" / split).rglob("*.jpg"):
            image.unlink()
    assert check_dataset("FI", folder).ok


def test_what_the_reader_left_out_is_noted(tmp_path, run):
    rows = ["'','Amusement','Anger','Awe','Content','Disgust','Excitement','Fear','Sad'"]
    for k in range(8):
        name = f"abstract_{k:04}.jpg"
        write_image(tmp_path / "testImages_abstract" / name)
        rows.append(f"'{name}'," + ",".join("9" if i in (k, 3) else "1" for i in range(8)))
    rows[1] = rows[1].replace("9", "10", 1)  # no longer a tie
    (tmp_path / "ABSTRACT_groundTruth.csv").write_text("\n".join(rows))
    report = check_dataset("Abstract", tmp_path)
    assert any(note.startswith("2 of the 8 paintings") for note in report.notes)
    assert "2 images; the published number for Abstract is 228" in report.notes
    assert "note: 2 of the 8 paintings" in run("Abstract", "--data", tmp_path)[1]


def test_the_json_has_everything(folder, run):
    write_image(folder / "FI/train/awe/a.jpg", "same")
    write_image(folder / "FI/test/fear/b.jpg", "same")
    status, output = run("FI", "--data", folder, "--json")
    found = json.loads(output)
    assert status == 1
    assert found["ok"] is False
    assert found["images"] == 26
    assert {"split": "train", "leaf": "awe", "images": 2} in found["counts"]
    assert found["contradictions"] == found["across_splits"] == [found["equal_files"][0]["sha256"]]
    assert len(found["equal_files"][0]["images"]) == 2


def test_long_lists_are_cut_in_print(folder, run):
    for number in range(14):
        (folder / f"FI/train/awe/{number}.jpg").write_text(f"no image {number}")
    output = run("FI", "--data", folder)[1]
    assert "files that cannot be read: 14" in output
    assert "  and 4 more; --json shows all" in output


def test_a_hierarchy_comes_from_a_file_or_by_name(tmp_path, run):
    tree = Hierarchy.from_nested({"good": ["joy"], "bad": ["anger"]}, name="mine")
    tree.save(tmp_path / "mine.json")
    data = write_images(tmp_path / "data", ["joy/1.jpg", "anger/1.jpg"])
    status, output = run("folder", "--data", data, "--hierarchy", tmp_path / "mine.json")
    assert status == 0
    assert "2 images, hierarchy mine" in output
    eight = write_images(tmp_path / "eight", [f"{leaf}/1.jpg" for leaf in TREE.leaves])
    assert "hierarchy mikels8" in run("folder", "--data", eight, "--hierarchy", "mikels8")[1]
