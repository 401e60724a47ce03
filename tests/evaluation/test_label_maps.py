"""Label maps: other names for the classes of the model."""

from __future__ import annotations

import pytest
from dataset_trees import write_images

from mdan_zoo.errors import InputError
from mdan_zoo.evaluation import find_samples
from mdan_zoo.evaluation.levels import load_label_map
from mdan_zoo.hierarchy.builtin import get_hierarchy

CIRCUMPLEX, MIKELS = get_hierarchy("circumplex4"), get_hierarchy("mikels8")
WEBEMO, PANDA = get_hierarchy("webemo25"), get_hierarchy("panda6")
HAPPY = ["happy/1.jpg", "happy/2.jpg", "scared/3.jpg", "other/4.jpg", "Sad/5.jpg"]
MAP = {"happy": "positive", "scared": "negative", "SAD": "negative", "other": ""}


def classes_of(samples, hierarchy):
    """Return the names of the classes of every image, coarse to fine, by the name of the file."""
    return {
        sample.image.name: [hierarchy.levels[i][k] for i, k in enumerate(sample.labels)]
        for sample in samples
    }


def write_table(folder, header, *rows):
    write_images(folder, [row.split(",")[0] for row in rows])
    (folder / "table.csv").write_text("\n".join([header, *rows]))
    return folder


def test_a_label_map_renames_and_leaves_out(tmp_path):
    folder = write_images(tmp_path, HAPPY)
    samples, source = find_samples("folder", folder, MIKELS, label_map=MAP)
    assert classes_of(samples, MIKELS) == {
        "1.jpg": ["positive"],
        "2.jpg": ["positive"],
        "3.jpg": ["negative"],
        "5.jpg": ["negative"],
    }
    assert source.left_out == (("other", 1),)
    names = {"happy": "positive", "scared": "negative", "Sad": "negative", "other": ""}
    assert dict(source.classes) == names


def test_a_label_map_may_repeat_and_exchange_names_of_the_model(tmp_path):
    write_images(tmp_path, ["awe/1.jpg", "fear/2.jpg", "disgust/3.jpg", "anger/4.jpg"])
    renamed = {"awe": "contentment", "fear": "disgust", "disgust": "fear", "happy": "amusement"}
    samples, _ = find_samples("folder", tmp_path, MIKELS, label_map=renamed)
    assert classes_of(samples, MIKELS) == {
        "1.jpg": ["positive", "contentment"],
        "2.jpg": ["negative", "disgust"],
        "3.jpg": ["negative", "fear"],
        "4.jpg": ["negative", "anger"],
    }


def test_a_label_map_of_a_published_dataset(tmp_path):
    names = [f"images/{name}/dog/{name}.jpg" for name in PANDA.leaves]
    folder = write_images(tmp_path, names)
    given = {"joy": "amusement", "love": "contentment", "surprise": ""}
    samples, source = find_samples("UnBiasedEmo", folder, MIKELS, label_map=given)
    found = classes_of(samples, MIKELS)
    assert found.keys() == {f"{name}.jpg" for name in PANDA.leaves if name != "surprise"}
    assert found["love.jpg"] == ["positive", "contentment"]
    assert found["fear.jpg"] == ["negative", "fear"]
    assert source.left_out == (("surprise", 1),)


@pytest.mark.parametrize(
    ("dataset", "given", "level", "message"),
    [
        ("folder", {"happy": "positiv"}, None, "has 'positiv', .* of the model .*'positive'"),
        (
            "folder",
            {"happy": "awe"},
            "polarity",
            "'awe', which is no class .*: available: positive",
        ),
        (
            "folder",
            {"happy": "awe", "Sad": "negative"},
            None,
            "of several levels of the model, awe",
        ),
        ("folder", {"hapy": "positive"}, None, "none of the names in the label map, hapy; it has"),
        ("UnBiasedEmo", {"joi": "positive"}, None, "'joi', .* of UnBiasedEmo .*did you mean 'joy'"),
    ],
)
def test_wrong_label_maps_are_refused(tmp_path, dataset, given, level, message):
    with pytest.raises(InputError, match=message):
        find_samples(dataset, write_images(tmp_path, HAPPY), MIKELS, level=level, label_map=given)


def test_a_name_of_several_levels_needs_the_level(tmp_path):
    folder = write_images(tmp_path, ["down/1.jpg", "wow/2.jpg"])
    given = {"down": "sadness", "wow": "surprise"}
    with pytest.raises(InputError, match=r"the levels 'primary' and 'secondary'; give .*--level"):
        find_samples("folder", folder, WEBEMO, label_map=given)
    samples, _ = find_samples("folder", folder, WEBEMO, label_map=given, level="primary")
    assert {len(sample.labels) for sample in samples} == {2}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("map.toml", 'happy = "positive"\n"very sad" = "negative"\nother = ""\n'),
        ("map.csv", "label,class\nhappy,positive\nvery sad,negative\nother,\n"),
        ("map.json", '{"happy": "positive", "very sad": "negative", "other": ""}'),
    ],
)
def test_a_label_map_is_a_file(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    expected = {"happy": "positive", "very sad": "negative", "other": ""}
    assert load_label_map(tmp_path / name) == expected


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("map.toml", "happy = 1", 'entries such as happiness = "positive"'),
        ("map.toml", "happy", r"map\.toml: not valid TOML"),
        ("map.json", '{"a": "x", "a": "y"}', "the key 'a' is given twice"),
        ("map.json", '["a"]', "entries such as"),
        ("map.csv", "a,b\nhappy,positive\n", "has the columns a, b; expected label,class"),
        ("map.csv", "label,class\na,x\na,y\n", "has several rows of a"),
        ("map.txt", "", r"must end in \.toml, \.json or \.csv"),
    ],
)
def test_wrong_files_are_refused(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        load_label_map(tmp_path / name)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"cannot read the label map .*gone\.toml: No such file"):
        load_label_map(tmp_path / "gone.toml")


def test_names_in_a_label_map_ignore_case(tmp_path):
    write_table(tmp_path, "image,label", "1.jpg,Good", "2.jpg,good", "3.jpg,bad")
    label_map = {"good": "positive", "bad": "negative"}
    samples, _ = find_samples("table", tmp_path, MIKELS, level="polarity", label_map=label_map)
    expected = {"1.jpg": "positive", "2.jpg": "positive", "3.jpg": "negative"}
    assert classes_of(samples, MIKELS) == {name: [c] for name, c in expected.items()}
