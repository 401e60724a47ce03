"""Figures: complete files, nothing that overlaps, and no global state."""

from __future__ import annotations

import argparse
import dataclasses
import io
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from xml.etree import ElementTree

import matplotlib.image
import numpy as np
import pytest
from drawn import assert_nothing_overlaps, texts
from PIL import Image
from random_weights import save_random_weights
from tiny_mdan import tiny_mdan

from mdan_zoo.cli.explain import _as_level, _stem, add_parser
from mdan_zoo.cli.main import main
from mdan_zoo.errors import ImageError, InputError, UnknownNameError
from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.inference.explanation import explain
from mdan_zoo.inference.prediction import Prediction
from mdan_zoo.inference.predictor import Predictor
from mdan_zoo.plots import (
    contact_sheet,
    figures,
    plot,
    plot_contact_sheet,
)
from mdan_zoo.plots.contact_sheet import MAX_THUMBNAILS
from mdan_zoo.plots.results import LEGEND, _even_rows

LONG = Hierarchy.from_nested(
    {
        "a name that nobody would give to a class of emotions": ["W" * 60, "i" * 200],
        "$\\frac{broken formula$": ["short", "and the last of them, which is long again"],
    },
    "long",
    level_names=("a level with a name that is much too long", "x"),
)
TREES = {"oasis": get_hierarchy("circumplex4"), "25": get_hierarchy("webemo25"), "long": LONG}


@pytest.fixture(scope="module", params=TREES)
def explanation(request, photos, tmp_path_factory):
    path = tmp_path_factory.mktemp("tree") / "weights.safetensors"
    save_random_weights(path, TREES[request.param])
    return explain(photos[6], model=Predictor(checkpoint=path, device="cpu"))


@pytest.fixture(scope="module")
def oasis(predictor, photos):
    return explain(photos[1], model=predictor)


def png(figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


# Explanations and predictions


@pytest.mark.slow
def test_nothing_overlaps_at_any_hierarchy(explanation):
    tree = explanation.prediction.hierarchy
    assert_nothing_overlaps(plot(explanation))
    assert_nothing_overlaps(plot(explanation, level=tree.depth - 1))
    assert_nothing_overlaps(plot(explanation, label=tree.leaves[0]))
    assert_nothing_overlaps(plot(explanation.prediction))


def test_the_figure_says_what_it_shows(oasis):
    said = texts(plot(oasis))
    assert "photo1.png" in said
    assert f"{oasis.prediction}   (mdan_oasis4)" in said
    assert "image, 500 x 350" in said
    for level in oasis.prediction.levels:
        assert f"{level.name}: attention" in said
        assert f"{level.label} {level.score:.2f}" in said
        for label, score in level.scores.items():
            assert label in said
            assert f"{score:.2f}" in said
    assert f"L-CAM of children of {oasis.levels[1].parent}" in said
    assert said[-2].startswith("Maps: yellow is high, violet is low.")
    assert said[-2].endswith("features are multiplied by 1 + M.")  # neither is shortened
    assert said[-1] == f"Hierarchy: {LEGEND}."
    assert texts(plot(oasis.prediction))[-1] == LEGEND
    for figure in (
        plot(oasis, level="quadrant"),
        plot(oasis, label="serene"),
    ):
        assert texts(figure)[-2:] == said[-2:]


def test_without_attention_the_class_activation_maps_of_every_level_are_drawn(oasis):
    legend = tiny_mdan(2, lcam="off").map_legend
    assert legend in tiny_mdan(2).map_legend
    levels = [dataclasses.replace(maps, attention=None, parent=None) for maps in oasis.levels]
    figure = plot(dataclasses.replace(oasis, levels=tuple(levels), legend=legend))
    assert_nothing_overlaps(figure)
    said = texts(figure)
    assert not any("attention" in text.lower() for text in said)
    for level in oasis.prediction.levels:
        assert f"{level.name}: class activation map" in said


@pytest.mark.parametrize("name", ["mdan_fi8_lite0", "flat_fi8_lite0"])
def test_ratings_are_below_the_classes_and_not_shortened(name, photos):
    explanation = explain(photos[1], model=Predictor(name, device="cpu"))
    prediction = explanation.prediction
    ratings = ", ".join(map(str, prediction.dimensions))
    assert ratings.count("(1 to 7)") == 2
    for result in (prediction, explanation):
        figure = plot(result)
        assert ratings in texts(figure)
        assert f"{dataclasses.replace(prediction, dimensions=())}   ({name})" in texts(figure)
        assert_nothing_overlaps(figure)


def test_a_level_shows_all_its_classes_and_a_class_itself(oasis):
    def class_panels(figure):
        return [axes for axes in figure.axes if len(axes.images) == 2]  # an image and a map

    assert len(class_panels(plot(oasis))) == 4
    panels = class_panels(plot(oasis, level="quadrant"))
    tops = [round(axes.get_position().y1, 3) for axes in panels]  # attention, and four classes
    assert [tops.count(top) for top in dict.fromkeys(tops)] == [1, 4]
    assert [len(row) for row in _even_rows(range(25))] == [6, 6, 6, 7]
    attention, serene = class_panels(plot(oasis, label="serene"))
    for axes, label in ((attention, None), (serene, "serene")):
        np.testing.assert_array_equal(axes.images[1].get_array(), oasis.find_map("quadrant", label))


def test_unknown_levels_and_classes(oasis):
    with pytest.raises(UnknownNameError, match="no level 'mood'"):
        plot(oasis, level="mood")
    with pytest.raises(UnknownNameError, match="a class 'serne'; did you mean 'serene'"):
        plot(oasis, label="serne")
    with pytest.raises(UnknownNameError, match=r"no class 'serene' at level 'polarity'"):
        plot(oasis, level="polarity", label="serene")


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (2, 3)])
def test_images_of_any_shape_are_drawn(predictor, size):
    assert_nothing_overlaps(plot(explain(Image.new("RGB", size, "red"), model=predictor)))


