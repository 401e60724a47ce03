"""The cache on disk: damage of every kind, versions side by side, links, and disks that refuse."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pickle
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest
from fault_server import body
from hub_helpers import CONTENT, FILE, OTHER, PLACE, mirrored, run_python, stored

from mdan_zoo.errors import CheckpointError, WeightsUnavailableError
from mdan_zoo.weights import cache as weights_cache
from mdan_zoo.weights import fetch
from mdan_zoo.weights.fetch import DamagedWeightsWarning
from mdan_zoo.weights.manifest import Source

posix_only = pytest.mark.skipif(os.name != "posix", reason="needs POSIX")


def test_the_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("MDAN_ZOO_CACHE", str(tmp_path / "a"))
    assert fetch.cache_folder() == tmp_path / "a"
    monkeypatch.setenv("MDAN_ZOO_CACHE", "~/b")
    assert fetch.cache_folder() == Path.home() / "b"
    monkeypatch.setenv("MDAN_ZOO_CACHE", "c")
    assert fetch.cache_folder() == Path.cwd() / "c"
    monkeypatch.delenv("MDAN_ZOO_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert fetch.cache_folder() == tmp_path / "mdan_zoo"
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    assert fetch.cache_folder() == Path.home() / ".cache" / "mdan_zoo"


# Damage


def flipped(content: bytes) -> bytes:
    changed = bytearray(content)
    changed[len(content) // 2] ^= 1
    return bytes(changed)


DAMAGE = {
    "empty": b"",
    "cut": CONTENT[:10],
    "one byte short": CONTENT[:-1],
    "one byte more": CONTENT + b"x",
    "bit": flipped(CONTENT),
    "another model": OTHER,
    "page": b"<!DOCTYPE html><html></html>",
    "pickle": pickle.dumps({"w": [1.0, 2.0]}),
}


@pytest.fixture
def entry(server, cache):
    """An entry whose file is on the server; the folder for it in the cache is there."""
    entry = mirrored(server)
    fetch.cached_path(entry).parent.mkdir(parents=True)
    return entry


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_fetched_again(damage, entry, server, cache):
    path = fetch.cached_path(entry)
    path.write_bytes(DAMAGE[damage])
    with pytest.warns(DamagedWeightsWarning, match="; fetched instead: ") as caught:
        assert fetch.find_weights(entry) == path
    assert len(caught) == 1
    assert path.read_bytes() == CONTENT
    assert stored(cache) == [path]
    assert len(server.requests) == 1


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_reported_offline(damage, entry, server, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    path = fetch.cached_path(entry)
    path.write_bytes(DAMAGE[damage])
    with pytest.raises(CheckpointError) as caught:
        fetch.find_weights(entry)
    assert f"the cache: {path} has " in str(caught.value)
    assert f"Put the file ({entry.size:,} bytes, SHA-256 {entry.sha256}) at {path}" in str(
        caught.value
    )
    assert path.read_bytes() == DAMAGE[damage]
    assert server.connections == 0


def test_a_damaged_file_stays_as_long_as_there_is_no_better(entry, server, cache):
    path = fetch.cached_path(entry)
    path.write_bytes(DAMAGE["bit"])
    server.always[PLACE] = body(OTHER)
    with pytest.raises(CheckpointError) as caught:
        fetch.find_weights(entry)
    for content in (CONTENT, OTHER, DAMAGE["bit"]):
        assert hashlib.sha256(content).hexdigest() in str(caught.value)
    assert stored(cache) == [path]
    assert path.read_bytes() == DAMAGE["bit"]


def test_an_empty_folder_in_the_files_place_is_replaced(entry, cache):
    path = fetch.cached_path(entry)
    path.mkdir()
    with pytest.warns(DamagedWeightsWarning, match="is not a file"):
        assert fetch.find_weights(entry).read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]


def test_a_full_folder_in_the_files_place_is_kept_aside(entry, cache):
    path = fetch.cached_path(entry)
    path.mkdir()
    (path / "mine").write_text("not yours")
    with pytest.warns(DamagedWeightsWarning, match="is not a file"):
        assert fetch.find_weights(entry).read_bytes() == CONTENT
    (kept,) = path.parent.glob("*/mine")
    assert kept.read_text() == "not yours"


@posix_only
def test_a_pipe_in_the_files_place_is_replaced(entry):
    os.mkfifo(fetch.cached_path(entry))
    with pytest.warns(DamagedWeightsWarning, match="is not a file"):
        assert fetch.find_weights(entry).read_bytes() == CONTENT


@posix_only
@pytest.mark.parametrize("content", [None, OTHER])
def test_a_link_is_replaced_not_written_through(content, entry, tmp_path):
    target = tmp_path / "target"
    if content is not None:
        target.write_bytes(content)
    path = fetch.cached_path(entry)
    path.symlink_to(target)
    with pytest.warns(DamagedWeightsWarning):
        assert fetch.find_weights(entry).read_bytes() == CONTENT
    assert not path.is_symlink()
    assert (target.read_bytes() if target.exists() else None) == content


@posix_only
def test_a_link_to_the_right_file_is_used(entry, server, tmp_path):
    (tmp_path / "target").write_bytes(CONTENT)
    fetch.cached_path(entry).symlink_to(tmp_path / "target")
    assert fetch.find_weights(entry).read_bytes() == CONTENT
    assert server.connections == 0


def test_repair_looks_at_the_cache_even_if_the_package_has_the_file(entry, server, monkeypatch):
    path = fetch.cached_path(entry)
    monkeypatch.setattr(fetch, "_PACKAGE", path.parents[3])
    (path.parents[3] / "packed").write_bytes(CONTENT)
    both = dataclasses.replace(entry, sources=(Source("package", path="packed"), *entry.sources))
    assert fetch.repair(both) == path.parents[3] / "packed"
    path.write_bytes(OTHER)
    assert fetch.find_weights(both) == path.parents[3] / "packed"
    with pytest.warns(DamagedWeightsWarning, match="; fetched instead: "):
        assert fetch.repair(both) == path
    assert fetch.repair(both) == path
    assert path.read_bytes() == CONTENT
    assert len(server.requests) == 1


# Permissions and durability


@posix_only
def test_the_files_mode_is_the_umasks(server, cache):
    before = os.umask(0o027)
    try:
        path = fetch.find_weights(mirrored(server))
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640


def test_leftovers_of_killed_downloads_are_removed(entry, cache):
    path = fetch.cached_path(entry)
    path.with_name("123-abcdef01.part").write_bytes(CONTENT[:1000])
    path.with_name("124-abcdef02.part").write_bytes(b"")
    fetch.find_weights(entry)
    assert stored(cache) == [path]


def test_a_folder_that_is_called_as_a_leftover_is_left_alone(entry, cache):
    path = fetch.cached_path(entry)
    path.with_name("mine.part").mkdir()
    assert fetch.find_weights(entry).read_bytes() == CONTENT
    assert path.with_name("mine.part").is_dir()


@posix_only
def test_the_file_and_its_folder_are_synced(server, cache, monkeypatch):
    """The file before it takes its name, the folder after."""
    synced = []
    fsync = os.fsync

    def recorded(handle):
        names = [path.suffix for path in fetch.cached_path(entry).parent.iterdir()]
        synced.append((stat.S_ISDIR(os.fstat(handle).st_mode), names))
        fsync(handle)

    entry = mirrored(server)
    monkeypatch.setattr(os, "fsync", recorded)
    fetch.find_weights(entry)
    assert synced == [(False, [".part"]), (True, [".safetensors"])]


FIND = """
import os, sys
from hub_helpers import CONTENT, entry_for, mirror
from mdan_zoo.weights import fetch
from mdan_zoo.errors import WeightsUnavailableError
import filelock, mdan_zoo._util.http  # later there may be no right to read the library
{before}
try:
    print(fetch.find_weights(entry_for(CONTENT, mirror(sys.argv[1]))))
