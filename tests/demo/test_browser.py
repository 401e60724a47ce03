"""The demo in a real browser."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import pytest
from demo_browser import (
    CAT,
    ROCKET,
    label_of,
    open_page,
    turned_cats,
    upload,
    wait_for_answer,
)
from PIL import Image

import mdan_zoo
from mdan_zoo.demo.server import MAX_UPLOAD
from mdan_zoo.zoo.configs import DEFAULT_MODEL


def test_a_photo_gets_the_prediction_of_the_library(page):
    upload(page, CAT)
    wait_for_answer(page, f"1 image predicted by {DEFAULT_MODEL}")
    prediction = mdan_zoo.predict(CAT)
    assert label_of(page) == str(prediction)
    shown = dict(zip(page.locator(".mz-name").all_inner_texts(), scores_of(page), strict=True))
    for level in prediction.levels:
        for name, score in level.scores.items():
            assert shown[name] == f"{score:.2f}"


def scores_of(page):
    return page.locator(".mz-row .mz-score").all_inner_texts()


@pytest.mark.parametrize(
    ("model", "classes", "level"),
    [
        ("mdan_oasis4", ("serene", "excited"), "quadrant"),
        (DEFAULT_MODEL, ("awe", "fear"), "emotion"),
    ],
)
def test_a_click_shows_the_map_of_that_class(page, model, classes, level):
    page.get_by_label(model).check()
    upload(page, CAT)
    wait_for_answer(page, f"1 image predicted by {model}")
    overlay = page.locator(".mz-map")
    assert overlay.is_hidden()
    sources = []
    for name in (*classes, "attention: polarity", f"attention: {level}"):
        page.get_by_role("button", name=name).click()
        assert overlay.is_visible()
        assert page.locator('[aria-pressed="true"]').count() == 1
        assert name.rpartition(" ")[2] in page.locator(".mz-caption").inner_text()
        sources.append(overlay.get_attribute("src"))
        assert overlay.evaluate("image => image.naturalWidth") > 0
    assert len(set(sources)) == len(sources)
    place, photo = overlay.bounding_box(), page.locator(".mz-photo").bounding_box()
    # The square in the middle, or all of the image.
    side = "height" if model == "mdan_oasis4" else "width"
    assert place["width"] == pytest.approx(photo[side], rel=0.02)
    assert place["height"] == pytest.approx(photo["height"], rel=0.02)
    middle = photo["x"] + photo["width"] / 2
    assert place["x"] + place["width"] / 2 == pytest.approx(middle, abs=2)
    page.get_by_role("button", name="image", exact=True).click()
    assert overlay.is_hidden()


def test_images_given_before_the_answer_are_predicted_after_it(page, tmp_path):
    upload(page, *turned_cats(tmp_path, 12))
    page.locator("#mz-files").get_by_text("cat11").wait_for()  # they are on the server
    assert page.locator(".mz-status").count() == 0
    upload(page, ROCKET)
    page.locator(".mz-panel h3", has_text="rocket.jpg").wait_for(state="attached")


def test_a_flat_model_has_maps_of_its_finest_level_alone(page):
    page.get_by_label("flat_oasis4").check()
    upload(page, CAT)
    wait_for_answer(page, "predicted by flat_oasis4")
    assert label_of(page) == str(mdan_zoo.predict(CAT, model="flat_oasis4"))
    named = page.locator("button.mz-row .mz-name").all_inner_texts()
    assert sorted(named) == ["distressed", "excited", "gloomy", "serene"]
    assert page.get_by_text("attention:").count() == 0


def test_another_model_takes_the_images_that_are_there(page):
    upload(page, CAT)
    wait_for_answer(page, f"predicted by {DEFAULT_MODEL}")
    page.get_by_label("flat_oasis4").check()
    wait_for_answer(page, "predicted by flat_oasis4")
    assert label_of(page) == str(mdan_zoo.predict(CAT, model="flat_oasis4"))


def test_only_models_with_weights_can_be_chosen_and_the_others_say_why(page):
    assert page.get_by_role("radio").count() == 4
    row = page.locator("tr", has=page.get_by_text("mdan_fi8", exact=True))
    assert "no released weights: it has not been trained yet" in row.inner_text()
    assert "decisions about people" in page.inner_text("body")
    for count in ("14,841 photographs", "661, of which the FI models saw 531"):
        assert count in page.inner_text("body")


def test_what_is_no_image_is_an_error_among_the_others(page, tmp_path):
    (tmp_path / "notes.jpg").write_text("no image")
    Image.new("1", (20_000, 10_000)).save(tmp_path / "huge.png")
    upload(page, tmp_path / "notes.jpg", tmp_path / "huge.png", CAT)
    wait_for_answer(page, f"1 image predicted by {DEFAULT_MODEL}; 2 could not be read")
    rows = page.locator("#mz-answer tbody tr").all_inner_texts()
    assert "not an image that Pillow can read" in rows[0]
    assert "20000x10000 = 200000000 pixels are above" in rows[1]
    assert str(mdan_zoo.predict(CAT)) in rows[2]
    assert "/tmp" not in page.inner_text("body")
    page.get_by_role("button", name="cat.jpg", exact=True).click()
    assert page.locator(".mz-photo").last.is_visible()


def test_a_file_that_is_too_large_is_an_error_among_the_others(page, tmp_path):
    (tmp_path / "large.jpg").write_bytes(bytes(20_000_001))
    upload(page, tmp_path / "large.jpg", CAT)
    wait_for_answer(page, f"1 image predicted by {DEFAULT_MODEL}; 1 could not be read")
    rows = page.locator("#mz-answer tbody tr").all_inner_texts()
    assert "20000001 bytes or more are above max_bytes=20000000" in rows[0]
    assert label_of(page) == str(mdan_zoo.predict(CAT))


def test_a_file_far_too_large_is_refused_and_the_page_goes_on(context, demo, tmp_path):
    with (tmp_path / "large.jpg").open("wb") as file:
        file.truncate(MAX_UPLOAD + 1)
    page = open_page(context, demo.url)
    upload(page, tmp_path / "large.jpg")
    page.get_by_text("exceed the maximum allowed size").wait_for()
    assert page.locator(".mz-photo").count() == 0
    upload(page, CAT)
    wait_for_answer(page, "1 image predicted")
    assert label_of(page) == str(mdan_zoo.predict(CAT))
    page.close()


def test_names_are_text_and_never_run(page, tmp_path):
    name = "<img src=x onerror=alert(1)>${alert(2)}{{value}}&amp;.jpg"
    shutil.copy(CAT, tmp_path / name)
    page.on("dialog", lambda dialog: page.errors.append(dialog.message))
    upload(page, tmp_path / name)
    wait_for_answer(page, "1 image predicted")
    assert page.locator(".mz-panel img").count() == 2  # the photograph and the map
    assert page.locator("h3").inner_text() == "img src=x onerror=alert(1)alert(2)value&amp;.jpg"


def test_thirty_images_make_a_table_and_files_and_two_can_be_compared(page, tmp_path):
    upload(page, *turned_cats(tmp_path, 30))
    wait_for_answer(page, "30 images predicted")
    assert page.locator("#mz-answer tbody tr").count() == 30
    assert page.locator(".mz-panel:visible").count() == 1
    page.get_by_role("button", name="compare with cat15.png").click()
    assert page.locator(".mz-panel:visible h3").all_inner_texts() == ["cat00.png", "cat15.png"]
    page.get_by_role("button", name="cat07.png", exact=True).click()
    order = "panels => panels.map(panel => [panel.dataset.image, panel.style.order])"
    visible = page.locator(".mz-panel:visible").evaluate_all(order)
    assert sorted(visible) == [["15", "1"], ["7", "0"]]

    expected = mdan_zoo.predict(sorted(tmp_path.iterdir()))
    rows = list(csv.DictReader(io.StringIO(downloaded(page, "CSV"))))
    assert [row["emotion_label"] for row in rows] == [p.path[1] for p in expected]
    for place, name in enumerate(("valence", "arousal")):
        ratings = [prediction.dimensions[place].value for prediction in expected]
        assert [float(row[name]) for row in rows] == pytest.approx(ratings, abs=1e-3)
    assert [row["image"] for row in rows] == [f"cat{number:02}.png" for number in range(30)]
    objects = json.loads(downloaded(page, "JSON"))
    assert [entry["path"] for entry in objects] == [list(p.path) for p in expected]


def downloaded(page, name):
    with page.expect_download() as download:
        page.get_by_role("link", name=name).click()
    return Path(download.value.path()).read_text()


def test_an_example_is_a_click_away(page):
    page.get_by_role("button", name="Try a cat").click()
    wait_for_answer(page, "1 image predicted")
    assert label_of(page) == str(mdan_zoo.predict(CAT))


def test_a_pasted_image_is_an_upload(page):
    page.evaluate(
        """async bytes => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], "pasted.jpg"));
            const options = {clipboardData: transfer, bubbles: true};
            document.body.dispatchEvent(new ClipboardEvent("paste", options));
        }""",
        list(CAT.read_bytes()),
    )
    wait_for_answer(page, "1 image predicted")
    assert page.locator("h3").inner_text() == "pasted.jpg"


def test_the_server_connected_to_nobody(demo):
    """Last in this file: by now the server has done all that it does."""
    assert demo.connections.exists()
    assert demo.connections.read_text() == ""
