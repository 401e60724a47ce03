"""The demo used by many at once, each in a real browser's session of their own."""

from __future__ import annotations

from pathlib import Path

import pytest
from demo_browser import check, label_of, open_page, turned_cats, upload, wait_for_answer

import mdan_zoo


@pytest.mark.slow
def test_twenty_sessions_at_once_each_see_their_own_image(browser, demo, tmp_path):
    images = turned_cats(tmp_path, 20)
    # Each has a context of its own: within one, all pages share six connections to a server.
    pages = [open_page(browser.new_context(), demo.url) for _ in images]
    for page, image in zip(pages, images, strict=True):
        upload(page, image)  # returns before the answer is there
    expected = mdan_zoo.predict(images)
    for page, prediction in zip(pages, expected, strict=True):
        wait_for_answer(page, "1 image predicted")
        assert page.locator("h3").all_inner_texts() == [Path(prediction.image).name]
        assert label_of(page) == str(prediction)
        check(page)
        page.context.close()
    assert demo.connections.read_text() == "", "the server connected to nobody"
