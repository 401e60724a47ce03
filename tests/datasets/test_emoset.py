"""EmoSet-118K as published and in the variants that circulate."""

from __future__ import annotations

import json

import pytest
from dataset_trees import leaves_of, write_image

from mdan_zoo.datasets.readers.emoset import read_emoset
from mdan_zoo.errors import DatasetError
from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.hierarchy.tree import Hierarchy

TREE = get_hierarchy("mikels8")
IDS = {name: i for i, name in enumerate(TREE.leaves)}
NESTED = {
    "emotion": {"label2idx": IDS, "idx2label": {str(i): name for name, i in IDS.items()}},
    "brightness": {"label2idx": {"0.0": 0}, "idx2label": {"0": 0.0}},
}
SPLITS = {"train": 1, "val": 2, "test": 3}


def write_emoset(folder, *, elements=4, info=NESTED, annotations=True):
    """Write an image of every emotion in every split."""
    for split, number in SPLITS.items():
        rows = []
        for emotion in TREE.leaves:
            name = f"{emotion}_{number:05}"
            write_image(folder / f"image/{emotion}/{name}.jpg")
            row = [
                emotion,
                name,
                f"image/{emotion}/{name}.jpg",
                f"annotation/{emotion}/{name}.json",
            ]
            rows.append(row if elements == 4 else [row[0], *row[2:]])
            if annotations:
                path = folder / row[3]
                path.parent.mkdir(parents=True, exist_ok=True)
                # The published annotations leave out the attributes that an image lacks.
                path.write_text(json.dumps({"image_id": name, "emotion": emotion}))
        (folder / f"{split}.json").write_text(json.dumps(rows))
    if info is not None:
        (folder / "info.json").write_text(json.dumps(info))
    return folder


@pytest.mark.parametrize("elements", [3, 4])
@pytest.mark.parametrize("info", [NESTED, {"label2idx": IDS}, None])
@pytest.mark.parametrize("annotations", [True, False])
def test_every_variant_is_read(tmp_path, elements, info, annotations):
    folder = write_emoset(tmp_path, elements=elements, info=info, annotations=annotations)
    samples = read_emoset(folder, TREE)
    assert leaves_of(samples, TREE) == {
        f"{emotion}/{emotion}_{number:05}.jpg": emotion
        for emotion in TREE.leaves
        for number in SPLITS.values()
    }
    assert [sample.split for sample in samples] == ["train"] * 8 + ["val"] * 8 + ["test"] * 8
    assert [sample.labels[-1] for sample in samples[:8]] == list(IDS.values())


def test_other_ids_are_refused(tmp_path):
    alphabetical = {name: i for i, name in enumerate(sorted(IDS))}
    write_emoset(tmp_path, info={"emotion": {"label2idx": alphabetical}})
    with pytest.raises(DatasetError, match=r"info\.json must give the emotions the ids"):
        read_emoset(tmp_path, TREE)


def test_labels_go_by_name_in_a_hierarchy_of_another_order(tmp_path):
    tree = Hierarchy.from_nested(sorted(IDS))
    samples = read_emoset(write_emoset(tmp_path), tree)
    assert all(sample.image.parent.name == tree.leaves[sample.labels[-1]] for sample in samples)


def change(folder, name, value):
    (folder / name).write_text(value if isinstance(value, str) else json.dumps(value))


ROW = ["awe", "image/awe/awe_00001.jpg", "annotation/awe/awe_00001.json"]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("info.json", [], "must give the emotions the ids .* not None"),
        ("info.json", "{", r"info\.json is not valid JSON: "),
        ("val.json", "[[", r"val\.json is not valid JSON: "),
        ("val.json", [ROW[:2]], r"val\.json, row 1 must be \[emotion, image, annotation\]"),
        ("val.json", [[1, *ROW[1:]]], r"row 1 must be .*, not \[1, "),
        ("val.json", {"awe": 1}, r"row 1 must be .*, not 'awe'"),
        ("val.json", [["awee", *ROW[1:]]], "row 1: 'awee' is not a leaf .* did you mean 'awe'"),
        ("val.json", [ROW], r"awe_00001\.jpg twice, as awe$"),
        ("val.json", [["fear", *ROW[1:]]], r"awe_00001\.jpg twice, as awe and fear"),
        ("val.json", [["awe", "image/awe/x.jpg", ""]], r"1 of the 17 images .*x\.jpg"),
    ],
)
def test_wrong_files_are_reported(tmp_path, name, value, message):
    change(write_emoset(tmp_path), name, value)
    with pytest.raises(DatasetError, match=message):
        read_emoset(tmp_path, TREE)


def test_missing_images_are_counted_and_named(tmp_path):
    write_emoset(tmp_path)
    for image in (tmp_path / "image" / "fear").iterdir():
        image.unlink()
    (tmp_path / "image" / "awe" / "awe_00003.jpg").unlink()
    with pytest.raises(DatasetError, match=r"4 of the 24 images .*fear_00001\.jpg, .* and 1 more"):
        read_emoset(tmp_path, TREE)


def test_a_missing_split_is_reported(tmp_path):
    (write_emoset(tmp_path) / "val.json").unlink()
    with pytest.raises(
        DatasetError, match=r"it contains annotation/, image/, info\.json, .*expected"
    ):
        read_emoset(tmp_path, TREE)
