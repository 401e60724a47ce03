"""Publishing to a folder, which is then served or read where it is; and the model card."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import signal
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from published_weights import (
    NAME,
    OWN_TREE,
    RELEASED,
    logits,
    retrained,
)

from mdan_zoo.errors import (
    InputError,
    ManifestError,
    PublishingError,
)
from mdan_zoo.inference.predictor import Predictor
from mdan_zoo.inference.verification import golden_image
from mdan_zoo.publishing.publication import Publication
from mdan_zoo.publishing.publish import (
    prepare,
    publish_to_folder,
)
from mdan_zoo.weights import fetch as weights_hub
from mdan_zoo.weights.checkpoint import load_checkpoint
from mdan_zoo.weights.manifest import ManifestWarning, config_of, hierarchy_of, load_manifest
from mdan_zoo.zoo.factory import build_network, create_model

# What is published has no field that the manifest does not know.
pytestmark = pytest.mark.filterwarnings("error::mdan_zoo.weights.manifest.ManifestWarning")


@contextlib.contextmanager
def web_server(folder: Path):
    """Serve a folder as any static web server does; give its address."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Handler, directory=folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


# To a folder


def test_a_cache_without_room_for_a_lock_is_named(released, tmp_path, monkeypatch):
    """The lock is in the cache, which a publication into a folder does not need otherwise."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("MDAN_ZOO_CACHE", str(tmp_path / "file" / "cache"))
    message = r"\.locks cannot have the lock of .*public: .*; set MDAN_ZOO_CACHE to another"
    with pytest.raises(PublishingError, match=message):
        publish_to_folder(released, tmp_path / "public")
    assert not (tmp_path / "public").exists()


def test_a_served_folder_is_all_that_others_need(own_file, tmp_path, run, monkeypatch):
    """The lab publishes to a folder and serves it; somebody else has the address only."""
    folder = tmp_path / "public"
    command = ("my_model", "--weights", own_file, "--folder", folder)
    with pytest.raises(InputError, match=r"give the licence .* or --licence unknown"):
        run(*command)
    assert not folder.exists()
    status, output, messages = run(*command, "--licence", "unknown")
    entry = json.loads(output)
    assert status == 0
    assert "my_model is not a registered model" in messages
    assert "whose config is that of mdan_oasis4" in messages
    assert entry["sources"] == [
        {"type": "relative", "path": f"my_model/{entry['sha256'][:16]}/model.safetensors"}
    ]
    monkeypatch.setenv("MDAN_ZOO_CACHE", str(tmp_path / "cache"))
    with web_server(folder) as address:
        monkeypatch.setenv("MDAN_ZOO_MANIFEST", f"{address}/weights_manifest.json")
        parsed = load_manifest()["my_model"]
        found = weights_hub.find_weights(parsed)
    assert found.is_relative_to(tmp_path / "cache")
    assert hierarchy_of(parsed) == OWN_TREE
    network = build_network(config_of(parsed), hierarchy_of(parsed))
    load_checkpoint(network, found, config_of(parsed))
    golden = Predictor(checkpoint=own_file, device="cpu").predict(golden_image())
    assert parsed.details["golden"]["output"]["coarse"] == pytest.approx(
        golden.levels[0].scores, abs=1e-5
    )


def test_a_folder_can_replace_registered_weights(tmp_path, monkeypatch):
    path = retrained(tmp_path / "w.safetensors")
    publish_to_folder(prepare(NAME, path), tmp_path / "public")
    monkeypatch.setenv("MDAN_ZOO_CACHE", str(tmp_path / "cache"))
    with web_server(tmp_path / "public") as address:
        monkeypatch.setenv("MDAN_ZOO_MANIFEST", f"{address}/weights_manifest.json")
        network = create_model(NAME, pretrained=True)
    assert logits(network).equal(logits(create_model(NAME, checkpoint=path)))
    monkeypatch.setenv("MDAN_ZOO_MANIFEST", str(tmp_path / "public" / "weights_manifest.json"))
    network = create_model(NAME, pretrained=True)
    assert logits(network).equal(logits(create_model(NAME, checkpoint=path)))


@pytest.mark.slow
def test_a_folder_keeps_other_entries_and_earlier_weights(released, own_file, tmp_path):
    first = publish_to_folder(released, tmp_path)
    publish_to_folder(prepare("my_model", own_file), tmp_path)
    second = publish_to_folder(prepare(NAME, retrained(tmp_path / "w.safetensors")), tmp_path)
    content = json.loads((tmp_path / "weights_manifest.json").read_text())
    assert set(content["models"]) == {NAME, "my_model"}
    assert content["models"][NAME] == second
    for entry in (first, second):
        assert (tmp_path / entry["sources"][0]["path"]).stat().st_size == entry["size"]
    names = {"weights_manifest.json", NAME, "my_model", "w.safetensors"}
    assert {path.name for path in tmp_path.iterdir()} == names  # nothing temporary stays


def test_publishing_the_same_weights_again_heals_them_and_renews_the_card(own_file, tmp_path):
    entry = publish_to_folder(prepare("my_model", own_file), tmp_path)
    weights = tmp_path / entry["sources"][0]["path"]
    weights.write_bytes(b"damaged")
    publish_to_folder(prepare("my_model", own_file, licence="MIT"), tmp_path)
    assert weights.read_bytes() == own_file.read_bytes()
    assert ModelCard.load(weights.with_name("README.md")).data.license == "mit"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no permission bits")
def test_a_web_server_may_read_what_is_written(released, tmp_path):
    old = os.umask(0o022)
    try:
        publish_to_folder(released, tmp_path / "public")
    finally:
        os.umask(old)
    for path in (tmp_path / "public").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o755 if path.is_dir() else 0o644), path


def test_a_folder_that_is_a_file_is_refused(released, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match=r"must be a folder, and .* is a file"):
        publish_to_folder(released, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_manifest_that_an_editor_wrote_with_a_mark_is_added_to(released, own_file, tmp_path):
    publish_to_folder(released, tmp_path)
    manifest = tmp_path / "weights_manifest.json"
    manifest.write_text(manifest.read_text(encoding="utf-8"), encoding="utf-8-sig")
    publish_to_folder(prepare("my_model", own_file), tmp_path)
    assert set(json.loads(manifest.read_text(encoding="utf-8"))["models"]) == {NAME, "my_model"}


@pytest.mark.parametrize("content", ["", "{}", '{"schema_version": 99, "models": {}}'])
def test_a_manifest_that_cannot_be_read_is_left_alone(released, tmp_path, content):
    (tmp_path / "weights_manifest.json").write_text(content)
    with pytest.raises(ManifestError):
        publish_to_folder(released, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["weights_manifest.json"]
    assert (tmp_path / "weights_manifest.json").read_text() == content


@pytest.mark.slow
def test_nothing_half_written_stays(released, tmp_path):
    """The disk is full after half of the weights, as a limit on the size of files has it."""
    code = f"""if True:
        import resource, signal
        from mdan_zoo.publishing.publish import prepare, publish_to_folder
        publication = prepare({NAME!r}, {str(RELEASED)!r})
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))
        try:
            publish_to_folder(publication, {str(tmp_path)!r})
        except OSError as error:
            print(error.strerror)
    """
    pytest.importorskip("resource", reason="limits on files are POSIX's")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "File too large\n"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_what_a_killed_publication_left_is_removed(released, tmp_path):
    code = f"""if True:
        import os, signal
        from mdan_zoo.publishing import publish
        publication = publish.prepare({NAME!r}, {str(RELEASED)!r})
        write = publish.write_atomically

        def write_and_die(path, content):
            write(path, content)
            os.kill(os.getpid(), signal.SIGKILL)

        publish.write_atomically = write_and_die
        publish.publish_to_folder(publication, {str(tmp_path)!r})
    """
    done = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE)
    assert done.returncode == -signal.SIGKILL
    assert len(list(tmp_path.glob(".publishing-*"))) == 1
    publish_to_folder(released, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"weights_manifest.json", NAME}


def test_publications_at_once_lose_no_entry(released, tmp_path):
    names = [f"model_{i}" for i in range(4)]

    def publish(name: str) -> None:
        publish_to_folder(dataclasses.replace(released, name=name), tmp_path)

    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(publish, names))
    assert set(load_manifest(tmp_path / "weights_manifest.json")) == set(names)


def test_a_version_is_published_as_a_whole(released, tmp_path, monkeypatch):
    """The disk is full, or the process ends, when the files of the version are moved."""

    def fail(path, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises((OSError, PublishingError)):
        publish_to_folder(released, tmp_path / "public")
    assert not list((tmp_path / "public").rglob("*.safetensors"))


def test_unknown_fields_of_a_manifest_are_kept(released, tmp_path):
    path = tmp_path / "weights_manifest.json"
    path.write_text('{"schema_version": 1, "mirrors": ["b"], "models": {}}')
    with pytest.warns(ManifestWarning, match="mirrors"):
        publish_to_folder(released, tmp_path)
    assert json.loads(path.read_text())["mirrors"] == ["b"]


# The card


def card_of(publication: Publication, folder: Path) -> ModelCard:
    entry = publish_to_folder(publication, folder)
    return ModelCard.load((folder / entry["sources"][0]["path"]).with_name("README.md"))


def test_the_card_of_unmeasured_weights_claims_nothing(own_file, tmp_path):
    card = card_of(prepare("my_model", own_file), tmp_path)
    assert "Not measured." in card.text
    assert "registered model `mdan_oasis4`" in card.text
    assert "The dataset that it was trained on is not recorded" in card.text
    assert "MDAN_ZOO_MANIFEST" in card.text
    assert card.data.license == "unknown"
    assert card.data.eval_results is None
    assert card.data.datasets is None


def test_the_card_gives_measured_values_and_the_base_model(own_file, tmp_path):
    metrics = {
        "protocol": "200 images held out",
        "dataset": "Our images",
        "rows": [
            {"coarse_accuracy": 0.8125, "coarse_accuracy_sd": 0.01},
            {"model": "chance", "r": 0},
        ],
    }
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    publication = prepare(
        "my_model",
        own_file,
        licence="Our Licence 2",
        metrics=tmp_path / "metrics.json",
        base_model="timm/mobilenetv2_100.ra_in1k",
    )
    card = card_of(publication, tmp_path / "public")
    (result,) = card.data.eval_results
    assert (result.metric_type, result.metric_value) == ("accuracy", 0.8125)
    assert (result.dataset_name, result.dataset_type) == ("Our images", "Our-images")
    assert card.data.base_model == "timm/mobilenetv2_100.ra_in1k"
    assert (card.data.license, card.data.license_name) == ("other", "our-licence-2")
    assert "200 images held out" in card.text
    assert "| 0.8125 | 0.01 |" in card.text
