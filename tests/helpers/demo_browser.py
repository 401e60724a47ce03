"""Browser helpers for tests; importing this module skips them where there is no browser."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("gradio", reason="the demo needs Gradio")
playwright = pytest.importorskip("playwright.sync_api", reason="browser tests need playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("browser tests need Chromium (Debian: chromium)", allow_module_level=True)

EXAMPLES = Path(__file__).parents[2] / "examples"
CAT, ROCKET = EXAMPLES / "cat.jpg", EXAMPLES / "rocket.jpg"
WAIT = 120_000  # milliseconds; on a busy machine the first prediction takes a while
UPLOAD = "#mz-files input[type=file]"


def open_page(context, url):
    page = context.new_page()
    page.set_default_timeout(WAIT)
    page.seen, page.errors = [], []
    page.on("request", lambda request: page.seen.append(request.url))
    page.on("console", lambda m: page.errors.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.goto(url)
    page.wait_for_selector(UPLOAD, state="attached")
    return page


def check(page):
    own = (page.url, "data:", "blob:" + page.url)
    assert [url for url in page.seen if not url.startswith(own)] == []
    assert page.errors == []
    assert any(url.startswith(page.url + "assets/") for url in page.seen)  # requests are seen


def upload(page, *files):
    page.set_input_files(UPLOAD, list(files))


def wait_for_answer(page, text):
    page.wait_for_function(
        "text => document.querySelector('.mz-status')?.textContent.includes(text)", arg=text
    )


def label_of(page):
    return page.locator(".mz-panel:not([hidden]) .mz-path").first.inner_text()


def turned_cats(folder, number):
    """Write different images."""
    cat = Image.open(CAT)
    paths = [folder / f"cat{n:02}.png" for n in range(number)]
    for n, path in enumerate(paths):
        cat.rotate(360 * n / number).save(path)
    return paths
