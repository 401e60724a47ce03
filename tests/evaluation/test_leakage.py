"""The list of what weights were trained on, and what is counted by it."""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path

import pytest
from dataset_trees import write_images

from mdan_zoo.datasets.splits import get_split, list_splits, split_hashes
from mdan_zoo.evaluation.leakage import TRAINED_ON_FILE, count_trained_on, save_trained_on
from mdan_zoo.zoo.factory import read_released

FI, OASIS = (Path(__file__).parents[3] / "shared" / "data" / name for name in ("fi", "oasis"))


@pytest.fixture
def images(tmp_path):
    folder = write_images(tmp_path / "data", [f"joy/{number}.jpg" for number in range(5)])
    return [folder / f"joy/{number}.jpg" for number in range(5)]


@pytest.fixture
def weights(tmp_path):
    """For a list the content of a weight file is nothing but its hash."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.safetensors").write_bytes(b"weights")
    return tmp_path / "run" / "model.safetensors"


def count(weights, images):
    return count_trained_on(weights, "folder", images, [path.name for path in images])


def test_images_are_known_by_their_content(weights, images, tmp_path):
    assert count(weights, images) is None, "there is no list yet"
    save_trained_on(weights, images[:3], tmp_path / "data")
    assert count(weights, images) == 3
    assert count(weights, images[3:]) == 0
    copy = shutil.copy(images[0], tmp_path / "other.jpg")
    new = shutil.copy(images[4], tmp_path / "0.jpg")
    assert count(weights, [tmp_path / copy, tmp_path / new]) == 1
    lines = (weights.parent / TRAINED_ON_FILE).read_text().splitlines()
    sha256 = hashlib.sha256(images[1].read_bytes()).hexdigest()
    assert f"{sha256}  joy/1.jpg" in lines
    assert len(lines) == 1 + 3


def test_a_list_of_other_weights_is_not_believed(weights, images, tmp_path):
    save_trained_on(weights, images, tmp_path / "data")
    weights.write_bytes(b"other weights")
    assert count(weights, images) is None
    (weights.parent / TRAINED_ON_FILE).write_bytes(b"\xff")
    assert count(weights, images) is None


def test_what_a_start_was_trained_on_counts_too(weights, images, tmp_path):
    save_trained_on(weights, images[:2], tmp_path / "data")
    (tmp_path / "second").mkdir()
    second = tmp_path / "second" / "model.safetensors"
    second.write_bytes(b"second")
    save_trained_on(second, images[2:4], tmp_path / "data", init=weights)
    assert count(second, images) == 4
    weights.unlink()
    (weights.parent / TRAINED_ON_FILE).unlink()
    weights.write_bytes(b"weights")
    save_trained_on(second, images[2:4], tmp_path / "data", init=weights)
    assert count(second, images) == 2
    assert count(second, images[4:]) is None, "the list of the start is missing"
    third = tmp_path / "third" / "model.safetensors"
    third.parent.mkdir()
    third.write_bytes(b"third")
    save_trained_on(third, images[4:5], tmp_path / "data", init=second)
    assert count(third, images) == 3
    assert count(third, images[:2]) is None


def test_what_a_released_start_was_trained_on_counts_too(images, tmp_path):
    """mdan_oasis4 learned "Acorns 1", but not "Another 1", which OASIS does not have."""
    files = tmp_path / "oasis" / "images"
    files.mkdir(parents=True)
    for image, name in zip(images, ("Acorns 1", "Acorns 2", "Another 1"), strict=False):
        shutil.copy(image, files / f"{name}.jpg")
    new, known, other = (files / f"{n}.jpg" for n in ("Another 1", "Acorns 1", "Acorns 2"))
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"weights")
    start = {"init": read_released("mdan_oasis4").path, "others": [new, known, other]}
    for dataset, expected in (("OASIS", 3), ("folder", 1)):
        save_trained_on(weights, [new], files.parent, dataset=dataset, **start)
        assert count(weights, [new, known, other]) == expected


@pytest.mark.parametrize("name", list_splits())
def test_the_package_has_hashes_of_what_the_released_models_learned_from(name, images):
    split = get_split(name)
    lines = [line.partition("  ") for line in split_hashes(name)]
    trained = [image for part, names in split.parts if part != "test" for image in names]
    assert sorted(image for _, _, image in lines) == sorted(f"{split.folder}/{n}" for n in trained)
    assert all(re.fullmatch("[0-9a-f]{64}", sha256) for sha256, _, _ in lines)
    model = "mdan_oasis4" if name == "oasis661" else "mdan_fi8_lite0"
    assert count(read_released(model).path, images) == 0


JOINT = pytest.mark.parametrize("model", ["mdan_fi8_lite0", "flat_fi8_lite0"])
FI_NAME, OASIS_NAME = "emotion_dataset/awe/awe_0000.jpg", "images/Acorns 1.jpg"


@pytest.mark.slow
@JOINT
def test_a_model_of_two_datasets_knows_the_images_of_both_by_their_names(model, tmp_path):
    """Copies of FI in circulation are recompressed, and both may be resized."""
    released = read_released(model).path
    held_out = [f"emotion_dataset/{get_split('fi17460').images('test')[0]}"]
    names = [FI_NAME, OASIS_NAME, "images/new.jpg", *held_out]
    folder = write_images(tmp_path / "data", names)
    for dataset, known in (("FI", [FI_NAME]), ("OASIS", [OASIS_NAME]), ("EmoSet-118K", [])):
        for group in (known, [name for name in names if name not in known]):
            found = count_trained_on(released, dataset, [folder / name for name in group], group)
            assert found == (len(known) if group == known else 0), (dataset, group)


@pytest.mark.slow
@JOINT
def test_the_hashes_of_both_datasets_go_on_to_what_starts_from_it(model, tmp_path):
    names = {"FI": FI_NAME, "OASIS": OASIS_NAME}
    folders = {name: write_images(tmp_path / name, [image]) for name, image in names.items()}
    others = [folders[name] / image for name, image in names.items()]
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"weights")
    save_trained_on(weights, [], folders, init=read_released(model).path, others=others)
    _, *lines = (tmp_path / TRAINED_ON_FILE).read_text(encoding="utf-8").splitlines()
    known = {*split_hashes("fi17460"), *split_hashes("oasis661_fold0")}
    assert len(known) == 14841 + 531
    assert known < set(lines)
    assert {line.partition("  ")[2] for line in set(lines) - known} == {FI_NAME, OASIS_NAME}
    assert count_trained_on(weights, "FI", others, list(names.values())) == 2


@JOINT
@pytest.mark.skipif(not FI.is_dir() or not OASIS.is_dir(), reason="no images at ../shared")
def test_images_of_both_datasets_are_known_in_any_folder(model, images, tmp_path):
    copies = []
    for folder, split in ((FI, "fi17460"), (OASIS, "oasis661_fold0")):
        for line in split_hashes(split)[::300]:
            copies.append(tmp_path / f"{len(copies)}.jpg")
            shutil.copy(folder / line.partition("  ")[2], copies[-1])
    assert len(copies) == 50 + 2
    assert count(read_released(model).path, [*images, *copies]) == len(copies)


@pytest.mark.skipif(not OASIS.is_dir(), reason="the OASIS images are not at ../shared")
def test_images_of_oasis_are_known_in_any_folder(images, tmp_path):
    split = [line.partition("  ") for line in split_hashes("oasis661")]
    for sha256, _, name in split[::30]:
        assert hashlib.sha256((OASIS / name).read_bytes()).hexdigest() == sha256
    copies = [tmp_path / f"{n}.jpg" for n in range(3)]
    for copy, (_, _, name) in zip(copies, split, strict=False):
        shutil.copy(OASIS / name, copy)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"weights")
    released = read_released("mdan_oasis4").path
    save_trained_on(weights, images[:1], tmp_path / "data", init=released, dataset="folder")
    assert count(released, [*copies, *images]) == 3
    assert count(weights, [*copies, *images]) == 3 + 1
    assert count(weights, images[1:]) == 0
