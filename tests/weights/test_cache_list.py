"""Listing and clearing the cache, with versions side by side and files that are not ours."""

from __future__ import annotations

import dataclasses
import os
import tempfile

import pytest
from hub_helpers import CONTENT, FILE, OTHER, entry_for, mirror, run_python, stored

from mdan_zoo.errors import InputError, WeightsUnavailableError
from mdan_zoo.weights import cache as weights_cache
from mdan_zoo.weights import fetch


@pytest.fixture
def entries(server, cache):
    """Two versions of one model, and a model of a repository, all in the cache."""
    server.files |= {"/1": CONTENT, "/2": OTHER}
    first = entry_for(CONTENT, mirror(server.url("/1")))
    second = entry_for(OTHER, mirror(server.url("/2")))
    third = dataclasses.replace(first, name="owner/model")
    for entry in (first, second, third):
        fetch.find_weights(entry)
    return first, second, third


def test_versions_stand_side_by_side(entries, server):
    first, second, _ = entries
    assert fetch.find_weights(first).read_bytes() == CONTENT
    assert fetch.find_weights(second).read_bytes() == OTHER
    assert len(server.requests) == 3


def test_the_cache_is_listed(entries):
    paths = [fetch.cached_path(entry) for entry in entries]
    paths[1].write_bytes(CONTENT)
    part = paths[0].with_name("1-abc.part")
    part.write_bytes(b"12345")
    (paths[0].with_name("notes.txt")).write_text("mine")
    expected = [
        weights_cache.CachedFile(entry.name, path, len(CONTENT), entry.sha256[:16], state)
        for entry, path, state in zip(
            entries, paths, ("complete", "damaged", "complete"), strict=True
        )
    ]
    expected.append(
        weights_cache.CachedFile("mdan_test", part, 5, entries[0].sha256[:16], "partial")
    )
    assert sorted(weights_cache.list_cache(), key=str) == sorted(expected, key=str)


def test_what_vanishes_meanwhile_is_not_listed(entries, monkeypatch):
    """A download that ends renames its partial file."""
    files = weights_cache._files
    monkeypatch.setattr(
        weights_cache, "_files", lambda folder: [*files(folder), folder / "1-gone.part"]
    )
    assert len(weights_cache.list_cache()) == len(entries)


def test_an_empty_cache_is_listed_as_such(cache):
    assert weights_cache.list_cache() == []
    assert weights_cache.clear_cache() == 0
    assert not cache.exists()


def test_all_is_cleared(entries, cache):
    assert weights_cache.clear_cache() == 3 * len(CONTENT)
    assert [path.name for path in cache.iterdir()] == [".locks"]
    assert fetch.find_weights(entries[0]).read_bytes() == CONTENT


def test_some_models_are_cleared(entries, cache):
    assert weights_cache.clear_cache(["mdan_test", "unknown"]) == 2 * len(CONTENT)
    assert stored(cache) == [fetch.cached_path(entries[2])]
    assert weights_cache.clear_cache([]) == 0
    with pytest.raises(InputError, match=r"such as \['owner/model'\]"):
        weights_cache.clear_cache("owner/model")
    assert weights_cache.clear_cache({"owner/model"}) == len(CONTENT)


def test_what_is_not_ours_is_not_touched(entries, cache):
    version = fetch.cached_path(entries[0]).parent
    others = [
        cache / "notes.safetensors",
        cache / "mdan_test" / "notes.safetensors",
        version / "notes.txt",
        version / "folder.safetensors" / "notes.safetensors",
        cache / "mdan_test" / "0123456789abcdeg" / FILE,
        cache / "a" / "b" / "c" / "0123456789abcdef" / FILE,
        cache / ".hidden" / "0123456789abcdef" / FILE,
    ]
    for path in others:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    assert {file.path for file in weights_cache.list_cache()} == {
        fetch.cached_path(e) for e in entries
    }
    weights_cache.clear_cache()
    assert stored(cache) == sorted(others)


