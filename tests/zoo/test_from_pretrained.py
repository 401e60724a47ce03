"""Networks by the repository or folder that they were published in."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from hf_server import WRITER
from huggingface_hub import CommitOperationAdd, HfApi
from safetensors.torch import load_file, save

from mdan_zoo._util import http
from mdan_zoo.errors import CheckpointError, InputError, WeightsUnavailableError
from mdan_zoo.inference.predictor import Predictor
from mdan_zoo.models.flat import FlatClassifier
from mdan_zoo.models.mdan.network import MDAN
from mdan_zoo.publishing.publish import prepare, publish_to_folder, publish_to_hub
from mdan_zoo.weights import fetch as weights_hub
from mdan_zoo.zoo.factory import create_model
from mdan_zoo.zoo.pretrained import find_pretrained, from_pretrained

WEIGHTS = Path(weights_hub.__file__).parent
RELEASED = WEIGHTS / "mdan_oasis4.safetensors"
FLAT = WEIGHTS / "flat_oasis4.safetensors"


@pytest.fixture(scope="module")
def publications():
    return prepare("mdan_oasis4", RELEASED), prepare("flat_oasis4", FLAT)


def upload(repo: str, files: dict[str, bytes]) -> str:
    """Commit any files, as somebody else might."""
    operations = [CommitOperationAdd(path, content) for path, content in files.items()]
    api = HfApi(endpoint=os.environ["HF_ENDPOINT"])
    api.create_repo(repo, exist_ok=True)
    return api.create_commit(repo, operations, commit_message="files").oid


def logits(network) -> torch.Tensor:
    torch.manual_seed(0)
    with torch.no_grad():
        return network(torch.randn(2, 3, 64, 64)).logits["global"][0]


def test_a_repository_gives_the_network_in_evaluation_mode(hub, publications):
    mdan, flat = publications
    publish_to_hub(mdan, "lab/mdan")
    publish_to_hub(flat, "lab/flat")
    network = from_pretrained("lab/mdan")
    assert isinstance(network, MDAN)
    assert not network.training
    expected = create_model("mdan_oasis4", checkpoint=RELEASED).eval()
    assert logits(network).equal(logits(expected))
    assert isinstance(from_pretrained("lab/flat"), FlatClassifier)


def test_every_revision_can_be_downloaded(hub, publications):
    mdan, flat = publications
    commits = [
        publish_to_hub(publication, "lab/model")["sources"][0]["revision"]
        for publication in (mdan, flat)
    ]
    assert isinstance(from_pretrained("lab/model", revision=commits[0]), MDAN)
    assert isinstance(from_pretrained("lab/model", revision=commits[1]), FlatClassifier)
    assert isinstance(from_pretrained("lab/model", revision="main"), FlatClassifier)
    with pytest.raises(WeightsUnavailableError, match="no such branch, tag or commit"):
        from_pretrained("lab/model", revision="0" * 40)


def test_a_second_call_downloads_nothing(hub, publications):
    publish_to_hub(publications[0], "lab/mdan")
    path = find_pretrained("lab/mdan")
    hub.requests.clear()
    assert find_pretrained("lab/mdan") == path
    assert hub.requests == ["GET /api/models/lab/mdan"]


def test_a_predictor_takes_what_is_found(hub, publications):
    publish_to_hub(publications[0], "lab/mdan")
    predictor = Predictor(checkpoint=find_pretrained("lab/mdan"), device="cpu")
    assert predictor.config == publications[0].weights.config


def test_a_private_repository_needs_the_token(hub, publications, monkeypatch):
    publish_to_hub(publications[0], "lab/secret", private=True)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(WeightsUnavailableError, match="401 Unauthorized: it has no such repo"):
        from_pretrained("lab/secret")
    with pytest.raises(WeightsUnavailableError, match=r"404 Not .* a token that may read it"):
        from_pretrained("lab/secret", token="hf_stranger")
    assert isinstance(from_pretrained("lab/secret", token=WRITER), MDAN)


def test_a_missing_repository_is_an_error(hub):
    with pytest.raises(WeightsUnavailableError, match="cannot look up lab/nothing at http"):
        from_pretrained("lab/nothing")


def test_no_connection_is_an_error(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(http, "BACKOFF_SECONDS", 0.001)
    with pytest.raises(WeightsUnavailableError, match=r"cannot look up lab/mdan at http://127"):
        from_pretrained("lab/mdan")


def test_offline_the_hub_is_not_asked(hub, publications, monkeypatch):
    publish_to_hub(publications[0], "lab/mdan")
    find_pretrained("lab/mdan")
    hub.requests.clear()
    monkeypatch.setenv("MDAN_ZOO_OFFLINE", "1")
    with pytest.raises(WeightsUnavailableError, match="MDAN_ZOO_OFFLINE or HF_HUB_OFFLINE forbids"):
        from_pretrained("lab/mdan")
    assert hub.requests == []


def test_a_repository_without_our_file_is_refused(hub):
    upload("lab/other", {"pytorch_model.bin": b"pickle", "README.md": b"---\nlicense: mit\n---\n"})
    with pytest.raises(WeightsUnavailableError, match=r"has no model\.safetensors.* pytorch_model"):
        from_pretrained("lab/other")
    assert not any("/resolve/" in request for request in hub.requests)


@pytest.mark.parametrize("whose", ["another library", "nobody"])
def test_a_file_that_is_not_ours_is_refused(hub, whose):
    tensors = load_file(RELEASED)
    content = save(tensors) if whose == "another library" else b"not safetensors at all"
    upload("lab/other", {"model.safetensors": content})
    with pytest.raises(CheckpointError, match=r"does not say which model|not .*safetensors"):
        from_pretrained("lab/other")


def test_weights_that_do_not_fit_their_config_are_refused(hub):
    from safetensors import safe_open

    with safe_open(str(RELEASED), "pt") as file:
        metadata = file.metadata()
    upload("lab/other", {"model.safetensors": save(load_file(FLAT), metadata)})
    with pytest.raises(CheckpointError, match="does not fit the network"):
        from_pretrained("lab/other")


def test_a_hub_that_sends_other_bytes_is_not_believed(hub, publications):
    publish_to_hub(publications[0], "lab/mdan")
    content = bytearray(RELEASED.read_bytes())
    content[-1] ^= 1
    hub.lfs[publications[0].weights.sha256] = bytes(content)
    with pytest.raises((CheckpointError, WeightsUnavailableError), match="SHA-256"):
        from_pretrained("lab/mdan")


# Folders


def test_a_published_folder_can_be_given(publications, tmp_path):
    entry = publish_to_folder(publications[1], tmp_path)
    folder = (tmp_path / entry["sources"][0]["path"]).parent
    for given in (folder, str(folder)):
        network = from_pretrained(given)
        assert isinstance(network, FlatClassifier)
        assert not network.training


def test_a_folder_of_a_training_can_be_given(tmp_path):
    shutil.copy(RELEASED, tmp_path / "model.safetensors")
    (tmp_path / "training.json").write_text(json.dumps({}))
    assert isinstance(from_pretrained(tmp_path), MDAN)


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(WeightsUnavailableError, match=r"has no model\.safetensors"):
        from_pretrained(tmp_path)


def test_a_folder_has_no_revision(tmp_path):
    with pytest.raises(InputError, match="which has no revisions; leave out 'main'"):
        from_pretrained(tmp_path, revision="main")


@pytest.mark.parametrize("given", ["./missing", "/no/such/folder", "mdan_oasis4", "", "a/b/c"])
def test_what_is_neither_folder_nor_repository_is_refused(given):
    with pytest.raises(InputError, match="OWNER/REPO"):
        from_pretrained(given)
