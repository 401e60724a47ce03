"""Answers of the demo, without its server."""

from __future__ import annotations

import base64
import json
import weakref
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from PIL import Image
from random_weights import CONFIG, save_random_weights

pytest.importorskip("matplotlib", reason="maps are coloured by matplotlib")

from mdan_zoo.cli.main import main
from mdan_zoo.demo import answer
from mdan_zoo.demo.answer import MAX_IMAGES, NamedImage, answer_html, explain_image
from mdan_zoo.inference.explanation import explain
from mdan_zoo.inference.formats import to_csv, to_json
from mdan_zoo.inference.predictor import Predictor


class Elements(HTMLParser):
    """The start tags of a text of HTML, with their attributes; every tag has to be closed."""

    def __init__(self, html: str):
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def with_class(self, name: str) -> list[dict[str, str | None]]:
        return [a for _, a in self.found if name in (a.get("class") or "").split()]


def named(photos):
    return [NamedImage(path.name, path) for path in photos]


def test_every_image_has_a_panel_with_all_classes_and_maps(predictor, photos):
    done = []
    page = Elements(answer_html(predictor, named(photos), done.append))
    assert done == list(range(1, len(photos) + 1))
    assert len(page.with_class("mz-panel")) == len(photos)
    assert len(page.with_class("mz-row")) == sum(predictor.hierarchy.sizes) * len(photos)
    assert all(row["data-map"] for row in page.with_class("mz-row"))
    looks = [look for look in page.with_class("mz-look") if "data-map" in look]
    assert len(looks) == predictor.hierarchy.depth * len(photos)
    assert [("hidden" in panel) for panel in page.with_class("mz-panel")] == [False] + [True] * 6


def test_attention_of_the_finest_level_alone_has_one_button(photos, tmp_path):
    path = tmp_path / "model.safetensors"
    save_random_weights(path, config=replace(CONFIG, architecture="wscnet", options=None))
    model = Predictor(checkpoint=path, device="cpu")
    page = Elements(answer_html(model, named(photos[:1])))
    captions = [look["data-caption"] for look in page.with_class("mz-look") if "data-map" in look]
    assert captions == ["quadrant: sentiment map of all classes."]
    assert sum("data-map" in row for row in page.with_class("mz-row")) == 4


def test_a_network_without_maps_predicts_without_them(photos, tmp_path):
    path = tmp_path / "model.safetensors"
    config = replace(CONFIG, backbone="test_resnet:embedding", architecture="flat", options=None)
    save_random_weights(path, config=config)
    model = Predictor(checkpoint=path, device="cpu")
    (image,) = named(photos[:1])
    prediction, explanation = explain_image(model, image)
    assert prediction == replace(model.predict(image.path), image=image.name)
    assert explanation.levels == ()
    html = answer_html(model, [image])
    assert "1 image predicted by" in html
    assert "activation map" not in html
    page = Elements(html)
    assert len(page.with_class("mz-row")) == sum(model.hierarchy.sizes)
    assert not any("data-map" in attributes for _, attributes in page.found)
    assert page.with_class("mz-look") == page.with_class("mz-error") == []


def test_no_image_is_kept_after_its_turn(predictor, photos, monkeypatch):
    images = []

    def noted_explain(*arguments, **options):
        explanation = explain(*arguments, **options)
        images.append(weakref.ref(explanation.image))
        return explanation

    monkeypatch.setattr(answer, "explain", noted_explain)
    kept = []
    count = lambda done: kept.append(sum(image() is not None for image in images))  # noqa: E731
    answer_html(predictor, named(photos[:3]), count)
    assert (len(images), kept) == (3, [0, 0, 0])


def test_the_answer_opens_with_the_first_image_that_could_be_read(predictor, photos, tmp_path):
    (tmp_path / "broken.png").write_text("no image")
    broken = tmp_path / "broken.png"
    page = Elements(answer_html(predictor, named([broken, *photos[:2]])))
    assert [("hidden" in panel) for panel in page.with_class("mz-panel")] == [True, False, True]
    pressed = [button["aria-pressed"] for button in page.with_class("mz-show")]
    assert pressed == ["false", "true", "false"]
    assert [("disabled" in b) for b in page.with_class("mz-compare")] == [False, True, False]
    none = Elements(answer_html(predictor, named([broken, broken])))
    assert [("hidden" in panel) for panel in none.with_class("mz-panel")] == [False, True]


def test_the_files_are_those_of_the_command(predictor, checkpoint, photos, tmp_path, capsys):
    (tmp_path / "broken.png").write_text("no image")
    images = [*photos, tmp_path / "broken.png"]
    predictions = [explain_image(predictor, image)[0] for image in named(images)]
    common = ["predict", *map(str, images), "--checkpoint", str(checkpoint), "--batch-size", "1"]
    main([*common, "--device", "cpu", "--format", "csv"])
    expected = capsys.readouterr().out
    for path in images:
        expected = expected.replace(str(path), path.name)
    assert to_csv(predictions, predictor.hierarchy) == expected
    main([*common, "--device", "cpu", "--format", "json"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for line, path in zip(lines, images, strict=True):
        line["image"] = path.name
    assert json.loads(to_json(predictions)) == lines


def test_the_table_to_download_has_no_formulas(predictor, photos):
    html = answer_html(predictor, [NamedImage("=1+1.png", photos[0])])
    links = [link for tag, link in Elements(html).found if tag == "a"]
    table = base64.b64decode(links[0]["href"].partition(",")[2]).decode()
    assert table.splitlines()[1].startswith("'=1+1.png,")


def test_an_error_names_the_image_and_no_path(predictor, tmp_path):
    (tmp_path / "broken.png").write_text("no image")
    Image.new("1", (20_000, 10_000)).save(tmp_path / "huge.png")
    images = [NamedImage(f"my {name}", tmp_path / name) for name in ("broken.png", "gone.png")]
    html = answer_html(predictor, images)
    assert "my broken.png: not an image that Pillow can read" in html
    assert "my gone.png: it has been deleted here: upload it again" in html
    assert "0 images predicted by mdan_oasis4; 2 could not be read." in html
    assert str(tmp_path) not in html
    refused, _ = explain_image(predictor, NamedImage("huge.png", tmp_path / "huge.png"))
    assert refused.error.startswith("20000x10000 = 200000000 pixels are above")


def test_names_are_escaped_wherever_they_stand(predictor, photos):
    name = '"><script>alert(1)</script>&'
    html = answer_html(predictor, [NamedImage(name, path) for path in photos[:2]])
    assert "<script" not in html
    assert "alert(1)" in html
    Elements(html)


def test_of_too_many_images_the_first_are_taken(predictor, tmp_path):
    images = [NamedImage(f"{number}.jpg", tmp_path / "none") for number in range(60)]
    html = answer_html(predictor, images)
    assert f"only the first {MAX_IMAGES} of 60 images were used" in html
    assert len(Elements(html).with_class("mz-panel")) == MAX_IMAGES


@pytest.mark.parametrize("size", [(1, 4000), (4000, 1), (1, 1), (30, 900)])
def test_images_of_any_shape_are_shown(predictor, tmp_path, size):
    Image.new("RGB", size, "red").save(tmp_path / "red.png")
    html = answer_html(predictor, [NamedImage("red.png", tmp_path / "red.png")])
    assert "1 image predicted" in html
    assert len(Elements(html).with_class("mz-photo")) == 1