def test_a_prediction_has_no_maps(oasis):
    for options in ({"level": 0}, {"label": "serene"}):
        with pytest.raises(InputError, match="a prediction has no maps"):
            plot(oasis.prediction, **options)


def test_a_failed_prediction_has_nothing_to_draw(predictor):
    (failed,) = predictor.stream(["absent.png"])
    with pytest.raises(InputError, match=r"absent\.png: there is nothing to draw: No such file"):
        plot(failed)


@pytest.mark.slow
def test_drawing_in_threads_gives_the_same_pixels(oasis):
    expected = png(plot(oasis))
    with ThreadPoolExecutor(4) as pool:
        drawn = list(pool.map(lambda _: png(plot(oasis)), range(4)))
    assert all(one == expected for one in drawn)


@pytest.mark.slow
def test_settings_of_the_user_turn_nothing_upside_down(oasis):
    expected = png(plot(oasis))
    with matplotlib.rc_context({"image.origin": "lower", "text.usetex": True}):
        assert png(plot(oasis)) == expected


@pytest.mark.slow
def test_pyplot_is_not_used(photos, checkpoint, tmp_path):
    code = """
import sys
from mdan_zoo.inference.explanation import explain
from mdan_zoo.inference.predictor import Predictor
from mdan_zoo.plots import plot
explanation = explain(sys.argv[1], model=Predictor(checkpoint=sys.argv[2], device="cpu"))
plot(explanation, sys.argv[3])
plot(explanation.prediction, sys.argv[3])
assert "matplotlib.figure" in sys.modules
assert "matplotlib.pyplot" not in sys.modules
"""
    command = [sys.executable, "-c", code, photos[0], checkpoint, tmp_path / "figure.png"]
    subprocess.run(command, check=True)


