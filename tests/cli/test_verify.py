"""`mdan-zoo verify`: good and bad weight files, of models and by their path."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("torch")

from clean_checkout import ROOT
from published_weights import RELEASED, rewritten

from mdan_zoo.publishing.publish import prepare
from mdan_zoo.weights import fetch
from mdan_zoo.weights.fetch import DamagedWeightsWarning
from mdan_zoo.weights.manifest import load_manifest

PACKAGED = ["mdan_oasis4", "flat_oasis4", "mdan_fi8_lite0", "flat_fi8_lite0"]
PLACE = "/lab/model.safetensors"


@pytest.fixture(scope="module")
def publication(random_checkpoint):
    return prepare("lab_oasis", random_checkpoint)


@pytest.fixture
def lab(publication, server, cache, name_manifest):
    """Return the manifest's entry of a lab's model, whose weights a server has."""
    server.files[PLACE] = publication.weights.path.read_bytes()
    entry = publication.entry({"type": "https", "url": server.url(PLACE)})
    name_manifest(lab_oasis=entry)
    return load_manifest()["lab_oasis"]


def damage(path: Path) -> bytes:
    """Change one bit, and return what the file has now."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return bytes(content)


# Models


def test_packaged_weights(cache, run):
    path = fetch.find_local(load_manifest()["flat_oasis4"])
    assert run("verify", "flat_oasis4") == (0, f"flat_oasis4  ok  {path}\n", "")


@pytest.mark.slow
def test_without_names_what_this_machine_has_is_verified(lab, server, run):
    exit_status, output, messages = run("verify")
    assert (exit_status, messages) == (0, "")
    assert [row.split()[:2] for row in output.splitlines()] == [[name, "ok"] for name in PACKAGED]
    assert server.connections == 0
    run("download", "lab_oasis")
    exit_status, output, _ = run("verify")
    assert exit_status == 0
    assert output.endswith(f"lab_oasis  ok  {fetch.cached_path(lab)}\n")


def test_what_is_not_here_is_reported_with_the_command_that_fetches_it(lab, server, run):
    exit_status, output, messages = run("verify", "lab_oasis", "flat_oasis4")
    assert exit_status == 1
    assert output.startswith("flat_oasis4  ok  ")
    assert messages == (
        "lab_oasis  FAILED: its weights are not on this machine; `mdan-zoo download lab_oasis` "
        "fetches them\n"
    )
    assert server.connections == 0


def test_a_damaged_download_is_reported_and_repaired_when_asked(lab, server, run):
    run("download", "lab_oasis")
    path = fetch.cached_path(lab)
    whole = path.read_bytes()
    damaged = damage(path)
    exit_status, output, messages = run("verify", "lab_oasis")
    assert (exit_status, output) == (1, "")
    assert messages.startswith(f"lab_oasis  FAILED: {path} has SHA-256 ")
    assert messages.endswith(f"the released {lab.file} has {lab.sha256}\n")
    assert path.read_bytes() == damaged
    assert len(server.requests) == 1

    with pytest.warns(DamagedWeightsWarning, match="fetched instead"):
        exit_status, output, messages = run("verify", "--repair", "lab_oasis")
    assert (exit_status, output, messages) == (0, f"lab_oasis  ok  {path}\n", "")
    assert path.read_bytes() == whole
    assert run("verify", "--repair", "lab_oasis")[0] == 0
    assert len(server.requests) == 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["link to nothing", "folder"])
def test_what_is_in_the_place_of_a_download_is_reported_and_repaired(kind, lab, run):
    path = fetch.cached_path(lab)
    path.parent.mkdir(parents=True)
    path.mkdir() if kind == "folder" else path.symlink_to("nowhere")
    for arguments in (["verify"], ["verify", "lab_oasis"], ["verify", path]):
        exit_status, _, messages = run(*arguments)
        assert exit_status == 1
        assert f"  FAILED: {path} is not a file" in messages
    with pytest.warns(DamagedWeightsWarning, match="fetched instead"):
        exit_status, output, messages = run("verify", "--repair")
    assert (exit_status, messages) == (0, "")
    assert output.endswith(f"lab_oasis  ok  {path}\n")


def test_a_download_is_repaired_by_its_path(lab, run):
    run("download", "lab_oasis")
    path = fetch.cached_path(lab)
    whole = path.read_bytes()
    damage(path)
    with pytest.warns(DamagedWeightsWarning, match="fetched instead"):
        exit_status, output, messages = run("verify", "--repair", path)
    assert (exit_status, output, messages) == (0, f"lab_oasis  ok  {path}\n", "")
    assert path.read_bytes() == whole


def test_another_file_cannot_be_repaired(random_checkpoint, cache, run):
    exit_status, output, messages = run("verify", "--repair", random_checkpoint)
    assert (exit_status, output) == (1, "")
    assert f"{random_checkpoint}  FAILED: --repair is for models and their files" in messages


def test_what_cannot_be_repaired_stays(lab, server, run, monkeypatch):
    run("download", "lab_oasis")
    damaged = damage(fetch.cached_path(lab))
    monkeypatch.setenv("MDAN_ZOO_OFFLINE", "1")
    exit_status, output, messages = run("verify", "--repair", "lab_oasis")
    assert (exit_status, output) == (1, "")
    assert "has SHA-256" in messages
    assert "not asked: MDAN_ZOO_OFFLINE" in messages
    assert fetch.cached_path(lab).read_bytes() == damaged


