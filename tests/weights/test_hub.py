"""Search for a weight file: places, order and error messages."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest
from fault_server import FaultServer, status
from hub_helpers import (
    CONTENT,
    FILE,
    OTHER,
    PLACE,
    entry_for,
    mirror,
    mirrored,
    repository,
    stored,
)

from mdan_zoo.errors import CheckpointError, WeightsUnavailableError
from mdan_zoo.weights import fetch
from mdan_zoo.weights.fetch import DamagedWeightsWarning
from mdan_zoo.weights.manifest import Source

PACKED = Source("package", path="weights/packed.safetensors")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package folder; return where it has its weight file."""
    monkeypatch.setattr(fetch, "_PACKAGE", tmp_path / "package")
    (tmp_path / "package" / "weights").mkdir(parents=True)
    return tmp_path / "package" / PACKED.path


def file_source(path) -> Source:
    return Source("file", url=path.as_uri())


# Order


def test_the_package_comes_first_wherever_it_is_listed(package, server, cache):
    package.write_bytes(CONTENT)
    entry = dataclasses.replace(mirrored(server), sources=(mirror(server.url(PLACE)), PACKED))
    assert fetch.find_weights(entry) == package
    assert server.connections == 0
    assert not cache.exists()
    path = fetch.cached_path(entry)
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    assert fetch.find_weights(entry) == package


def test_the_package_needs_no_folder_for_downloads(package, server, monkeypatch):
    """A process without a home folder, say, has none."""
    package.write_bytes(CONTENT)
    monkeypatch.setenv("MDAN_ZOO_CACHE", "~no_such_user/cache")
    entry = dataclasses.replace(mirrored(server), sources=(PACKED,))
    assert fetch.find_weights(entry) == package


def test_the_cache_comes_before_the_other_sources(package, server, cache, tmp_path):
    (tmp_path / "file").write_bytes(CONTENT)
    sources = (PACKED, file_source(tmp_path / "file"), mirror(server.url(PLACE)))
    entry = dataclasses.replace(mirrored(server), sources=sources)
    path = fetch.cached_path(entry)
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    assert fetch.find_weights(entry) == path
    assert server.connections == 0
    assert not (cache / ".locks").exists()


def test_sources_are_tried_in_their_order(server, cache, tmp_path):
    server.files |= {"/1": CONTENT, "/3": CONTENT}
    server.always["/1"] = status(404)
    server.faults["/3"] = [status(500)]
    (tmp_path / "wrong").write_bytes(b"too short")
    sources = (
        mirror(server.url("/1")),
        file_source(tmp_path / "absent"),
        mirror(server.url("/2")),
        mirror(server.url("/3")),
        mirror(server.url("/4")),
    )
    path = fetch.find_weights(entry_for(CONTENT, *sources))
    assert path.read_bytes() == CONTENT
    assert [request.path for request in server.requests] == ["/1", "/2", "/3", "/3"]


def test_a_damaged_package_is_passed_over(package, server, cache):
    package.write_bytes(OTHER)
    entry = dataclasses.replace(mirrored(server), sources=(PACKED, mirror(server.url(PLACE))))
    with pytest.warns(DamagedWeightsWarning, match=r"package weights/packed\.safetensors"):
        assert fetch.find_weights(entry) == fetch.cached_path(entry)
    assert package.read_bytes() == OTHER


def test_a_broken_cache_does_not_end_the_search(server, cache, tmp_path):
    """Of the sources after it those that need no cache are tried."""
    cache.write_text("a file")
    good = tmp_path / "good.safetensors"
    server.files[PLACE] = CONTENT
    sources = (mirror(server.url(PLACE)), file_source(good), mirror(server.url("/2")))
    entry = entry_for(CONTENT, *sources)
    with pytest.raises(WeightsUnavailableError) as caught:
        fetch.find_weights(entry)
    told = str(caught.value).splitlines()[1:-1]
    assert [line.startswith(f"  {source}: ") for line, source in zip(told, sources, strict=True)]
    assert f"{cache}: cannot be written to: " in told[0]
    assert "is not a file" in told[1]
    good.write_bytes(CONTENT)
    assert fetch.find_weights(entry) == good
    assert server.connections == 0


# Files on this machine


@pytest.mark.parametrize("name", ["plain", "with space & ü%20?#"])
def test_a_local_file_is_used_where_it_is(name, cache, tmp_path):
    (tmp_path / name).mkdir()
    path = tmp_path / name / FILE
    path.write_bytes(CONTENT)
    relative = Source("relative", path=FILE, base=path.parent.as_uri() + "/")
    assert fetch.find_weights(entry_for(CONTENT, file_source(path))) == path
    assert fetch.find_weights(entry_for(CONTENT, relative)) == path
    assert not cache.exists()