@pytest.mark.slow
def test_without_matplotlib_the_extra_is_named():
    code = """
import sys
sys.modules["matplotlib"] = None  # as if it were not installed
from mdan_zoo.errors import MdanZooError
for module in ("plots.results", "plots.contact_sheet", "demo.answer"):
    try:
        __import__(f"mdan_zoo.{module}")
    except MdanZooError as error:
        assert "pip install 'mdan-zoo[explain]'" in str(error)
    else:
        raise AssertionError(module)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


# Files


@pytest.mark.parametrize("suffix", figures.FORMATS)
def test_figures_are_written_as_the_suffix_says(suffix, oasis, tmp_path):
    path = tmp_path / f"figure.{suffix}"
    figure = plot(oasis.prediction, path)
    assert list(tmp_path.iterdir()) == [path]
    if suffix in ("pdf", "svg"):
        assert path.read_bytes().startswith({"pdf": b"%PDF", "svg": b"<?xml"}[suffix])
        return
    with Image.open(path) as image:
        assert image.format == {"jpg": "JPEG"}.get(suffix, suffix.upper())
        assert image.size == tuple(figure.canvas.get_width_height())


@pytest.mark.slow
def test_where_no_figure_can_be_written(oasis, tmp_path):
    allowed = r"\.png, \.pdf, \.svg, \.jpg, \.jpeg, \.webp"
    with pytest.raises(InputError, match=rf"must be one of {allowed}, not '\.pgn'$"):
        plot(oasis, tmp_path / "figure.pgn")
    with pytest.raises(InputError, match="there is no folder"):
        plot(oasis, tmp_path / "absent" / "figure.png")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "figure.png").mkdir()
    with pytest.raises(InputError, match=r"figure\.png: it is not a file, but a folder"):
        plot(oasis, tmp_path / "figure.png")
    with pytest.raises(InputError, match=r"at most 16383 pixels a side.* 30000 x 150"):
        figures.save(figures.new_figure(200, 1), tmp_path / "long.webp")


# Contact sheets


def prediction_of(image, leaf: str, score: float) -> Prediction:
    tree = get_hierarchy("circumplex4")
    others = (1 - score) / 3
    leaves = tuple(score if name == leaf else others for name in tree.leaves)
    polarities = (leaves[0] + leaves[1], leaves[2] + leaves[3])
    return Prediction(str(image), "made", tree, {"overall": (polarities, leaves)})


def test_a_sheet_is_sorted_by_emotion_and_score(photos):
    leaves = ["serene", "gloomy", "serene", "excited", "gloomy"]
    scores = [0.5, 0.6, 0.9, 0.7, 0.8]
    entries = [
        (photo, prediction_of(photo, leaf, score))
        for photo, leaf, score in zip(photos, leaves, scores, strict=False)
    ]
    figure = contact_sheet._draw_page(list(contact_sheet._rows(entries)))
    assert texts(figure) == [
        "made; below an image: the probability of its class, level quadrant",
        "negative > gloomy: 2 images",
        "0.80  photo4.png",
        "0.60  photo1.png",
        "positive > serene: 2 images",
        "0.90  photo2.png",
        "0.50  photo0.png",
        "positive > excited: 1 image",
        "0.70  photo3.png",
    ]
    assert_nothing_overlaps(figure)


def test_names_that_are_no_text_are_drawn(photos, predictor, tmp_path):
    image = tmp_path / os.fsdecode(b"caf\xe9\x01.png")
    image.write_bytes(photos[0].read_bytes())
    plot_contact_sheet([image], predictor.predict([image]), tmp_path / "sheet.svg")
    assert ElementTree.parse(tmp_path / "sheet.svg").getroot().tag.endswith("svg")


@pytest.mark.slow
def test_a_large_sheet_is_a_pdf_with_pages(photos, tmp_path):
    images = [photos[5]] * (MAX_THUMBNAILS + 1)
    predictions = [prediction_of(image, "serene", 0.5) for image in images]
    with pytest.raises(InputError, match=r"more than 200 images, here 201, needs a \.pdf"):
        plot_contact_sheet(images, predictions, tmp_path / "sheet.png")
    assert list(tmp_path.iterdir()) == []
    plot_contact_sheet(images, predictions, tmp_path / "sheet.pdf")
    content = (tmp_path / "sheet.pdf").read_bytes()
    assert len(re.findall(rb"/Type /Page\b", content)) == 4  # 26 rows, at most 7 on a page


# The command


def run(*arguments) -> int:
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers(required=True))
    options = parser.parse_args(["explain", *map(str, arguments)])
    return options.run(options)


@pytest.mark.slow
def test_the_command_explains_an_image(photos, checkpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    expected = explain(photos[0], model=Predictor(checkpoint=checkpoint))
    assert run(photos[0], "--checkpoint", checkpoint) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"{photos[0]}  {expected.prediction}", "photo0.explained.png"]
    drawn = matplotlib.image.imread("photo0.explained.png")
    np.testing.assert_array_equal(drawn, matplotlib.image.imread(io.BytesIO(png(plot(expected)))))

    arguments = ("--level", "1", "--class", "serene", "--output", "serene.png")
    assert run(photos[0], "--checkpoint", checkpoint, *arguments) == 0
    drawn = matplotlib.image.imread("serene.png")
    figure = plot(expected, level=1, label="serene")
    np.testing.assert_array_equal(drawn, matplotlib.image.imread(io.BytesIO(png(figure))))


def test_the_command_draws_a_sheet_of_a_folder(photos, checkpoint, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "my.images"
    folder.mkdir()
    for photo in photos:
        shutil.copy(photo, folder)
    monkeypatch.chdir(tmp_path)
    assert run(folder, "--sheet", "--checkpoint", checkpoint) == 0
    assert capsys.readouterr().out == "my.images.sheet.png\n"
    (folder / "damaged.jpg").write_bytes(b"nothing")
    output = tmp_path / "sheet.pdf"
    assert run(folder, "--sheet", "--checkpoint", checkpoint, "--output", output) == 1
    captured = capsys.readouterr()
    assert "damaged.jpg  error: not an image" in captured.err
    assert output.read_bytes().startswith(b"%PDF")


def test_files_are_named_after_the_image():
    assert _stem("https://example.org/a/cat.v2.jpg?size=9/1.png") == "cat.v2"
    assert _stem("https://example.org/") == "image"
    assert _stem("folder/what?.jpg") == "what?"


def test_the_command_does_not_replace_the_image(photos, tmp_path, capsys):
    image = tmp_path / "photo.png"
    image.write_bytes(photos[0].read_bytes())
    assert main(["explain", str(image), "--output", str(image)]) == 2
    assert main(["explain", "--sheet", str(tmp_path), "--output", str(image)]) == 2
    assert capsys.readouterr().err.count("is one of the images") == 2
    assert image.read_bytes() == photos[0].read_bytes()


def test_a_level_is_a_name_before_it_is_a_number():
    tree = Hierarchy.from_nested({"a": ["b"]}, level_names=("1", "0"))
    assert [_as_level(text, tree) for text in ("1", "0")] == ["1", "0"]
    assert _as_level("1", get_hierarchy("circumplex4")) == 1
    assert _as_level(None, tree) is None


def test_the_command_refuses_what_does_not_go_together(photos, tmp_path):
    with pytest.raises(InputError, match="is a folder: give an image, or add --sheet"):
        run(photos[0].parent)
    with pytest.raises(InputError, match="--sheet needs a folder"):
        run(photos[0], "--sheet")
    with pytest.raises(InputError, match="cannot be combined with --sheet"):
        run(photos[0].parent, "--sheet", "--level", "0")
    with pytest.raises(ImageError, match="no images in the folder"):
        run(tmp_path, "--sheet")
    with pytest.raises(InputError, match="there is no folder"):
        run(photos[0], "--output", tmp_path / "absent" / "figure.png")


def test_an_output_is_checked_without_torch():
    code = """
import sys
from mdan_zoo.plots.figures import check_output
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_command_line_loads_neither_torch_nor_matplotlib():
    code = """
import argparse, sys
from mdan_zoo.cli.explain import add_parser
add_parser(argparse.ArgumentParser().add_subparsers())
assert not {"torch", "matplotlib", "numpy", "PIL"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
