"""Every kind of input, good and bad. Warnings are errors, those about unclosed files too."""

from __future__ import annotations

import concurrent.futures
import io
import os
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from image_helpers import PIXELS, encoded, pixels, prompt_refusal, refusal
from PIL import Image

from mdan_zoo.errors import ImageError
from mdan_zoo.images.load import ImageOptions, find_images, is_image_path, load_image
from mdan_zoo.images.naming import describe

pytestmark = pytest.mark.filterwarnings("error")

PNG = encoded(Image.fromarray(PIXELS))
GREY = PIXELS[:, :, 0]
GREY_RGB = np.stack([GREY] * 3, 2)


@pytest.fixture
def png(tmp_path) -> Path:
    path = tmp_path / "image.png"
    path.write_bytes(PNG)
    return path


# Good images


def test_files_and_bytes(png):
    with os.scandir(png.parent) as entries:
        entry = next(entries)
    for image in (png, str(png), entry, PNG, bytearray(PNG), memoryview(PNG)):
        np.testing.assert_array_equal(pixels(image), PIXELS)


def test_file_objects_are_read_from_their_start_and_stay_open(png, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(png, "image.png")
        archive.write(__file__, "text.txt")
    with (
        open(png, "rb") as plain,
        open(png, "rb", buffering=0) as unbuffered,
        zipfile.ZipFile(tmp_path / "a.zip") as archive,
        archive.open("image.png") as member,
    ):
        plain.seek(3)
        for file in (plain, unbuffered, member, io.BytesIO(PNG)):
            np.testing.assert_array_equal(pixels(file), PIXELS)
            np.testing.assert_array_equal(pixels(file), PIXELS)
            assert not file.closed


def test_pipe_as_file_object():
    reading, writing = os.pipe()
    with open(reading, "rb") as file:
        with open(writing, "wb") as end:
            end.write(PNG)
        np.testing.assert_array_equal(pixels(file), PIXELS)


def test_arrays():
    for array in (PIXELS, np.asfortranarray(PIXELS), np.repeat(PIXELS, 2, 1)[:, ::2]):
        np.testing.assert_array_equal(pixels(array), PIXELS)
    for array in (GREY, GREY[:, :, None]):
        np.testing.assert_array_equal(pixels(array), GREY_RGB)
    np.testing.assert_array_equal(pixels(PIXELS[::-1, ::-1]), PIXELS[::-1, ::-1])


def test_objects_with_an_array_interface():
    class Frame:
        __array_interface__ = PIXELS.__array_interface__

    np.testing.assert_array_equal(pixels(Frame()), PIXELS)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_tensors(device):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    tensor = torch.from_numpy(PIXELS).permute(2, 0, 1).to(device)
    np.testing.assert_array_equal(pixels(tensor), PIXELS)
    np.testing.assert_array_equal(pixels(tensor.contiguous()), PIXELS)
    np.testing.assert_array_equal(pixels(tensor[:1]), GREY_RGB)
    np.testing.assert_array_equal(pixels(tensor[0]), GREY_RGB)


def test_transparency_of_arrays_and_tensors():
    rgba = np.dstack([PIXELS, np.full((5, 7), 255, np.uint8)])
    rgba[2:, :, 3] = 0
    expected = PIXELS.copy()
    expected[2:] = (1, 2, 3)
    options = ImageOptions(background=(1, 2, 3))
    np.testing.assert_array_equal(pixels(rgba, options), expected)
    tensor = torch.from_numpy(rgba).permute(2, 0, 1)
    np.testing.assert_array_equal(pixels(tensor, options), expected)


def test_result_shares_nothing_with_the_input():
    array, tensor = PIXELS.copy(), torch.from_numpy(PIXELS.copy()).permute(2, 0, 1)
    loaded = Image.fromarray(PIXELS)
    for image in (array, tensor, loaded):
        load_image(image).paste((0, 0, 0), (0, 0, 7, 5))
        np.testing.assert_array_equal(pixels(image), PIXELS)


def test_threads(png):
    images = [png, PNG, PIXELS] * 100
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for result in pool.map(pixels, images):
            np.testing.assert_array_equal(result, PIXELS)


# Bad images: the message names the image and the reason


def test_paths_that_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s.png"))
    special = "it is not a regular file, but a pipe, a socket or a device"
    (tmp_path / "dead.png").symlink_to(tmp_path / "gone.png")
    for path, reason in [
        (tmp_path, "it is a folder, not an image"),
        (tmp_path / "none.png", "No such file or directory"),
        (tmp_path / "dead.png", "No such file or directory"),
        (tmp_path / "pipe.png", special),
        (tmp_path / "s.png", special),
        (Path("/dev/zero"), special),
        (Path("/dev/null"), special),
    ]:
        assert prompt_refusal(path) == f"{path}: {reason}"


def test_a_pipe_that_replaces_a_file_does_not_block(tmp_path, monkeypatch):
    pipe, file = tmp_path / "pipe.png", tmp_path / "file.png"
    os.mkfifo(pipe)
    file.write_bytes(PNG)
    status = os.stat(file)
    monkeypatch.setattr("mdan_zoo.images.load.os.stat", lambda *_, **__: status)
    assert prompt_refusal(pipe) == f"{pipe}: it is empty"


def test_only_the_common_formats_are_imported_for_a_common_format(tmp_path):
    (tmp_path / "image.png").write_bytes(PNG)
    code = (
        "import sys; from mdan_zoo.images.load import load_image; load_image('image.png'); "
        "print('PIL.PngImagePlugin' in sys.modules, 'PIL.WmfImagePlugin' in sys.modules)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "True False\n"


def test_strange_paths():
    assert refusal("a\0b.png") == r"'a\x00b.png': embedded null byte"
    assert refusal("") == "'': No such file or directory"
    assert refusal("\udcff.png") == r"'\udcff.png': No such file or directory"
    assert refusal("x" * 100_000) == "x" * 500 + "...: File name too long"


def test_unreadable_file(png):
    png.chmod(0)
    if os.access(png, os.R_OK):
        pytest.skip("this user may read every file")
    assert refusal(png) == f"{png}: Permission denied"


def test_files_that_are_no_images(png):
    for data, reason in [
        (b"", "it is empty"),
        (b"hi", "not an image that Pillow can read (it starts with b'hi')"),
        (
            b"hello, world\n",
            "not an image that Pillow can read (it starts with b'hello, world\\n')",
        ),
        (b"\xef\xbb\xbf\n<!DOCTYPE html><p>", "it is an HTML page, not an image"),
        (b"<?xml version='1.0'?>\n<svg/>", "SVG drawings are not supported: convert it to PNG"),
        (
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
            "PostScript and PDF documents are not supported: convert it to PNG",
        ),
    ]:
        png.write_bytes(data)
        assert refusal(png) == f"{png}: {reason}"
        assert refusal(data) == f"{len(data)} bytes: {reason}"


@pytest.mark.parametrize(
    "file_format", ["PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP", "PPM", "JPEG2000", "TGA"]
)
def test_truncated_files(file_format, tmp_path):
    data = encoded(Image.effect_noise((64, 64), 90).convert("RGB"), file_format)
    path = tmp_path / "cut"
    for length in [*range(1, 40), *range(40, len(data) - 100, len(data) // 20)]:
        path.write_bytes(data[:length])
        message = refusal(path)
        assert message.startswith(f"{path}: ")
        assert len(message) > len(f"{path}: ")


def test_the_format_of_a_damaged_file_is_named():
    data = encoded(Image.effect_noise((64, 64), 90), "JPEG")[:1000]
    reason = "a damaged or incomplete JPEG file: image file is truncated ("
    assert refusal(data).startswith(f"1000 bytes: {reason}")
    assert refusal(PNG[:20]).startswith("20 bytes: a damaged or incomplete PNG file: ")


def test_lazy_pil_image_that_is_truncated_or_closed():
    noise = Image.effect_noise((64, 64), 90)
    with Image.open(io.BytesIO(encoded(noise)[:2000])) as image:
        assert refusal(image).startswith("PIL image (L, 64x64): ")
    image = Image.open(io.BytesIO(PNG))
    image.close()
    assert refusal(image).startswith("PIL image (RGB, 7x5): ")


def test_file_objects_that_cannot_be_read(png):
    with open(png, encoding="latin-1") as text:
        assert refusal(text) == (f"{png}: its read() gives str, not bytes: open it with mode 'rb'")
    file = io.BytesIO(PNG)
    file.close()
    assert refusal(file) == "BytesIO object: I/O operation on closed file."


@pytest.mark.parametrize("thing", [None, 3, ["a.png"], {}, object])
def test_other_things(thing):
    assert refusal(thing) == (
        f"{type(thing).__name__} object: not an image: give a path, a URL, bytes,"
        " a binary file, a PIL image, an array or a tensor"
    )


def test_pil_image_without_pixels():
    assert refusal(Image.new("RGB", (0, 5))) == "PIL image (RGB, 0x5): it has no pixels (0x5)"


# Names, folders, imports


def test_describe(png):
    assert describe(png) == describe(str(png)) == str(png)
    assert describe(PNG) == describe(memoryview(PNG)) == f"{len(PNG)} bytes"
    assert describe(PIXELS) == "array of shape (5, 7, 3)"
    assert describe(torch.zeros(3, 5, 7)) == "tensor of shape (3, 5, 7)"
    assert describe(Image.new("L", (7, 5))) == "PIL image (L, 7x5)"
    assert describe(io.BytesIO(PNG)) == "BytesIO object"
    assert describe("https://u:p@host:1/a/b.png?key=1#x") == "https://host:1/a/b.png"
    for path in (png, os.fsencode(png)):
        with open(path, "rb") as file, Image.open(path) as image:
            assert describe(file) == describe(image) == str(png)


# A screenshot of macOS, an ideographic space, a family of emoji, undecodable bytes, a line break.
ODD_NAMES = (
    "at 9.41\u202fAM.png",
    "a\u3000b",
    "\U0001f469\u200d\U0001f466",
    "\udcff\udc80",
    "a\nb",
)


@pytest.mark.parametrize("name", [*ODD_NAMES, "d/" * 400 + "a.png"])
def test_results_have_the_name_of_the_file(name):
    assert describe(name) == describe(Path(name)) == name
    assert describe(os.fsencode(name).decode(errors="surrogateescape")) == name
    assert refusal(name).partition(": ")[0].isprintable()


def test_is_image_path():
    for name in (
        "a.png",
        "a.JPG",
        "a.b.jpeg",
        "a.webp",
        "a.tif",
        "a.gif",
        "a.bmp",
        "a.HEIC",
        "a.hif",
        "a.jxl",
        "a.avif",
        Path("d/a.PNG"),
    ):
        assert is_image_path(name)
    for name in ("a", "png", ".png", "a.txt", "a.pdf", "a.eps", "a.mpeg", "a.h5", "a.png.txt"):
        assert not is_image_path(name)


def test_find_images(tmp_path):
    top = tmp_path / "top"
    for name in ("b.png", "a.JPG", "B/c.gif", "B/deep/d.webp", "é/e.tif"):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).touch()
    # What cannot be opened is named, too: it gets a line that says why.
    inside = ("B/c.gif", "B/deep/d.webp", "a.JPG", "b.png", "dead.png", "pipe.png", "é/e.tif")
    expected = [top / name for name in inside]
    for name in (".hidden.png", "notes.txt", ".git/x.png", "B/.thumbs/y.png"):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).touch()
    (top / "folder.png").mkdir()
    os.mkfifo(top / "pipe.png")
    (top / "dead.png").symlink_to("nowhere.png")
    (top / "B" / "up").symlink_to(top)
    (top / "self").symlink_to("self")
    assert find_images(top) == find_images(str(top)) == expected
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "o.png").touch()
    (top / "link").symlink_to(outside)
    (top / "link2").symlink_to(outside)
    assert set(find_images(top)) - set(expected) == {top / "link" / "o.png"}


def test_find_images_in_a_bad_folder(png):
    for folder, reason in [(png.parent / "none", "No such file"), (png, "Not a directory")]:
        with pytest.raises(ImageError, match=reason) as caught:
            find_images(folder)
        assert str(folder) in str(caught.value)


def test_import_is_light():
    code = """
import sys
from PIL import Image, ImageFile
before = set(sys.modules)
import mdan_zoo.images.load
print({"torch", "numpy"} & (set(sys.modules) - before))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.skipif(sys.platform != "linux", reason="counts the open files in /proc")
def test_no_file_is_left_open(png):
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        load_image(png)
        refusal(png.parent)
        refusal(io.BytesIO(b"x"))
    assert len(os.listdir("/proc/self/fd")) == before
