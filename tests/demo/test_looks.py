"""Accessibility of the demo: keyboard, phone and contrast."""

from __future__ import annotations

import re

import pytest
from demo_browser import (
    CAT,
    ROCKET,
    check,
    open_page,
    upload,
    wait_for_answer,
)
from random_weights import save_random_weights

from mdan_zoo import Predictor, get_hierarchy
from mdan_zoo.demo.answer import NamedImage, answer_html


def test_the_keyboard_is_enough(page):
    def tab_to(selector):
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("s => document.activeElement.matches(s)", selector):
                return
        raise AssertionError(f"Tab does not reach {selector}")

    tab_to("input[type=radio]")
    focus = "element => getComputedStyle(element.closest('label')).outlineStyle"
    assert page.locator("input[type=radio]:focus").evaluate(focus) == "solid"
    page.keyboard.press("Space")
    page.wait_for_selector("input[type=radio][value=flat_fi8_lite0]:checked")
    tab_to("button.mz-example")
    page.keyboard.press("Space")
    wait_for_answer(page, "1 image predicted by flat_fi8_lite0")
    page.on("filechooser", lambda chooser: None)  # from here on, before the key, it is looked for
    tab_to("#mz-files button")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files([CAT, ROCKET])
    wait_for_answer(page, "2 images predicted")
    tab_to('.mz-compare[data-image="1"]')
    page.keyboard.press("Enter")
    assert page.locator(".mz-panel:visible").count() == 2
    tab_to('.mz-panel[data-image="0"] button.mz-row')
    page.keyboard.press("Enter")
    assert page.locator('.mz-panel[data-image="0"] .mz-map').is_visible()
    assert page.locator('.mz-panel[data-image="1"] .mz-map').is_hidden()
    focus = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(focus) == "solid"


def test_a_phone_shows_all_without_scrolling_sideways(browser, demo):
    with browser.new_context(viewport={"width": 390, "height": 844}) as context:
        page = open_page(context, demo.url)
        upload(page, CAT, ROCKET)
        wait_for_answer(page, "2 images predicted")
        page.get_by_role("button", name="compare with rocket.jpg").click()
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        buttons = ".mz-row:visible, .mz-look:visible, .mz-compare:visible, .mz-example"
        for box in page.locator(buttons).all():
            place = box.bounding_box()
            assert place["x"] >= 0
            assert place["x"] + place["width"] <= 390
            assert place["height"] >= 36
        check(page)


def test_a_large_hierarchy_on_a_phone_keeps_the_map_in_sight(browser, demo, tmp_path):
    save_random_weights(tmp_path / "webemo.safetensors", get_hierarchy("webemo25"))
    predictor = Predictor(checkpoint=tmp_path / "webemo.safetensors", device="cpu")
    html = answer_html(predictor, [NamedImage("cat.jpg", CAT)])
    with browser.new_context(viewport={"width": 390, "height": 844}) as context:
        page = open_page(context, demo.url)
        page.get_by_role("button", name="Try a cat").click()
        wait_for_answer(page, "1 image predicted")
        inside = "(status, html) => { status.parentElement.innerHTML = html; }"
        page.locator(".mz-status").evaluate(inside, html)  # no model of 25 classes is released
        assert page.locator("button.mz-row").count() == sum(predictor.hierarchy.sizes)
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        lines = """name => {
            const range = document.createRange();
            range.selectNodeContents(name);
            return new Set([...range.getClientRects()].map(box => box.top)).size;
        }"""
        for name in page.locator(".mz-name").all():
            assert name.evaluate(lines) == 1, name.inner_text()
        row = page.locator("button.mz-row").last
        row.click()
        shown, clicked = page.locator(".mz-map").bounding_box(), row.bounding_box()
        assert shown["y"] >= 0
        assert shown["y"] + shown["height"] <= clicked["y"] <= 844 - clicked["height"]
        check(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_bars_and_borders_stand_out(browser, demo, scheme):
    with browser.new_context(color_scheme=scheme) as context:
        page = open_page(context, demo.url)
        page.get_by_role("button", name="Try a cat").click()
        wait_for_answer(page, "1 image predicted")
        page.get_by_role("button", name="contentment").click()
        colour = "(element, name) => getComputedStyle(element)[name]"
        ground = page.locator(".mz-panel").evaluate(colour, "backgroundColor")
        for selector, name in (
            (".mz-picked .mz-bar span", "backgroundColor"),
            (".mz-row:not(.mz-picked) .mz-bar span", "backgroundColor"),
            ('.mz-row[aria-pressed="true"]', "borderTopColor"),
        ):
            drawn = page.locator(selector).first.evaluate(colour, name)
            assert contrast(drawn, ground) >= 3, (selector, drawn, ground)
        check(page)


def contrast(first, second):
    """Return the contrast of two CSS colours as WCAG defines it."""

    def luminance(colour):
        channels = [int(value) / 255 for value in re.findall(r"\d+", colour)[:3]]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(first), luminance(second)))
    return (light + 0.05) / (dark + 0.05)
