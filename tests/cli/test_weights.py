"""`mdan-zoo download`, `cache` and `info`: where weights come from and go to. Needs no torch."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import tempfile
import urllib.request
from pathlib import Path

import pytest
from fault_server import status
from hub_helpers import CONTENT, OTHER, entry_for, mirror, run_python, stored

from mdan_zoo.cli.main import main
from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.weights import fetch
from mdan_zoo.weights.manifest import Licences, ManifestEntry, load_manifest
from mdan_zoo.zoo.configs import MODELS

PACKAGED = ["mdan_oasis4", "flat_oasis4", "mdan_fi8_lite0", "flat_fi8_lite0"]


@pytest.fixture
def models(server, cache, name_manifest):
    """Two models on a server, and one that is not released."""
    server.files |= {"/1": CONTENT, "/2": OTHER}
    first = entry_for(CONTENT, mirror(server.url("/1")), name="lab_one")
    second = entry_for(OTHER, mirror(server.url("/2")), name="lab_two")
    third = ManifestEntry(
        name="lab_three",
        status="unreleased",
        reason="it is being trained",
        parameters=5,
        licences=first.licences,
        command="make lab_three",
    )
    name_manifest(lab_one=first, lab_two=second, lab_three=third)
    return first, second


def line(entry) -> str:
    return f"{entry.name}  {fetch.cached_path(entry)}  {entry.size:,} bytes\n"


# download


def test_download_fetches_once_and_says_where(models, server, run):
    entry = models[0]
    assert run("download", "lab_one") == (0, line(entry), "")
    assert fetch.cached_path(entry).read_bytes() == CONTENT
    assert run("download", "lab_one") == (0, line(entry), "")
    assert [request.path for request in server.requests] == ["/1"]


def test_download_all_means_every_released_model(models, run):
    exit_status, output, messages = run("download", "--all")
    assert (exit_status, messages) == (0, "")
    assert [row.split()[0] for row in output.splitlines()] == [*PACKAGED, "lab_one", "lab_two"]
    assert output.endswith(line(models[0]) + line(models[1]))


def test_a_failed_download_does_not_stop_the_others(models, server, cache, run):
    server.always["/1"] = status(404)
    exit_status, output, messages = run("download", "lab_one", "lab_two")
    assert (exit_status, output) == (1, line(models[1]))
    assert messages.startswith("mdan-zoo: error: the weights of lab_one (mdan_test.safetensors)")
    assert "the server answered 404 Not Found" in messages
    assert stored(cache) == [fetch.cached_path(models[1])]


def test_unreleased_weights_are_reported_with_reason_and_command(models, run):
    exit_status, output, messages = run("download", "lab_three", "lab_two")
    assert (exit_status, output) == (1, line(models[1]))
    assert messages == (
        "mdan-zoo: error: lab_three has no released weights: it is being trained. "
        "To train the model: make lab_three\n"
    )


def test_with_an_unknown_name_nothing_is_fetched(models, server, run):
    exit_status, output, messages = run("download", "lab_one", "lab_tow")
    assert (exit_status, output) == (2, "")
    assert messages.startswith("mdan-zoo: error: there is no model 'lab_tow'; did you mean 'lab_t")
    assert server.connections == 0


@pytest.mark.parametrize("arguments", [[], ["--all", "lab_one"]])
def test_download_needs_either_names_or_all(arguments, models, server, run):
    message = "mdan-zoo: error: give the names of models, or --all\n"
    assert run("download", *arguments) == (2, "", message)
    assert server.connections == 0


def test_offline_nothing_is_downloaded(models, server, run, monkeypatch):
    monkeypatch.setenv("MDAN_ZOO_OFFLINE", "1")
    exit_status, output, messages = run("download", "lab_one")
    assert (exit_status, output) == (1, "")
    assert "not asked: MDAN_ZOO_OFFLINE or HF_HUB_OFFLINE is set" in messages
    assert run("download", *PACKAGED)[0] == 0
    assert server.connections == 0


OFFLINE = """
import os
from mdan_zoo.weights import fetch
from mdan_zoo.weights.manifest import load_manifest
load_manifest()  # later there may be no right to read the library
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
print(fetch.find_weights(load_manifest()["lab_one"]))
"""


@pytest.mark.skipif(os.name != "posix", reason="needs permissions")
def test_a_carried_folder_works_without_network_and_read_only(server, models, monkeypatch):
    """As docs/hub.md says it: the manifest by its path, its weights in a cache beside it."""
    entry, manifest = models[0], Path(os.environ["MDAN_ZOO_MANIFEST"])
    values = json.loads(manifest.read_text())
    values["models"]["lab_one"]["sources"] = [{"type": "relative", "path": "lab_one/x"}]
    server.files |= {"/weights_manifest.json": json.dumps(values).encode(), "/lab_one/x": CONTENT}
    monkeypatch.setenv("MDAN_ZOO_MANIFEST", server.url("/weights_manifest.json"))
    with tempfile.TemporaryDirectory() as there, tempfile.TemporaryDirectory() as here:
        carry = Path(there, "carry")
        carry.mkdir()
        content = urllib.request.urlopen(os.environ["MDAN_ZOO_MANIFEST"]).read()
        (carry / "weights_manifest.json").write_bytes(content)
        monkeypatch.setenv("MDAN_ZOO_CACHE", str(carry / "cache"))
        assert main(["download", "lab_one"]) == 0
        seen = len(server.requests)

        Path(here).chmod(0o755)  # unlike pytest's folders, for every user
        carried = Path(shutil.copytree(carry, Path(here, "carry")))
        folders = [carried, *(path for path in carried.rglob("*") if path.is_dir())]
        for folder in folders:
            folder.chmod(0o555)
        monkeypatch.setenv("MDAN_ZOO_MANIFEST", str(carried / "weights_manifest.json"))
        monkeypatch.setenv("MDAN_ZOO_CACHE", str(carried / "cache"))
        monkeypatch.setenv("MDAN_ZOO_OFFLINE", "1")
        try:
            assert run_python(OFFLINE) == f"{fetch.cached_path(entry)}\n"
        finally:
            for folder in folders:
                folder.chmod(0o755)
    assert len(server.requests) == seen


# cache


def test_an_empty_cache(models, cache, run):
    assert run("cache", "list") == (0, "", f"the cache {cache} is empty\n")
    assert run("cache", "clear") == (0, f"0 bytes freed in {cache}\n", "")
    exit_status, _, messages = run("cache", "clear", "lab_one")
    assert exit_status == 2
    assert messages == "mdan-zoo: error: the cache has nothing of 'lab_one'; it is empty\n"
    assert not cache.exists()


def test_the_cache_is_listed_with_its_state(models, run):
    run("download", "lab_one", "lab_two")
    paths = [fetch.cached_path(entry) for entry in models]
    paths[1].write_bytes(CONTENT)
    exit_status, output, messages = run("cache", "list")
    assert (exit_status, messages) == (0, "")
    assert run("cache") == (0, output, "")
    size = f"{len(CONTENT):,} bytes"
    assert output.splitlines() == [
        f"lab_one  complete  {size}  {paths[0]}",
        f"lab_two  damaged  {size}  {paths[1]}",
    ]


def test_the_cache_of_some_models_is_cleared(models, cache, run):
    run("download", "lab_one", "lab_two")
    kept = fetch.cached_path(models[1])
    exit_status, output, messages = run("cache", "clear", "lab_one")
    assert (exit_status, messages) == (0, "")
    assert output == f"{len(CONTENT):,} bytes freed in {cache}\n"
    assert stored(cache) == [kept]


def test_nothing_is_cleared_if_a_name_is_wrong(models, cache, run):
    run("download", "lab_one", "lab_two")
    exit_status, output, messages = run("cache", "clear", "lab_one", "lab_three")
    assert (exit_status, output) == (2, "")
    assert "the cache has nothing of 'lab_three'; it has lab_one, lab_two" in messages
    assert len(stored(cache)) == 2


def test_the_whole_cache_is_cleared(models, cache, run):
    run("download", "lab_one", "lab_two")
    freed = len(CONTENT) + len(OTHER)
    assert run("cache", "clear") == (0, f"{freed:,} bytes freed in {cache}\n", "")
    assert stored(cache) == []


@pytest.mark.parametrize("arguments", [["cache", "empty"], ["cache", "list", "a"]])
def test_wrong_usage_of_cache(arguments, run):
    exit_status, output, messages = run(*arguments)
    assert (exit_status, output) == (2, "")
    assert messages.startswith("usage: mdan-zoo")


# info


def test_info_tells_licences_sources_and_where_the_file_is(server, cache, name_manifest, run):
    server.files["/1?signature=secret"] = CONTENT
    licences = Licences("Apache-2.0", "CC-BY-4.0", "ask the photographers")
    config, tree = MODELS["mdan_oasis4"], get_hierarchy("circumplex4")
    entry = dataclasses.replace(
        entry_for(CONTENT, mirror(server.url("/1?signature=secret")), name="lab_one"),
        licences=licences,
        details={"config": config.to_dict(), "hierarchy": tree.to_dict()},
    )
    name_manifest(lab_one=entry)
    _, output, _ = run("info", "lab_one")
    for expected in (
        "licences:\n  code: Apache-2.0\n  weights: CC-BY-4.0\n  data: ask the photographers",
        f"file: {entry.file}, {entry.size:,} bytes, sha256 {entry.sha256}",
        f"sources: https {server.url('/1')}",
        "on this machine: no",
    ):
        assert f"\n{expected}\n" in output
    run("download", "lab_one")
    _, output, _ = run("info", "lab_one")
    assert f"\non this machine: {fetch.cached_path(entry)}\n" in output
    weights = json.loads(run("info", "lab_one", "--json")[1])["weights"]
    assert weights["licences"] == dataclasses.asdict(licences)
    assert [source["url"] for source in weights["sources"]] == [server.url("/1")]
    assert weights["sha256"] == entry.sha256


def test_info_survives_odd_metrics(cache, name_manifest, run):
    config, tree = MODELS["mdan_oasis4"], get_hierarchy("circumplex4")
    rows = [{"a": 10**400, "b": "high", "c": None, "d": True, "e": 0.5, "model": [1]}, {}]
    details = {"config": config.to_dict(), "hierarchy": tree.to_dict(), "metrics": {"rows": rows}}
    entry = entry_for(CONTENT, mirror("https://example.org/1"), name="lab_one")
    name_manifest(lab_one=dataclasses.replace(entry, details=details))
    exit_status, output, messages = run("info", "lab_one")
    assert (exit_status, messages) == (0, "")
    assert "high" not in output, "only numbers are shown"
    assert "e 0.500" in output


def test_info_names_the_model_and_branch_of_metrics_if_there_are_any(cache, name_manifest, run):
    config, tree = MODELS["mdan_oasis4"], get_hierarchy("circumplex4")
    rows = [{"branch": "overall", "a": 0.25}, {"model": "m", "branch": "local", "a": 1}, {"a": 2}]
    details = {"config": config.to_dict(), "hierarchy": tree.to_dict(), "metrics": {"rows": rows}}
    entry = entry_for(CONTENT, mirror("https://example.org/1"), name="lab_one")
    name_manifest(lab_one=dataclasses.replace(entry, details=details))
    output = run("info", "lab_one")[1]
    assert "  rows:\n    overall: a 0.250\n    m, local: a 1\n    a 2\n" in output


def test_info_of_packaged_weights_names_their_file(cache, run):
    entry = load_manifest()["mdan_oasis4"]
    _, output, _ = run("info", "mdan_oasis4")
    assert f"\non this machine: {fetch.find_local(entry)}\n" in output
    assert "\nsources: package weights/mdan_oasis4.safetensors\n" in output