except WeightsUnavailableError as error:
    print("told:", error)
"""

LIMIT_FILES = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))"
BECOME_NOBODY = "if os.getuid() == 0: os.setgid(65534); os.setuid(65534)"


@posix_only
def test_a_file_that_may_not_grow_is_reported(server, cache):
    mirrored(server)
    said = run_python(FIND.format(before=LIMIT_FILES), server.url(PLACE))
    assert f"told: the weights of mdan_test ({FILE}) are not available" in said
    assert f"{cache}: cannot be written to: File too large; free or repair that folder" in said
    assert "MDAN_ZOO_CACHE" in said
    assert stored(cache) == []


@pytest.fixture
def small_disk(cache):
    """A file system with room for less than one file."""
    cache.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(cache)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a file system cannot be mounted here: {error}")
    yield cache
    subprocess.run(["umount", str(cache)], check=True)


def test_a_full_disk_is_reported(small_disk, server):
    with pytest.raises(WeightsUnavailableError) as caught:
        fetch.find_weights(mirrored(server))
    assert f"{small_disk}: cannot be written to: No space left on device" in str(caught.value)
    assert stored(small_disk) == []


@pytest.fixture
def shared_folder():
    """A folder that every user can enter, unlike pytest's."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@posix_only
def test_a_cache_that_is_read_only(server, cache, shared_folder, monkeypatch):
    """Without the file that is told; with it nothing is written and nothing asked."""
    monkeypatch.setenv("MDAN_ZOO_CACHE", str(shared_folder / "cache"))
    entry = mirrored(server)
    path = fetch.cached_path(entry)
    path.parent.mkdir(parents=True)
    for folder in (path.parent, *path.parents[1:3]):
        folder.chmod(0o555)
    try:
        said = run_python(FIND.format(before=BECOME_NOBODY), server.url(PLACE))
        assert f"{shared_folder / 'cache'}: cannot be written to: Permission denied" in said
        path.parent.chmod(0o755)
        path.write_bytes(CONTENT)
        path.parent.chmod(0o555)
        assert run_python(FIND.format(before=BECOME_NOBODY), server.url(PLACE)) == f"{path}\n"
    finally:
        for folder in (path.parent, *path.parents[1:3]):
            folder.chmod(0o755)
    assert server.connections == 0


@pytest.mark.parametrize("below", [False, True])
def test_a_cache_folder_that_is_a_file_is_reported(below, server, cache, monkeypatch):
    cache.write_text("a file")
    if below:
        monkeypatch.setenv("MDAN_ZOO_CACHE", str(cache / "folder"))
    with pytest.raises(WeightsUnavailableError, match=": cannot be written to: "):
        fetch.find_weights(mirrored(server))
    assert cache.read_text() == "a file"
    assert server.connections == 0
    assert weights_cache.list_cache() == []
    assert weights_cache.clear_cache() == 0
