"""Images behind URLs, from a real server on this machine."""

from __future__ import annotations

import io
import socket
import threading
from pathlib import Path

import pytest
from image_helpers import prompt_refusal, refusal
from image_server import image_server
from PIL import Image

from mdan_zoo.errors import printable
from mdan_zoo.images.load import ImageOptions, load_image
from mdan_zoo.images.naming import describe

HASTY = ImageOptions(timeout=0.5)


@pytest.fixture(scope="module")
def image() -> Image.Image:
    return Image.effect_noise((80, 60), 90).convert("RGB")


@pytest.fixture(scope="module")
def running_server(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    with image_server(buffer.getvalue()) as server:
        yield server


@pytest.fixture
def server(running_server, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    running_server.requests.clear()
    return running_server


@pytest.mark.parametrize("path", ["/good", "/good.png?size=full#top", "/no-length", "/named"])
def test_image_arrives(server, image, path):
    path = path.replace("/good.png", "/good/a.png")
    loaded = load_image(server.url(path))
    assert loaded.mode == "RGB"
    assert loaded.tobytes() == image.tobytes()


def test_scheme_in_capitals(server, image):
    assert load_image(server.url("/good").replace("http", "HTTP")).tobytes() == image.tobytes()


def test_name_hides_secrets(server):
    url = server.url("/missing/p.png?token=secret#secret").replace("//", "//user:secret@")
    assert describe(url) == server.url("/missing/p.png")
    said = "the server answered 404 Not Found: it does not have the file"
    assert refusal(url, HASTY) == f"{server.url('/missing/p.png')}: {said}"


def test_password_does_not_follow_a_redirect_to_another_host(server, image):
    url = server.url("/elsewhere").replace("//", "//user:secret@")
    assert load_image(url).tobytes() == image.tobytes()
    (_, first), (_, second) = server.requests
    assert first["Authorization"].startswith("Basic ")
    assert "Authorization" not in second


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/missing", "the server answered 404 Not Found: it does not have the file"),
        ("/broken", "the server answered 503 Service Unavailable"),
        ("/nothing", "the server answered 204 No Content"),
        ("/empty", "it is empty"),
        ("/html", "it is an HTML page, not an image"),
        ("/to-file", "it redirects to 'file:///etc/hostname', not to http or https"),
        ("/to-ftp", "it redirects to 'ftp://127.0.0.1/image.png', not to http or https"),
        ("/loop", "more than 10 redirects"),
    ],
)
def test_wrong_answers(server, path, reason):
    options = ImageOptions(timeout=20)
    assert refusal(server.url(path), options) == f"{server.url(path)}: {reason}"


def test_redirects_are_counted(server):
    refusal(server.url("/loop"))
    assert len(server.requests) == 11


@pytest.mark.parametrize("path", ["/hang", "/drip", "/drip-headers"])
def test_slow_servers_are_given_up(server, path):
    assert prompt_refusal(server.url(path), HASTY) == (
        f"{server.url(path)}: no complete answer within 0.5 s"
    )


def test_body_of_a_redirect_is_not_read(server, image):
    url = server.url("/endless-redirect")
    assert load_image(url, ImageOptions(timeout=20)).tobytes() == image.tobytes()


@pytest.mark.parametrize("path", ["/cut", "/half-announced"])
def test_false_lengths(server, path):
    url = server.url(path)
    assert refusal(url, ImageOptions(timeout=20)).startswith(url + ": ")


@pytest.mark.parametrize("path", ["/endless", "/announced-large"])
def test_large_bodies_are_cut_off(server, path):
    message = prompt_refusal(server.url(path), ImageOptions(timeout=20, max_bytes=300_000))
    assert message == f"{server.url(path)}: it has more than max_bytes=300,000 bytes"


def test_limit_of_bytes_is_exact(server, image):
    size = len(server.image)
    for path in ("/good", "/no-length"):
        loaded = load_image(server.url(path), ImageOptions(max_bytes=size))
        assert loaded.tobytes() == image.tobytes()
        message = refusal(server.url(path), ImageOptions(max_bytes=size - 1))
        assert message == f"{server.url(path)}: it has more than max_bytes={size - 1:,} bytes"


def test_no_server():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    message = refusal(f"http://127.0.0.1:{port}/p.png?token=secret", ImageOptions(timeout=20))
    assert message == f"http://127.0.0.1:{port}/p.png: the connection failed (Connection refused)"


@pytest.mark.parametrize(
    "url", ["http://", "http://[::1/p.png", "https://?token=secret", "http://a b/", "http://x:y/"]
)
def test_malformed_urls(url):
    message = refusal(url, ImageOptions(timeout=20))
    assert "cannot send the request: invalid URL or proxy (InvalidURL)" in message
    assert "secret" not in message


ONLY_HTTP = "only URLs that start with http:// or https:// are read"


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/p.png", "file:///p.png", "s3://bucket/p.png"])
def test_other_schemes(url):
    assert refusal(url, HASTY) == f"{url}: {ONLY_HTTP}"


@pytest.mark.parametrize("start", [" ", "\ufeff", "url=", "S3://", "ftp://", "git+ssh://"])
def test_secrets_are_hidden_in_any_scheme_and_position(start, tmp_path):
    scheme = start if start.endswith("://") else f"{start}https://"
    url = f"{scheme}user:password@host/p.png?sig=a secret#secret"
    assert describe(url) == f"{scheme}host/p.png"
    assert refusal(url) == f"{printable(describe(url))}: {ONLY_HTTP}"


def test_secrets_are_hidden_in_other_kinds_of_names():
    url = "https://user:password@host/p.png?sig=secret"
    assert describe(Path(url)) == "https:/host/p.png"
    with io.BytesIO() as file:
        file.name = url
        assert describe(file) == "https://host/p.png"


def test_paths_are_no_urls():
    for path in ("a@b/c?d#e.png", "C:/a@b/c#d.png", "12:/a@b", "/data//a@b?c"):
        assert describe(path) == path


def test_many_at_once(server, image):
    failures: list[object] = []

    def fetch() -> None:
        try:
            assert load_image(server.url("/good")).tobytes() == image.tobytes()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=fetch) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