def test_repair_fetches_what_was_never_downloaded(lab, run):
    path = fetch.cached_path(lab)
    assert run("verify", "--repair", "lab_oasis") == (0, f"lab_oasis  ok  {path}\n", "")


def test_unreleased_weights(cache, run):
    exit_status, output, messages = run("verify", "mdan_fi8")
    assert (exit_status, output) == (1, "")
    assert messages.startswith("mdan_fi8  FAILED: mdan_fi8 has no released weights: ")


def test_the_right_bytes_of_another_model(publication, cache, name_manifest, run):
    """The manifest names a file of another model; size and SHA-256 alone are right."""
    path = publication.weights.path
    name_manifest(mdan_fi8=publication.entry({"type": "file", "url": path.as_uri()}))
    exit_status, output, messages = run("verify", "mdan_fi8")
    assert (exit_status, output) == (1, "")
    assert messages.startswith(f"mdan_fi8  FAILED: {path} belongs to another model: ")


# The known image


@pytest.fixture
def change_golden(lab, publication, tmp_path, name_manifest):
    """Return what names a manifest with another recorded output of the lab's model."""

    def change(edit) -> None:
        path = publication.weights.path
        entry = copy.deepcopy(publication.entry({"type": "file", "url": path.as_uri()}))
        edit(entry["golden"]["output"])
        name_manifest(lab_oasis=entry)

    return change


def test_other_scores_for_the_known_image(change_golden, publication, run):
    def edit(output):
        output["polarity"]["positive"] += 0.01
        output["polarity"]["negative"] -= 0.01

    change_golden(edit)
    for subject in ("lab_oasis", publication.weights.path):
        exit_status, output, messages = run("verify", subject)
        assert (exit_status, output) == (1, "")
        assert "gives scores for the known image that differ by up to 0.0100 from" in messages


def test_the_last_digits_of_the_scores_may_differ(change_golden, run):
    def edit(output):
        output["polarity"]["positive"] += 0.0005

    change_golden(edit)
    assert run("verify", "lab_oasis")[0] == 0


@pytest.mark.parametrize("name", ["mdan_fi8_lite0", "flat_fi8_lite0"])
def test_other_ratings_for_the_known_image(name, name_manifest, run):
    entry = json.loads((ROOT / "weights_manifest.json").read_text(encoding="utf-8"))["models"][name]
    entry["golden"]["output"]["dimensions"]["arousal"] -= 0.01
    name_manifest(**{name: entry})
    exit_status, _, messages = run("verify", name)
    assert exit_status == 1
    assert "gives scores for the known image that differ by up to 0.0100 from" in messages


def test_other_classes_for_the_known_image(change_golden, run):
    change_golden(lambda output: output["polarity"].pop("positive"))
    exit_status, _, messages = run("verify", "lab_oasis")
    assert exit_status == 1
    assert "golden output of lab_oasis does not have the classes and dimensions of" in messages


# Files


def test_a_file_is_recognised_by_its_content(tmp_path, cache, run):
    path = Path(shutil.copy(RELEASED, tmp_path / "some.safetensors"))
    assert run("verify", path) == (0, f"{path}  ok: the released weights of mdan_oasis4\n", "")


def test_a_whole_file_that_no_manifest_has(random_checkpoint, cache, run):
    exit_status, output, messages = run("verify", random_checkpoint)
    assert (exit_status, messages) == (0, "")
    assert output == (
        f"{random_checkpoint}  complete: mdan_oasis4, but not the released weights of any known "
        "model\n"
    )


def test_a_cut_file(tmp_path, cache, run):
    path = tmp_path / "cut.safetensors"
    path.write_bytes(RELEASED.read_bytes()[:-1])
    exit_status, output, messages = run("verify", path)
    assert (exit_status, output) == (1, "")
    assert messages.startswith(f"{path}  FAILED: {path} is not a complete safetensors file")


def test_a_file_with_values_that_are_not_finite(tmp_path, cache, run):
    def spoil(tensors):
        tensors["global_classifier.bias"][0] = float("nan")

    exit_status, _, messages = run("verify", rewritten(tmp_path / "nan.safetensors", spoil))
    assert exit_status == 1
    assert "global_classifier.bias has values that are NaN or infinite" in messages


def test_wrong_files_do_not_stop_the_others(tmp_path, photos, cache, run):
    absent = tmp_path / "mdan_oasis4.safetensors"
    exit_status, output, messages = run("verify", photos[0], tmp_path, absent, "flat_oasis4")
    assert exit_status == 1
    assert output.startswith("flat_oasis4  ok  ")
    lines = messages.splitlines()
    assert lines[0] == f"{photos[0]}  FAILED: {photos[0]} is not a safetensors checkpoint"
    assert lines[1].startswith(f"{tmp_path}  FAILED: cannot read the checkpoint {tmp_path}: ")
    assert lines[2].startswith(f"{absent}  FAILED: there is neither a model nor a file '{absent}'")
    assert len(lines) == 3


def test_a_mistyped_name_is_helped(cache, run):
    exit_status, _, messages = run("verify", "mdan_oasis5")
    assert exit_status == 1
    assert "neither a model nor a file 'mdan_oasis5'; did you mean 'mdan_oasis4'" in messages


def test_a_models_name_comes_before_a_file_of_that_name(tmp_path, cache, run, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("flat_oasis4").write_text("no weights")
    assert run("verify", "flat_oasis4")[0] == 0
