"""Screenshots of the demo, docs/images/demo_desktop.png and demo_phone.png.

    python benchmarks/demo_screenshots.py

Requires the extra `demo`, playwright and Chromium (Debian: chromium).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

IMAGES = Path(__file__).parents[1] / "docs" / "images"
SIZES = {"demo_desktop": (1280, 900), "demo_phone": (390, 844)}
CLASS = "button.mz-row.mz-picked"
ANSWERED = "document.querySelector('.mz-status')?.textContent.includes('1 image predicted')"


def main() -> None:
    command = [sys.executable, "-m", "mdan_zoo", "demo"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        url = next(word for line in server.stdout for word in line.split() if "http://" in word)
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox"]
            )
            for name, (width, height) in SIZES.items():
                page = chromium.new_page(viewport={"width": width, "height": height})
                page.goto(url)
                page.get_by_role("button", name="Try a cat").click()
                page.wait_for_function(ANSWERED, timeout=240_000)
                page.locator(CLASS).last.click()
                page.mouse.move(0, 0)
                page.evaluate("scrollTo(0, 0)")
                page.wait_for_timeout(1000)
                box = page.locator(".mz-panel").first.bounding_box()
                assert box is not None
                clip = {"x": 0, "y": 0, "width": width, "height": box["y"] + box["height"] + 14}
                page.screenshot(path=IMAGES / f"{name}.png", full_page=True, clip=clip)
            chromium.close()
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
