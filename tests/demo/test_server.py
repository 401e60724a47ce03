"""The demo's server: what it gives to whom, what it keeps, and where it can be reached."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path
from urllib.parse import quote

import pytest
import requests
from filelock import FileLock

pytest.importorskip("gradio", reason="the demo needs Gradio")

from demo_server import NOTE_CONNECTIONS, running_demo

from mdan_zoo.cli.demo import add_parser
from mdan_zoo.demo.app import EXAMPLES
from mdan_zoo.demo.guard import names_only, read_question
from mdan_zoo.demo.models import choose_default, find_models
from mdan_zoo.demo.server import (
    DEFAULT_PORT,
    MAX_UPLOAD,
    is_loopback,
    open_socket,
    remove_abandoned,
)
from mdan_zoo.errors import InputError
from mdan_zoo.weights import fetch
from mdan_zoo.weights.manifest import load_manifest
from mdan_zoo.zoo.configs import DEFAULT_MODEL

CAT = EXAMPLES["Try a cat"][0].path
WEIGHTS = fetch.find_local(load_manifest()["mdan_oasis4"])


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A demo that keeps uploads for a minute."""
    with running_demo(tmp_path_factory.mktemp("demo"), keep_seconds=60) as running:
        yield running


def get(demo, path: str) -> requests.Response:
    """Ask for a path as it stands; requests by itself would resolve its dots."""
    request = requests.Request("GET", demo.url).prepare()
    request.url = demo.url + path
    with requests.Session() as session:
        return session.send(request, timeout=60, allow_redirects=False)


def upload(demo, path: Path, name: str | None = None) -> str:
    """Upload a file; return its path on the server."""
    files = {"files": (name or path.name, path.read_bytes())}
    (where,) = requests.post(f"{demo.url}gradio_api/upload", files=files, timeout=60).json()
    return where


def ask(demo, path: str) -> str:
    """Ask to predict the file at a path of the server; return all that comes back."""
    config = requests.get(f"{demo.url}config", timeout=60).json()
    ids = {c["id"]: c["type"] for c in config["components"]}
    (event,) = [d["id"] for d in config["dependencies"] if "file" in [ids[i] for i in d["inputs"]]]
    session = uuid.uuid4().hex
    file = {"path": path, "meta": {"_type": "gradio.FileData"}}
    question = {"data": [[file], "mdan_oasis4"], "fn_index": event, "session_hash": session}
    joined = requests.post(f"{demo.url}gradio_api/queue/join", json=question, timeout=60)
    if joined.status_code != 200:
        return joined.text
    address = f"{demo.url}gradio_api/queue/data?session_hash={session}"
    return requests.get(address, timeout=120).text  # ends with the answer


def test_an_upload_is_predicted_by_whoever_made_it(demo):
    assert "1 image predicted by mdan_oasis4" in ask(demo, upload(demo, CAT))


IN_A_NETWORK_OF_ITS_OWN = """
import fcntl, socket, struct, sys
from pathlib import Path
request = struct.pack("16sh", b"lo", 1)  # up; SIOCSIFFLAGS sets it
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
    fcntl.ioctl(any_socket, 0x8914, request)
from demo_server import running_demo
from test_server import CAT, ask, upload
with running_demo(Path(sys.argv[1])) as demo:
    print(ask(demo, upload(demo, CAT)))
"""


