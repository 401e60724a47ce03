"""The contract of a dataset reader, which every registered reader is tested against."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from dataset_trees import write_image, write_images
from oasis_folder import write_oasis

from mdan_zoo.datasets.registry import DATASETS, choose_hierarchy, read_dataset
from mdan_zoo.datasets.splits import image_names
from mdan_zoo.errors import DatasetError, InputError
from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.hierarchy.tree import Hierarchy

MIKELS = get_hierarchy("mikels8").leaves
PANDA = get_hierarchy("panda6").leaves
CUSTOM = Hierarchy.from_nested({"good": ["joy", "calm"], "bad": ["fear", "anger"]})


def write_artphoto(folder: Path) -> None:
    write_images(folder / "testImages_artphoto", [f"{leaf}_0001.jpg" for leaf in MIKELS])


def write_abstract(folder: Path) -> None:
    columns = ["Amusement", "Anger", "Awe", "Content", "Disgust", "Excitement", "Fear", "Sad"]
    lines = ["''," + ",".join(f"'{column}'" for column in columns)]
    for row in range(8):
        name = f"abstract_000{row}.jpg"
        write_image(folder / "testImages_abstract" / name)
        votes = ",".join(str(9 * (row == column) + 1) for column in range(8))
        lines.append(f"'{name}',{votes}")
    (folder / "ABSTRACT_groundTruth.csv").write_text("\n".join(lines))


def write_iaps(folder: Path) -> None:
    write_images(folder, [f"{number}.jpg" for number in range(8)])
    rows = [f"{number}.jpg,{leaf}" for number, leaf in enumerate(MIKELS)]
    (folder / "labels.csv").write_text("\n".join(["name,label", *rows]))


def write_emoset(folder: Path) -> None:
    for split in ("train", "val", "test"):
        names = {leaf: f"image/{leaf}/{split}.jpg" for leaf in MIKELS}
        write_images(folder, list(names.values()))
        rows = [[leaf, name, "annotation.json"] for leaf, name in names.items()]
        (folder / f"{split}.json").write_text(json.dumps(rows))


def write_emotion6(folder: Path) -> None:
    emotions = ("anger", "disgust", "fear", "joy", "sadness", "surprise", "neutral")
    header = ["[image_filename]", "[valence]", "[arousal]", *(f"[prob. {e}]" for e in emotions)]
    lines = ["\t".join(header)]
    for emotion in emotions[:-1]:
        write_image(folder / "images" / emotion / "1.jpg")
        shares = ["0.7" if e == emotion else "0.05" for e in emotions]
        lines.append("\t".join([f"{emotion}/1.jpg", "4.5", "5.5", *shares]))
    (folder / "ground_truth.txt").write_text("\n".join(lines))


def write_table(folder: Path) -> None:
    write_images(folder, [f"{leaf}.jpg" for leaf in CUSTOM.leaves])
    rows = [f"{leaf}.jpg,{leaf}" for leaf in CUSTOM.leaves]
    (folder / "table.csv").write_text("\n".join(["image,label", *rows]))


def write_twitter1(folder: Path) -> None:
    write_images(folder / "images", ["a.jpg", "b.jpg"])
    (folder / "ground_truth").mkdir()
    for number in ("three", "four", "five"):
        (folder / "ground_truth" / f"twitter_{number}_agrees.txt").write_text("a.jpg 1\nb.jpg 0\n")


def write_mvsa_single(folder: Path) -> None:
    polarities = ("positive", "neutral", "negative")
    write_images(folder / "data", [f"{number}.jpg" for number in (1, 2, 3)])
    rows = [f"{number}\tneutral,{label}" for number, label in enumerate(polarities, start=1)]
    (folder / "labelResultAll.txt").write_text("\n".join(["ID\ttext,image", *rows]))


def write_gaped(folder: Path) -> None:
    for category in ("A", "H", "N", "P", "Sn", "Sp"):
        write_image(folder / category / f"{category}001.jpg")
        rows = ["Item\tValence\tArousal", f"{category}001.bmp\t51.5\t(9.1)\t20.0\t(8.2)"]
        (folder / f"{category}_with SD.txt").write_text("\n".join(rows))


def class_folders(pattern: str, leaves: tuple[str, ...]):
    def write(folder: Path) -> None:
        write_images(folder, [pattern.format(leaf) for leaf in leaves])

    return write


WRITERS = {
    "WEBEmo": class_folders("train/{}/1.jpg", get_hierarchy("webemo25").leaves),
    "Emotion-6": class_folders("images/{}/query/1/1.jpg", PANDA),
    "UnBiasedEmo": class_folders("images/{}/dog/1.jpg", PANDA),
    "FI": class_folders("emotion_dataset/{}/1.jpg", MIKELS),
    "ArtPhoto": write_artphoto,
    "Abstract": write_abstract,
    "IAPSsubset": write_iaps,
    "EmoSet-118K": write_emoset,
    "Emotion6": write_emotion6,
    "OASIS": write_oasis,
    "Twitter-I": write_twitter1,
    "MVSA-Single": write_mvsa_single,
    "GAPED": write_gaped,
    "folder": class_folders("{}/1.jpg", CUSTOM.leaves),
    "table": write_table,
}


def test_every_reader_is_tested():
    assert WRITERS.keys() == DATASETS.keys()


@pytest.mark.parametrize("name", WRITERS)
class TestReader:
    """What every reader does, on a tiny dataset in its layout."""

    @pytest.fixture
    def hierarchy(self, name):
        return choose_hierarchy(name, None if DATASETS[name].hierarchy else CUSTOM)

    @pytest.fixture
    def folder(self, name, tmp_path):
        folder = tmp_path / "Data Set é"
        folder.mkdir()
        WRITERS[name](folder)
        return folder

    def test_samples_have_labels_of_one_path_and_a_distribution(self, name, folder, hierarchy):
        samples = read_dataset(name, folder, hierarchy)
        leaves = {sample.labels[-1] for sample in samples}
        assert leaves == set(range(len(hierarchy.leaves)))
        for sample in samples:
            assert sample.labels == hierarchy.leaf_paths[sample.labels[-1]]
            assert len(sample.distribution) == len(hierarchy.leaves)
            assert math.isclose(sum(sample.distribution), 1)
            assert min(sample.distribution) >= 0
            assert sample.split in ("", "train", "val", "test")

    def test_every_image_is_a_file_named_below_the_folder(self, name, folder, hierarchy):
        samples = read_dataset(name, folder, hierarchy)
        names = image_names(samples, folder)
        assert len(set(names)) == len(samples)
        assert sorted(folder / image for image in names) == sorted(folder.rglob("*.jpg"))

    def test_every_sample_has_a_group(self, name, folder, hierarchy):
        samples = read_dataset(name, folder, hierarchy)
        assert all(sample.group for sample in samples)
        assert len({sample.group for sample in samples}) > 1

    def test_reading_twice_gives_the_same(self, name, folder, hierarchy):
        samples = read_dataset(name, folder, hierarchy)
        assert samples == read_dataset(name, str(folder), hierarchy)

    def test_an_empty_folder_is_refused_with_what_is_needed(self, name, tmp_path, hierarchy):
        (tmp_path / "empty").mkdir()
        with pytest.raises(DatasetError, match="expected") as refused:
            read_dataset(name, tmp_path / "empty", hierarchy)
        assert str(tmp_path / "empty") in str(refused.value)

    def test_a_missing_folder_is_refused(self, name, tmp_path, hierarchy):
        with pytest.raises(DatasetError) as refused:
            read_dataset(name, tmp_path / "missing", hierarchy)
        assert str(tmp_path / "missing") in str(refused.value)

    def test_another_layout_is_refused(self, name, tmp_path, hierarchy):
        write_images(tmp_path / "other", ["2024/holiday/1.jpg", "2024/holiday/2.jpg"])
        with pytest.raises(DatasetError) as refused:
            read_dataset(name, tmp_path / "other", hierarchy)
        assert str(tmp_path / "other") in str(refused.value)

    def test_an_unknown_option_is_refused(self, name, folder, hierarchy):
        with pytest.raises(InputError, match=f"'{name}' has no option 'softness'; its options: "):
            read_dataset(name, folder, hierarchy, softness=1.0)
