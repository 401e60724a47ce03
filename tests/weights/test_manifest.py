"""The weights manifest: read strictly from file or URL, and as its JSON Schema describes it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import socket
import threading
import warnings
from http.server import BaseHTTPRequestHandler, HTTPServer

import jsonschema
import pytest
from clean_checkout import ROOT
from image_server import image_server
from manifest_cases import ACCEPTED, PACKAGE, REFUSED, RELEASED, SHA256, UNRELEASED, of, released

from mdan_zoo.errors import ManifestError
from mdan_zoo.weights import manifest
from mdan_zoo.weights.manifest import (
    ManifestWarning,
    Source,
    is_offline,
    load_manifest,
    manifest_path,
)

SCHEMA = json.loads((ROOT / "weights_manifest.schema.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """No test depends on how its caller set the variables."""
    for name in (manifest.MANIFEST_VARIABLE, *manifest.OFFLINE_VARIABLES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


@pytest.fixture
def write(tmp_path):
    def write(content, name="manifest.json"):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


# --- the schema and the reader agree


def test_the_manifest_of_the_package_is_as_the_schema_says():
    VALIDATOR.check_schema(SCHEMA)
    VALIDATOR.validate(json.loads(manifest_path().read_text(encoding="utf-8")))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_manifest()


@pytest.mark.parametrize("case", ACCEPTED)
@pytest.mark.filterwarnings("ignore::mdan_zoo.weights.manifest.ManifestWarning")
def test_schema_and_reader_accept(case, write):
    VALIDATOR.validate(ACCEPTED[case])
    assert list(load_manifest(write(ACCEPTED[case]))) == list(ACCEPTED[case]["models"])


@pytest.mark.parametrize("case", REFUSED)
def test_schema_and_reader_refuse(case, write):
    content, message = REFUSED[case]
    assert not VALIDATOR.is_valid(content)
    path = write(content)
    with pytest.raises(ManifestError, match=message) as caught:
        load_manifest(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [b"<html>", b"", b"\xff\xff", b"[" * 200_000, b'{"a": NaN}', b'{"a": 1e999}', b'"\\ud800"'],
    ids=["html", "empty", "bytes", "deep", "nan", "infinite", "half a character"],
)
def test_what_is_not_json_is_reported(content, tmp_path):
    path = tmp_path / "manifest.json"
    path.write_bytes(content)
    with pytest.raises(ManifestError, match=r"cannot read the weights manifest .*manifest\.json: "):
        load_manifest(path)


def test_a_long_value_is_not_shown_whole(write):
    with pytest.raises(ManifestError) as caught:
        load_manifest(write(released(sha256="x" * 10_000)))
    assert len(str(caught.value)) < 500


# --- what is read


def test_every_field_is_read(write):
    entry = load_manifest(write(released(metrics={"accuracy": 0.5}, reason="")))["m"]
    assert dataclasses.asdict(entry) == {
        **RELEASED,
        "name": "m",
        "reason": "",
        "sources": ({**PACKAGE, "repo": "", "revision": "", "url": "", "base": ""},),
        "details": {"metrics": {"accuracy": 0.5}},
    }
    assert entry.released
    assert not load_manifest(write(of(UNRELEASED)))["m"].released


def test_a_relative_source_has_the_folder_of_its_manifest(tmp_path, write, monkeypatch):
    folder = tmp_path / "my weights"
    folder.mkdir()
    relative = {"type": "relative", "path": "m.safetensors"}
    write(released(sources=[PACKAGE, relative]), "my weights/manifest.json")
    base = tmp_path.as_uri() + "/my%20weights/"
    expected = (Source(**PACKAGE), Source(**relative, base=base))
    assert load_manifest(folder / "manifest.json")["m"].sources == expected
    monkeypatch.chdir(folder)
    assert load_manifest("manifest.json")["m"].sources == expected
    deeper = folder / "deeper"
    deeper.mkdir()
    (tmp_path / "link").symlink_to(deeper)
    assert load_manifest(f"{tmp_path}/link/../manifest.json")["m"].sources == expected


def test_unknown_fields_are_named_and_those_of_an_entry_are_kept(write):
    content = {
        **of({**RELEASED, "colour": "red", "licences": {**RELEASED["licences"], "site": "x"}}),
        "mirrors": [],
    }
    content["models"]["m"]["sources"] = [{**PACKAGE, "region": "eu"}]
    with pytest.warns(ManifestWarning) as caught:
        entry = load_manifest(write(content))["m"]
    told = [str(warning.message) for warning in caught]
    for place, field in [
        ("json", "mirrors"),
        ("m", "colour"),
        ("m.licences", "site"),
        ("m.sources[0]", "region"),
    ]:
        end = f"{place} has fields that this version of mdan_zoo does not know: {field}"
        assert [text for text in told if text.endswith(end)], (end, told)
    assert len(told) == 4
    assert entry.details == {
        "colour": "red",
        "licences": {"site": "x"},
        "sources": [{"region": "eu"}],
    }
    assert entry.sources == (Source(**PACKAGE),)


def test_known_details_and_a_link_to_the_schema_give_no_warning(write):
    content = {**ACCEPTED["every detail"], "$schema": "weights_manifest.schema.json"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_manifest(write(content))["m"].details["version"] == "2"


# --- another manifest, by its path


def test_entries_of_another_manifest_come_first(write, monkeypatch):
    builtin = load_manifest()
    assert builtin["mdan_oasis4"].details
    path = write({"schema_version": 1, "models": {"mdan_oasis4": UNRELEASED, "mine": RELEASED}})
    monkeypatch.setenv("MDAN_ZOO_MANIFEST", str(path))
    merged = load_manifest()
    assert merged.pop("mine").sha256 == SHA256
    replaced = merged["mdan_oasis4"]
    assert (replaced.released, replaced.file, replaced.details) == (False, "", {})
    assert merged | {"mdan_oasis4": builtin["mdan_oasis4"]} == builtin
    assert load_manifest(manifest_path()) == builtin  # a path is that file alone


def test_another_manifest_is_read_at_every_call(write, monkeypatch):
    path = write(of(RELEASED))
    monkeypatch.setenv("MDAN_ZOO_MANIFEST", str(path))
    assert load_manifest()["m"].released
    write(of(UNRELEASED))
    assert not load_manifest()["m"].released
    monkeypatch.setenv("MDAN_ZOO_MANIFEST", "")
    assert "m" not in load_manifest()


def test_a_missing_manifest_is_reported_with_its_variable(tmp_path, monkeypatch):
    path = tmp_path / "gone.json"
    monkeypatch.setenv("MDAN_ZOO_MANIFEST", str(path))
    with pytest.raises(ManifestError, match="No such file") as caught:
        load_manifest()
    assert f"{path} (named by MDAN_ZOO_MANIFEST)" in str(caught.value)


def test_a_fault_in_another_manifest_is_reported_with_its_variable(write, monkeypatch):
    monkeypatch.setenv("MDAN_ZOO_MANIFEST", str(write(released(size=0))))
    with pytest.raises(ManifestError, match=r"\(named by MDAN_ZOO_MANIFEST\): m\.size is 0"):
        load_manifest()


# --- another manifest, by its URL

RELATIVE = {"type": "relative", "path": "m.safetensors"}


@pytest.fixture
def server(monkeypatch):
    """Serve a manifest below /good, and failures elsewhere."""
    manifest._load_url.cache_clear()
    with image_server(json.dumps(released(sources=[RELATIVE])).encode()) as running:
        yield running
    manifest._load_url.cache_clear()


@contextlib.contextmanager
def redirecting_server(location):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(302)
            self.send_header("Location", location)
            self.end_headers()

        def log_message(self, *args):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{running.server_port}/m.json"
        finally:
            running.shutdown()
            thread.join()


def refusal(monkeypatch, url):
    """Return what is said of a URL, after the part that every message begins with."""
    monkeypatch.setenv("MDAN_ZOO_MANIFEST", url)
    with pytest.raises(ManifestError) as caught:
        load_manifest()
    begin = f"cannot read the weights manifest {url} (named by MDAN_ZOO_MANIFEST): "
    assert str(caught.value).startswith(begin)
    return str(caught.value)[len(begin) :]


@pytest.mark.parametrize("path", ["/good/v1/m.json?token=a/b", "/no-length/v1/m.json"])
def test_a_manifest_behind_a_url_is_merged(path, server, monkeypatch):
    monkeypatch.setenv("MDAN_ZOO_MANIFEST", server.url(path))
    entries = load_manifest()
    assert set(entries) == {*load_manifest(manifest_path()), "m"}
    base = server.url(path.partition("m.json")[0])
    assert entries["m"].sources == (Source(**RELATIVE, base=base),)


def test_a_redirect_is_followed_and_the_base_stays(server, monkeypatch):
    monkeypatch.setenv("MDAN_ZOO_MANIFEST", server.url("/elsewhere/m.json"))
    assert load_manifest()["m"].sources[0].base == server.url("/elsewhere/")
    assert [path for path, _ in server.requests] == ["/elsewhere/m.json", "/good"]


def test_a_url_is_asked_once(server, monkeypatch):
    monkeypatch.setenv("MDAN_ZOO_MANIFEST", server.url("/good"))
    load_manifest().clear()
    assert "m" in load_manifest()
    assert len(server.requests) == 1


def test_a_failure_is_not_kept(server, monkeypatch):
    for _ in range(2):
        refusal(monkeypatch, server.url("/missing"))
    assert len(server.requests) == 2


FAILURES = {
    "missing": "the server answered 404 Not Found: it does not have the file",
    "broken": "the server answered 503 Service Unavailable",
    "endless": "it has more than max_bytes=4,194,304 bytes",
    "announced-large": "it has more than max_bytes=4,194,304 bytes",
    "loop": "more than 10 redirects",
    "to-file": "it redirects to 'file:///etc/hostname', not to http or https",
    "to-ftp": "it redirects to 'ftp://127.0.0.1/image.png', not to http or https",
}


@pytest.mark.parametrize("path", FAILURES)
def test_a_url_without_a_manifest_is_reported(path, server, monkeypatch):
    assert refusal(monkeypatch, server.url(f"/{path}")) == FAILURES[path]


@pytest.mark.parametrize("path", ["hang", "drip", "drip-headers"])
def test_a_slow_answer_is_given_up(path, server, monkeypatch):
    monkeypatch.setattr(manifest, "URL_TIMEOUT", 0.5)
    said = refusal(monkeypatch, server.url(f"/{path}"))
    assert said == "no complete answer within 0.5 s"


def test_a_page_instead_of_a_manifest_is_reported(server, monkeypatch):
    assert refusal(monkeypatch, server.url("/html")).startswith("Expecting value")


def test_a_redirect_to_http_elsewhere_is_not_followed(monkeypatch):
    with redirecting_server("http://192.0.2.1/m.json?token=secret") as url:
        said = refusal(monkeypatch, url)
    assert said == "it redirects from http to 'http://192.0.2.1/m.json', which is not encrypted"


def test_a_refused_connection_is_reported(monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, but it does not listen
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/m.json"
        assert refusal(monkeypatch, url) == "the connection failed (Connection refused)"


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/m.json?token=secret",
        "ftp://example.org/m.json",
        "file:///srv/m.json",
        "https://user:secret@example.org/m.json",
    ],
)
def test_other_urls_are_refused_and_secrets_not_shown(url, monkeypatch):
    monkeypatch.setenv("MDAN_ZOO_MANIFEST", url)
    with pytest.raises(ManifestError, match="must be a path or an https://") as caught:
        load_manifest()
    assert "(named by MDAN_ZOO_MANIFEST)" in str(caught.value)
    assert "secret" not in str(caught.value)


# --- offline


@pytest.mark.parametrize("variable", ["MDAN_ZOO_OFFLINE", "HF_HUB_OFFLINE"])
@pytest.mark.parametrize("value", ["1", "on", "Yes", "TRUE"])
def test_offline(variable, value, monkeypatch):
    assert not is_offline()
    monkeypatch.setenv(variable, value)
    assert is_offline()


@pytest.mark.parametrize("value", ["", "0", "no", "2"])
def test_not_offline(value, monkeypatch):
    monkeypatch.setenv("MDAN_ZOO_OFFLINE", value)
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    assert not is_offline()


def test_no_connection_is_made_offline(server, write, monkeypatch):
    monkeypatch.setenv("MDAN_ZOO_OFFLINE", "1")
    said = refusal(monkeypatch, server.url("/good"))
    assert said.startswith("MDAN_ZOO_OFFLINE or HF_HUB_OFFLINE forbids the use of the network")
    assert said.endswith("a path to a copy of it works offline")
    assert not server.requests
    monkeypatch.setenv("MDAN_ZOO_MANIFEST", str(write(of(RELEASED))))
    assert "m" in load_manifest()