def test_no_other_host_is_needed(tmp_path):
    """The kernel gives the server a network in which there is nobody else."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rn", "true"]).returncode:
        pytest.skip("a network of its own needs Linux, unshare, and the right to use it")
    command = ["unshare", "-rn", sys.executable, "-c", IN_A_NETWORK_OF_ITS_OWN, tmp_path]
    here = Path(__file__).parent
    places = os.pathsep.join([str(here), str(here.parent / "helpers")])
    before = os.environ.get("PYTHONPATH", "")
    environment = os.environ | {"PYTHONPATH": f"{places}{os.pathsep}{before}"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert "1 image predicted by mdan_oasis4" in done.stdout, done.stderr


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        str(WEIGHTS),
        str(Path(__file__)),
        str(CAT),
        "{uploads}/../../../../../../../../etc/passwd",
        "{uploads}_other/cat.jpg",
        "mdan_zoo/demo/examples/cat.jpg",
        "file:///etc/passwd",
        "http://example.com/cat.jpg",
    ],
)
def test_no_file_but_an_upload_is_read_for_a_request(demo, path):
    assert ask(demo, path.format(uploads=demo.uploads)) == "not a request of this page"
    assert demo.connections.read_text() == ""


@pytest.mark.parametrize("prefix", ["gradio_api/file=", "file=", "gradio_api/file/", "static/"])
@pytest.mark.parametrize("encoded", [False, True])
def test_no_path_of_the_server_can_be_read(demo, prefix, encoded):
    mine = upload(demo, CAT)
    assert Path(mine).read_bytes() == CAT.read_bytes()
    dots = "../" * 12
    for path in (mine, "/etc/passwd", str(WEIGHTS), f"{dots}etc/passwd", f"{demo.uploads}"):
        reply = get(demo, prefix + (quote(path, safe="") if encoded else path))
        assert reply.status_code in {403, 404}
        assert b"root:" not in reply.content
        assert reply.content != CAT.read_bytes()


@pytest.mark.parametrize(
    "path",
    [
        "docs",
        "redoc",
        "openapi.json",
        "gradio_api/info",
        "gradio_api/openapi.json",
        "gradio_api/file=http://example.com/",
        "gradio_api/proxy=http://example.com/",
        "gradio_api/runs",
        "gradio_api/vibe-code",
        "gradio_api/deep_link",
        "monitoring",
        "gradio_api/token",
    ],
)
def test_what_the_page_does_not_need_is_not_there(demo, path):
    assert get(demo, path).status_code == 404


@pytest.mark.parametrize("path", ["run/_take_files", "call/predict", "component_server", "api/x"])
def test_there_is_no_other_way_to_ask(demo, path):
    assert requests.post(f"{demo.url}gradio_api/{path}", json={}, timeout=60).status_code == 404


def test_browsers_may_load_only_from_the_server(demo):
    reply = get(demo, "")
    assert "default-src 'self'" in reply.headers["Content-Security-Policy"]
    for word in ("fonts.googleapis", "cdnjs", "api.gradio.app"):
        assert word not in reply.text + get(demo, "theme.css").text


def test_a_name_cannot_leave_the_upload_folder(demo):
    where = Path(upload(demo, CAT, "../../../../outside.jpg"))
    assert where.resolve().is_relative_to(demo.uploads.resolve())


def test_a_file_that_is_too_large_is_not_kept(demo, tmp_path):
    large = tmp_path / "large.jpg"
    large.write_bytes(bytes(MAX_UPLOAD + 1))
    before = files_in(demo.uploads)
    files = {"files": (large.name, large.read_bytes())}
    reply = requests.post(f"{demo.url}gradio_api/upload", files=files, timeout=60)
    assert reply.status_code in {400, 413}
    assert files_in(demo.uploads) == before


def test_uploads_are_deleted(tmp_path):
    with running_demo(tmp_path, keep_seconds=1) as demo:
        old = Path(upload(demo, CAT))
        assert old.read_bytes() == CAT.read_bytes()
        break_off_an_upload(demo)
        other_field = {"other": (CAT.name, CAT.read_bytes())}
        requests.post(f"{demo.url}gradio_api/upload", files=other_field, timeout=60)
        assert len(files_in(demo.uploads)) == 3
        deadline = time.monotonic() + 60
        while files_in(demo.uploads):
            assert time.monotonic() < deadline, "uploads are still there"
            time.sleep(0.2)
        assert Path(upload(demo, CAT)).exists()  # left behind for the end
    assert not demo.uploads.exists()


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def break_off_an_upload(demo) -> None:
    """Send the head and some of an image, wait until it is being kept, and hang up."""
    port = int(demo.url.rstrip("/").rpartition(":")[2])
    before = len(files_in(demo.uploads))
    head = (
        b"POST /gradio_api/upload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n"
        b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
        b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.jpg"\r\n\r\n'
    )
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(head + bytes(100_000))
        deadline = time.monotonic() + 60
        while len(files_in(demo.uploads)) == before:
            assert time.monotonic() < deadline, "the upload does not begin"
            time.sleep(0.05)


def test_what_a_killed_server_left_is_deleted_and_nothing_else(tmp_path):
    names = ("killed", "running", "young", "unlocked")
    folders = {name: tmp_path / f"mdan_zoo_demo_{name}" for name in names}
    folders["other"] = tmp_path / "other"
    for name, folder in folders.items():
        (folder / "uploads").mkdir(parents=True)
        (folder / "uploads" / "cat.jpg").write_bytes(b"")
        if name != "unlocked":
            (folder / "lock").write_bytes(b"")
    with FileLock(folders["running"] / "lock"):
        for name in set(folders) - {"young"}:
            os.utime(folders[name], (0, 0))
        remove_abandoned(tmp_path)
    assert {name for name, folder in folders.items() if folder.exists()} == set(folders) - {
        "killed"
    }


def test_connections_would_be_noted(tmp_path):
    """The control for the tests which find that none was made."""
    code = NOTE_CONNECTIONS + "import socket; socket.create_connection(('127.0.0.1', 9), 1)"
    log = tmp_path / "log.txt"
    subprocess.run([sys.executable, "-c", code, log], capture_output=True)
    assert "socket.connect" in log.read_text()


@pytest.mark.parametrize(
    "value",
    [
        {"data": [[{"path": "{uploads}/a.jpg"}], "mdan_oasis4"]},
        {"data": [], "url": "https://example.com/"},
        ["/etc/passwd"],
    ],
)
def test_questions_about_uploads_are_let_through(tmp_path, value):
    assert names_only(tmp_path, placed(value, tmp_path))


@pytest.mark.parametrize(
    "value",
    [
        {"data": [[{"path": "https://example.com/a.jpg"}], "mdan_oasis4"]},
        {"data": [[{"path": "{uploads}/a.jpg"}, {"path": "{uploads}/../a.jpg"}]]},
        {"data": [{"value": {"deep": [{"path": "/etc/passwd"}]}}]},
        {"path": "{uploads}/link/passwd"},
        {"path": "a\0b"},
        {"path": None},
        {"path": ["{uploads}/a.jpg"]},
    ],
)
def test_questions_about_other_files_are_not(tmp_path, value):
    (tmp_path / "link").symlink_to("/etc")
    assert not names_only(tmp_path, placed(value, tmp_path))


def placed(value, uploads: Path):
    """Put the folder of the uploads into a question."""
    return json.loads(json.dumps(value).replace("{uploads}", str(uploads)))


def test_deeply_nested_questions_are_judged(tmp_path):
    value = {"path": "/etc/passwd"}
    for _ in range(50_000):
        value = [value]
    assert not names_only(tmp_path, value)


@pytest.mark.parametrize("body", [None, b"", b"{", b"[]", b"1", b"[" * 50_000, b"\xff"])
def test_what_is_no_json_object_is_no_question(body):
    assert read_question(body) is None


# The address


def test_a_port_that_is_taken_is_passed_over_unless_it_was_asked_for():
    with open_socket("127.0.0.1", None) as first, open_socket("127.0.0.1", None) as second:
        ports = [listener.getsockname()[1] for listener in (first, second)]
        assert DEFAULT_PORT <= ports[0] < ports[1]
        assert first.getsockname()[0] == "127.0.0.1"
        with pytest.raises(
            InputError, match=f"cannot listen on 127.0.0.1, port {ports[0]}: .+in use"
        ):
            open_socket("127.0.0.1", ports[0])


@pytest.mark.parametrize(("host", "port"), [("no.such.host.invalid", 0), ("127.0.0.1", 70_000)])
def test_an_address_that_cannot_be_is_an_error(host, port):
    with pytest.raises(InputError, match=f"cannot listen on {host}, port {port}"):
        open_socket(host, port)


def test_loopback_addresses_are_known():
    assert all(map(is_loopback, ("127.0.0.1", "localhost", "::1")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.1.2", "example.com")))


def test_the_command_serves_at_this_machine_alone_until_it_is_stopped():
    code = (
        "import argparse; from mdan_zoo.cli.demo import add_parser; p = argparse.ArgumentParser();"
        "add_parser(p.add_subparsers()); o = p.parse_args(); raise SystemExit(o.run(o))"
    )
    command = [sys.executable, "-c", code, "demo", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            url = process.stdout.readline().strip()
            assert url.startswith("http://127.0.0.1:")
            assert requests.get(url, timeout=60).status_code == 200
            port = int(url.rstrip("/").rpartition(":")[2])
            with pytest.raises(OSError), socket.create_connection(("127.0.0.2", port), timeout=5):
                pass
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(30) in {0, 130, -signal.SIGINT}


def test_the_command_offers_an_address():
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    options = parser.parse_args(["demo"])
    assert (options.host, options.port) == ("127.0.0.1", None)


# The models


def test_models_with_weights_come_first_and_the_others_say_why():
    models = find_models()
    ready = [model.name for model in models if model.weights is not None]
    assert ready == ["flat_fi8_lite0", "flat_oasis4", DEFAULT_MODEL, "mdan_oasis4"]
    assert [model.name for model in models[: len(ready)]] == ready
    assert all(model.status == "ready" for model in models[: len(ready)])
    assert all("not been trained yet" in model.status for model in models[len(ready) :])
    assert choose_default(models) == DEFAULT_MODEL


def test_a_released_model_that_is_not_here_says_how_to_get_it(tmp_path, monkeypatch):
    (tmp_path / "manifest.json").write_text(json.dumps(manifest_with_a_mirror()))
    monkeypatch.setenv("MDAN_ZOO_MANIFEST", str(tmp_path / "manifest.json"))
    monkeypatch.setenv("MDAN_ZOO_CACHE", str(tmp_path / "cache"))
    (model,) = [model for model in find_models() if model.name == DEFAULT_MODEL]
    assert model.weights is None
    assert model.status == f"not downloaded: mdan-zoo download {DEFAULT_MODEL}"
    assert choose_default(find_models()) == "flat_fi8_lite0"


def manifest_with_a_mirror() -> dict:
    """Return a manifest whose default model is on a server only."""
    from mdan_zoo.weights.manifest import manifest_path

    manifest = json.loads(manifest_path().read_text())
    entry = manifest["models"][DEFAULT_MODEL]
    entry["sources"] = [{"type": "https", "url": "https://example.com/model.safetensors"}]
    return {"schema_version": 1, "models": {DEFAULT_MODEL: entry}}
