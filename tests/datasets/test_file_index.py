"""The file index: one pass over the bytes for checks, duplicates and lists of training images."""

from __future__ import annotations

import hashlib
import sys
from collections import Counter
from pathlib import Path

import pytest
from dataset_trees import write_image
from tiny_model import OWN_TREE, write_own_data, write_tiny_model

from mdan_zoo.datasets.check import check_dataset
from mdan_zoo.datasets.file_index import FileIndex
from mdan_zoo.datasets.readers.folder import read_folder
from mdan_zoo.datasets.split_methods import make_split
from mdan_zoo.errors import DatasetError
from mdan_zoo.evaluation.leakage import TRAINED_ON_FILE, save_trained_on
from mdan_zoo.training.dataset import check_images

_OPENED: Counter[str] = Counter()


def _count(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and str(arguments[0]).endswith(".jpg"):
        _OPENED[str(arguments[0])] += 1


sys.addaudithook(_count)  # cannot be removed again, so there is one for all tests


@pytest.fixture
def opened():
    """Return how often each image has been opened in this test."""
    _OPENED.clear()
    return _OPENED


@pytest.fixture
def images(tmp_path):
    """Six images in four classes, two of them identical, and one that is no image."""
    folder = write_own_data(tmp_path / "data", images=2)
    (folder / "awe" / "copy.jpg").write_bytes((folder / "awe" / "0.jpg").read_bytes())
    (folder / "calm" / "page.jpg").write_text("<html>")
    return sorted(folder.rglob("*.jpg"))


def test_a_file_is_described(images):
    files = {file.path.name: file for file in FileIndex(decode=True).read(images)}
    copy = files["copy.jpg"]
    assert copy.problem == ""
    assert copy.sha256 == hashlib.sha256(copy.path.read_bytes()).hexdigest()
    assert files["page.jpg"].problem.startswith(f"{files['page.jpg'].path}: it is an HTML page")
    assert not FileIndex().read([files["page.jpg"].path])[0].problem, "it was decoded"


def test_a_missing_file_is_a_problem_and_no_duplicate(tmp_path):
    missing = tmp_path / "1.jpg"
    (file,) = FileIndex().read([missing])
    assert file.sha256 == ""
    assert file.problem == f"{missing}: No such file or directory"
    assert FileIndex().duplicates([missing, tmp_path / "2.jpg"]) == []
    with pytest.raises(DatasetError, match=r"1\.jpg: No such file"):
        FileIndex().sha256s([missing])


def test_duplicates_are_files_of_equal_content(images):
    (same,) = FileIndex().duplicates(images)
    assert [path.name for path in same] == ["0.jpg", "copy.jpg"]


def test_files_of_a_size_that_no_other_has_are_not_read(tmp_path, opened):
    for length in range(1, 5):
        (tmp_path / f"{length}.jpg").write_bytes(bytes(length))
    opened.clear()
    assert FileIndex().duplicates(sorted(tmp_path.iterdir())) == []
    assert not opened


def test_a_dataset_check_opens_every_image_once(tmp_path, opened):
    for name in ("train/awe/a", "train/awe/b", "test/awe/c"):
        write_image(tmp_path / "FI" / f"{name}.jpg", "same")
    opened.clear()
    report = check_dataset("FI", tmp_path)
    assert len(report.equal_files) == 1
    assert set(opened.values()) == {1}
    assert len(opened) == 3


def test_split_preflight_check_and_list_of_training_images_open_every_image_once(tmp_path, opened):
    """What a training does with the files before and after it trains on them."""
    folder = write_own_data(tmp_path / "data")
    (folder / "awe" / "copy.jpg").write_bytes((folder / "awe" / "0.jpg").read_bytes())
    weights = write_tiny_model(tmp_path / "model.safetensors")
    samples = read_folder(folder, OWN_TREE)
    images = [sample.image for sample in samples]
    opened.clear()
    files = FileIndex(decode=True)
    make_split("folder", samples, folder, "80/20", files=files)
    assert opened, "some have one size, as the copy has"
    check_images(samples, files)
    for _ in range(2):  # as for the folds of a cross-validation
        save_trained_on(weights, images, folder, files=files)
    assert opened == Counter({str(image): 1 for image in images})
    assert str(Path("awe") / "copy.jpg") in (tmp_path / TRAINED_ON_FILE).read_text()