def test_folders_inside_a_version_are_not_ours(entries, cache):
    """Also if they are named like versions."""
    inside = fetch.cached_path(entries[0]).with_name("fedcba9876543210")
    inside.mkdir()
    (inside / "mine.safetensors").write_bytes(b"mine")
    assert len(weights_cache.list_cache()) == len(entries)
    weights_cache.clear_cache()
    assert (inside / "mine.safetensors").read_bytes() == b"mine"


@pytest.mark.skipif(os.name != "posix", reason="needs links")
def test_links_are_removed_but_not_followed(entries, cache, tmp_path):
    outside = tmp_path / "outside" / "0123456789abcdef"
    outside.mkdir(parents=True)
    (outside / FILE).write_bytes(CONTENT)
    (cache / "linked_model").symlink_to(outside.parent)
    (cache / "mdan_test" / outside.name).symlink_to(outside)
    link = fetch.cached_path(entries[0])
    link.unlink()
    link.symlink_to(outside / FILE)
    (state,) = [file.state for file in weights_cache.list_cache() if file.path == link]
    assert state == "complete"
    assert len(weights_cache.list_cache()) == 3
    weights_cache.clear_cache()
    assert not link.is_symlink()
    assert (outside / FILE).read_bytes() == CONTENT
    assert (cache / "linked_model").is_symlink()


@pytest.mark.skipif(os.name != "posix", reason="needs links")
def test_a_link_without_a_file_is_listed(entries):
    path = fetch.cached_path(entries[0])
    path.unlink()
    path.symlink_to("nowhere")
    assert "unreadable" in [file.state for file in weights_cache.list_cache()]


def test_a_folder_in_the_place_of_a_file_is_listed(entries):
    path = fetch.cached_path(entries[0])
    path.unlink()
    path.mkdir()
    assert [file.state for file in weights_cache.list_cache() if file.path == path] == [
        "unreadable"
    ]
    weights_cache.clear_cache()
    assert path.is_dir()  # it is not ours


UNREADABLE = """
import os, sys
from hub_helpers import CONTENT, entry_for, mirror
from mdan_zoo.weights import cache, fetch
from mdan_zoo.errors import WeightsUnavailableError
import filelock, mdan_zoo._util.http
os.environ['MDAN_ZOO_RETRIES'] = '0'
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
entry = entry_for(CONTENT, mirror("http://127.0.0.1:1/x"))
print(fetch.find_local(entry))
for work in (lambda: fetch.find_weights(entry), cache.list_cache, cache.clear_cache):
    try:
        work()
    except WeightsUnavailableError as error:
        print("told:", str(error).replace("\\n", " "))
"""


@pytest.mark.skipif(os.name != "posix", reason="needs permissions")
def test_a_cache_that_may_not_be_read_is_reported(cache, monkeypatch):
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)  # unlike pytest's, for every user
        monkeypatch.setenv("MDAN_ZOO_CACHE", f"{folder}/closed/cache")
        os.makedirs(f"{folder}/closed/cache")
        os.chmod(f"{folder}/closed", 0)
        first, *told = run_python(UNREADABLE).splitlines()
        os.chmod(f"{folder}/closed", 0o755)
    assert first == "None"
    assert len(told) == 3
    assert all(line.startswith("told: ") and "Permission denied" in line for line in told)


def test_a_path_that_is_too_long_is_reported(server, monkeypatch, cache):
    monkeypatch.setenv("MDAN_ZOO_CACHE", str(cache / ("x" * 300)))
    entry = entry_for(CONTENT, mirror(server.url("/x")))
    assert fetch.find_local(entry) is None
    for work in (
        lambda: fetch.find_weights(entry),
        weights_cache.list_cache,
        weights_cache.clear_cache,
    ):
        with pytest.raises(WeightsUnavailableError, match="File name too long"):
            work()
