"""A demo and a real browser that opens it."""

from __future__ import annotations

import pytest
from demo_browser import CHROMIUM, check, open_page, playwright
from demo_server import running_demo


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    with running_demo(tmp_path_factory.mktemp("demo")) as running:
        yield running


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def context(browser):
    with browser.new_context(accept_downloads=True) as context:
        yield context


@pytest.fixture
def page(context, demo):
    """A page whose every request stays with the server and that logs no error."""
    page = open_page(context, demo.url)
    yield page
    check(page)
    page.close()
