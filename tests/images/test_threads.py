"""One image in several threads at once."""

from __future__ import annotations

import io
import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from hub_helpers import run_python
from PIL import Image

from mdan_zoo.images import load
from mdan_zoo.images.load import load_image

THREADS = 4


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """A JPEG that takes a while to decode, and whose EXIF turns it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path_factory.mktemp("photo") / "large.jpg"
    Image.effect_noise((2000, 1500), 60).convert("RGB").save(path, exif=exif.tobytes())
    return path


@pytest.mark.parametrize("make", [Image.open, lambda path: path.open("rb")], ids=["PIL", "file"])
def test_threads_can_share_what_is_read_in_place(make, photo):
    expected = load_image(photo)
    assert expected.size == (1500, 2000)
    for _ in range(5):
        with make(photo) as image, ThreadPoolExecutor(THREADS) as pool:
            found = list(pool.map(load_image, [image] * THREADS))
        assert all(loaded.tobytes() == expected.tobytes() for loaded in found)
    assert not load._in_use, "all locks are released"


def test_a_failure_lets_the_others_go_on():
    class Broken(io.BytesIO):
        def read(self, *_):
            raise OSError("no more")

    image = Broken()
    with ThreadPoolExecutor(THREADS) as pool:
        errors = [f.exception() for f in [pool.submit(load_image, image) for _ in range(8)]]
    assert all("no more" in str(error) for error in errors)
    assert not load._in_use


FORKED = """
import os, signal, sys
from PIL import Image
from mdan_zoo.images.load import _exclusive, _guard, load_image
image = Image.new("RGB", (8, 8))
with _exclusive(image), _guard:  # as in another thread
    if os.fork() == 0:
        signal.alarm(20)
        load_image(image)
        os._exit(0)
    print(os.wait()[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_reads_an_image_that_its_parent_was_reading():
    assert run_python(FORKED).strip() == "0"