def test_a_local_file_is_verified_at_every_call(cache, tmp_path):
    path = tmp_path / FILE
    entry = entry_for(CONTENT, file_source(path))
    with pytest.raises(WeightsUnavailableError, match="is not a file"):
        fetch.find_weights(entry)
    path.write_bytes(CONTENT)
    fetch.find_weights(entry)
    path.write_bytes(OTHER)
    with pytest.raises(CheckpointError, match=entry.sha256):
        fetch.find_weights(entry)


def test_what_this_machine_has_is_known_without_asking(package, server, cache, tmp_path):
    entry = dataclasses.replace(
        mirrored(server),
        sources=(mirror(server.url(PLACE)), file_source(tmp_path / FILE), PACKED),
    )
    assert fetch.find_local(entry) is None
    places = [tmp_path / FILE, fetch.cached_path(entry), package]
    for path in places:  # each comes before the one before
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(OTHER)
        assert fetch.find_local(entry) == path
    assert server.connections == 0


# Offline


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "MDAN_ZOO_OFFLINE"])
def test_offline_nobody_is_asked(variable, server, cache, tmp_path, monkeypatch):
    monkeypatch.setenv(variable, "1")
    monkeypatch.setenv("HF_ENDPOINT", server.url())
    beside_manifest = Source("relative", path=FILE, base=server.url("/mirror/"))
    entry = dataclasses.replace(
        mirrored(server), sources=(repository(), mirror(server.url(PLACE)), beside_manifest)
    )
    with pytest.raises(WeightsUnavailableError) as caught:
        fetch.find_weights(entry)
    lines = str(caught.value).splitlines()
    assert [": not asked: " in line for line in lines] == [False, True, True, True, False]
    assert f"at {fetch.cached_path(entry)}" in lines[-1]
    assert server.connections == 0
    assert not cache.exists()

    path = tmp_path / FILE
    path.write_bytes(CONTENT)
    entry = dataclasses.replace(entry, sources=(*entry.sources, file_source(path)))
    assert fetch.find_weights(entry) == path


def test_the_advice_works(server, cache, monkeypatch):
    """The file that is put where the message says is found."""
    monkeypatch.setenv("MDAN_ZOO_OFFLINE", "1")
    entry = mirrored(server)
    with pytest.raises(WeightsUnavailableError):
        fetch.find_weights(entry)
    fetch.cached_path(entry).parent.mkdir(parents=True)
    fetch.cached_path(entry).write_bytes(CONTENT)
    assert fetch.find_weights(entry) == fetch.cached_path(entry)


# Messages


def test_every_failure_is_reported(package, server, cache, tmp_path):
    server.always["/refused"] = status(403)
    sources = (
        PACKED,
        mirror(server.url("/absent")),
        mirror(server.url("/refused")),
        file_source(tmp_path / "absent"),
    )
    with pytest.raises(WeightsUnavailableError) as caught:
        fetch.find_weights(entry_for(CONTENT, *sources))
    first, *failures, last = str(caught.value).splitlines()
    assert first == f"the weights of mdan_test ({FILE}) are not available:"
    assert [line.partition(": ")[0] for line in failures] == [f"  {source}" for source in sources]
    assert "is not a file" in failures[0]
    assert "404 Not Found" in failures[1]
    assert "403 Forbidden" in failures[2]
    assert "checkpoint=" in last
    assert stored(cache) == []


def test_a_signature_in_an_address_is_not_told(server, cache):
    with pytest.raises(WeightsUnavailableError) as caught:
        fetch.find_weights(entry_for(CONTENT, mirror(server.url("/absent?signature=secret"))))
    assert "/absent: the server answered 404" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_unreleased_weights_are_reported_as_such(cache):
    entry = dataclasses.replace(entry_for(CONTENT), status="unreleased", reason="no data")
    with pytest.raises(WeightsUnavailableError, match="no released weights: no data"):
        fetch.find_weights(entry)


def test_without_a_home_folder_it_is_reported(monkeypatch, cache):
    monkeypatch.delenv("MDAN_ZOO_CACHE")
    monkeypatch.setenv("MDAN_ZOO_CACHE", "~no_such_user_of_this_machine/cache")
    with pytest.raises(WeightsUnavailableError, match="set MDAN_ZOO_CACHE to one"):
        fetch.find_weights(entry_for(CONTENT))


# What is imported


def test_neither_torch_nor_a_network_client_is_imported_for_a_file_that_is_there(cache, tmp_path):
    code = (
        "import sys; from mdan_zoo.weights import cache, fetch;"
        "cache.list_cache(); cache.clear_cache();"
        "print({'torch', 'numpy', 'requests', 'huggingface_hub'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"


def test_the_two_servers_of_a_test_are_strangers():
    """The tests of the token need two hosts that differ in the port alone."""
    with FaultServer() as one, FaultServer() as two:
        assert one.server_port != two.server_port
