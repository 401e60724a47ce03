"""A running demo and a real browser that opens it.

The helpers of these fixtures skip a test where Gradio or a browser is not installed, so they are
imported when a test asks for them.
"""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    from demo_server import running_demo

    with running_demo(tmp_path_factory.mktemp("demo")) as running:
        yield running


@pytest.fixture(scope="module")
def browser():
    from demo_browser import CHROMIUM, playwright

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
    from demo_browser import check, open_page

    page = open_page(context, demo.url)
    yield page
    check(page)
    page.close()
