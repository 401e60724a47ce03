"""One image in several threads at once."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor

import pytest
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
