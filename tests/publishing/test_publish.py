"""Publishing: by the real client to a hub on 127.0.0.1, and to folders that are then served."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hf_server import READER
from huggingface_hub import ModelCard
from published_weights import (
    FLAT,
    NAME,
    RELEASED,
    logits,
    retrained,
    rewritten,
)
from safetensors.torch import load_file, safe_open, save_file

from mdan_zoo.errors import (
    CheckpointError,
    InputError,
    MdanZooError,
    WeightsUnavailableError,
)
from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.inference.verification import golden_image
from mdan_zoo.models.config import ModelConfig
from mdan_zoo.publishing.publish import (
    PublishingError,
    check_weights,
    prepare,
    publish_to_folder,
    publish_to_hub,
    read_metrics,
)
from mdan_zoo.weights import fetch as weights_hub
from mdan_zoo.weights.checkpoint import load_checkpoint, save_checkpoint
from mdan_zoo.weights.manifest import config_of, hierarchy_of, load_manifest
from mdan_zoo.zoo.configs import MODELS
from mdan_zoo.zoo.factory import build_network, create_model

# What is published has no field that the manifest does not know.
pytestmark = pytest.mark.filterwarnings("error::mdan_zoo.weights.manifest.ManifestWarning")


def manifest_of(folder: Path, name: str, entry: dict) -> Path:
    path = folder / "manifest.json"
    path.write_text(json.dumps({"schema_version": 1, "models": {name: entry}}))
    return path


# What may be published


def test_the_released_weights_may_be_published():
    weights = check_weights(NAME, RELEASED)
    entry = load_manifest()[NAME]
    assert (weights.size, weights.sha256) == (entry.size, entry.sha256)
    assert weights.parameters == entry.parameters
    assert weights.config == MODELS[NAME]
    for level, scores in entry.details["golden"]["output"].items():
        assert weights.golden[level] == pytest.approx(scores, abs=2e-3)


@pytest.mark.parametrize("name", ["", "a/b", "../a", "a b", ".hidden", "a.json", "ä"])
def test_names_that_no_model_can_have_are_refused(name):
    with pytest.raises(InputError, match="letters, digits, '_' and '-' only"):
        check_weights(name, RELEASED)


def test_weights_of_another_model_are_refused():
    with pytest.raises(CheckpointError, match="belongs to the model flat_oasis4, not to mdan_oa"):
        check_weights(NAME, FLAT)


def test_another_hierarchy_is_refused_under_a_registered_name(own_file):
    with pytest.raises(CheckpointError, match=r"hierarchy 'likes' \(2/4 .*, not circumplex4"):
        check_weights(NAME, own_file)


def test_another_preprocessing_is_refused_under_a_registered_name(tmp_path):
    config = ModelConfig(
        NAME, "circumplex4", "OASIS", "mobilenetv2_100", options=MODELS[NAME].options
    )
    save_checkpoint(tmp_path / "w.safetensors", build_network(config), config)
    with pytest.raises(CheckpointError, match="not mdan_oasis4 as it is registered: it has input"):
        check_weights(NAME, tmp_path / "w.safetensors")
    assert check_weights("my_model", tmp_path / "w.safetensors").config == config


def test_nan_is_refused(tmp_path):
    path = rewritten(
        tmp_path / "nan.safetensors", lambda t: t["global_classifier.bias"].fill_(torch.nan)
    )
    with pytest.raises(CheckpointError, match=r"global_classifier\.bias has values that are NaN"):
        check_weights(NAME, path)


def test_a_missing_tensor_is_refused(tmp_path):
    path = rewritten(tmp_path / "cut.safetensors", lambda t: t.pop("global_classifier.bias"))
    with pytest.raises(CheckpointError, match=r"lacks global_classifier\.bias"):
        check_weights(NAME, path)


class Trap:
    def __reduce__(self):
        return (os._exit, (77,))


def test_a_pickle_is_refused_unopened(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(pickle.dumps(Trap()))
    for name in (NAME, "my_model"):
        with pytest.raises(CheckpointError, match="is not a safetensors checkpoint"):
            check_weights(name, path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"cannot read the checkpoint .*gone\.safetensors"):
        check_weights("my_model", tmp_path / "gone.safetensors")


def test_a_network_that_cannot_be_built_is_refused(tmp_path):
    with safe_open(str(RELEASED), "pt") as file:
        about = json.loads(file.metadata()["mdan_zoo"])
    about["config"] |= {"name": "mine", "backbone": "no_such_backbone"}
    path = tmp_path / "w.safetensors"
    save_file(load_file(RELEASED), path, {"mdan_zoo": json.dumps(about)})
    with pytest.raises(MdanZooError, match="no backbone 'no_such_backbone'"):
        check_weights("mine", path)


# What is said of it


def test_what_the_manifest_knows_of_this_file_is_taken(released):
    known = load_manifest()[NAME]
    assert released.licences == known.licences
    assert released.metrics == known.details["metrics"]
    assert released.command == known.command
    assert released.dataset == "OASIS"


def test_licence_and_metrics_of_other_weights_are_not_taken(tmp_path):
    publication = prepare(NAME, retrained(tmp_path / "w.safetensors"))
    assert publication.licences.weights == "unknown"
    assert publication.licences.data == load_manifest()[NAME].licences.data
    assert publication.metrics is None


def test_fine_tuned_weights_record_what_they_derive_from(own_file):
    publication = prepare("my_model", own_file, licence="MIT")
    assert publication.derived_from == NAME
    assert publication.dataset == ""  # the registered dataset is not what they learned
    assert publication.licences.weights == "MIT"


def test_metrics_are_read(tmp_path):
    path = tmp_path / "metrics.json"
    content = {"protocol": "held out", "rows": [{"polarity_accuracy": 0.5, "branch": "local"}]}
    path.write_text(json.dumps(content))
    assert read_metrics(path) == content
    assert prepare(NAME, RELEASED, metrics=path).metrics == content


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"rows": [{"a": 1}]}',
        '{"protocol": "", "rows": [{"a": 1}]}',
        '{"protocol": "p", "rows": []}',
        '{"protocol": "p", "rows": [{"a": "b"}]}',
        '{"protocol": "p", "rows": [{"a": NaN}]}',
        '{"protocol": "p", "rows": [{"a": [1], "b": 1}]}',
        '{"protocol": "p", "rows": {"a": 1}}',
        '{"protocol": "p", "dataset": 1, "rows": [{"a": 1}]}',
    ],
)
def test_malformed_metrics_are_refused(tmp_path, content):
    (tmp_path / "metrics.json").write_text(content)
    with pytest.raises(InputError, match=r"metrics\.json"):
        read_metrics(tmp_path / "metrics.json")


# To the hub


def test_published_weights_come_back(hub, tmp_path, run):
    status, output, messages = run(NAME, "--weights", RELEASED, "--repo", "lab/oasis")
    entry = json.loads(output)
    (source,) = entry["sources"]
    assert status == 0
    assert f"published {NAME} in lab/oasis at commit {source['revision']}" in messages
    _, in_lfs = hub.repos["lab/oasis"].commits[-1][1]["model.safetensors"]
    assert in_lfs
    assert source == {
        "type": "huggingface",
        "repo": "lab/oasis",
        "revision": hub.repos["lab/oasis"].commits[-1][0],
        "path": "model.safetensors",
    }
    parsed = load_manifest(manifest_of(tmp_path, "oasis", entry))["oasis"]
    assert parsed.released
    found = weights_hub.find_weights(parsed)
    assert found.is_relative_to(tmp_path / "cache")
    network = build_network(config_of(parsed), hierarchy_of(parsed))
    load_checkpoint(network, found, config_of(parsed))
    assert logits(network).equal(logits(create_model(NAME, checkpoint=RELEASED)))


def test_everything_is_one_commit(hub, released):
    publish_to_hub(released, "lab/oasis")
    (_, before), (_, after) = hub.repos["lab/oasis"].commits
    assert set(after) - set(before) == {"README.md", "config.json", "model.safetensors"}
    assert [r for r in hub.requests if "/commit/" in r] == [
        "POST /api/models/lab/oasis/commit/main"
    ]
    about = json.loads(after["config.json"][0])
    assert ModelConfig.from_dict(about["config"]) == MODELS[NAME]
    assert Hierarchy.from_dict(about["hierarchy"]) == get_hierarchy("circumplex4")


def test_a_second_version_leaves_the_first(hub, tmp_path, released):
    second = prepare(NAME, retrained(tmp_path / "second.safetensors"))
    entries = [publish_to_hub(released, "lab/oasis"), publish_to_hub(second, "lab/oasis")]
    for entry, publication in zip(entries, (released, second), strict=True):
        parsed = load_manifest(manifest_of(tmp_path, NAME, entry))[NAME]
        assert (
            weights_hub.find_weights(parsed).read_bytes() == publication.weights.path.read_bytes()
        )
    first, last = (entry["sources"][0]["revision"] for entry in entries)
    assert first != last
    assert publish_to_hub(second, "lab/oasis")["sources"][0]["revision"] == last  # nothing is new


def test_the_card_on_the_hub_is_valid(hub, released):
    rows = load_manifest()["mdan_oasis4"].details["metrics"]["rows"]
    (measured,) = (r for r in rows if (r["model"], r["branch"]) == ("mdan_oasis4", "overall"))
    publish_to_hub(released, "lab/oasis")
    card = ModelCard(hub.repos["lab/oasis"].commits[-1][1]["README.md"][0].decode())
    data = card.data
    assert (data.license, data.pipeline_tag) == ("apache-2.0", "image-classification")
    assert (data.library_name, data.datasets) == ("mdan-zoo", ["OASIS"])
    assert data.base_model is None
    overall = {r.metric_name: r for r in data.eval_results}["polarity accuracy (overall)"]
    assert (overall.metric_type, overall.metric_value) == (
        "accuracy",
        measured["polarity_accuracy"],
    )
    assert 'find_pretrained("lab/oasis")' in card.text
    assert "negative: gloomy, distressed" in card.text
    assert "research use" in card.text
    (control,) = (row for row in rows if row["model"] == "flat_oasis4")
    assert f"| flat_oasis4 | overall | {control['polarity_accuracy']} |" in card.text


def test_a_private_repository_is_made_private(hub, released, monkeypatch, tmp_path):
    entry = publish_to_hub(released, "lab/secret", private=True)
    assert hub.repos["lab/secret"].private
    parsed = load_manifest(manifest_of(tmp_path, NAME, entry))[NAME]
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(WeightsUnavailableError, match="answered 401"):
        weights_hub.find_weights(parsed)
    monkeypatch.setenv("HF_TOKEN", "hf_writer")
    assert weights_hub.find_weights(parsed).is_file()


def test_nothing_private_goes_to_a_public_repository(hub, released):
    publish_to_hub(released, "lab/oasis")
    before = list(hub.repos["lab/oasis"].commits)
    with pytest.raises(PublishingError, match="exists and is public; make it private"):
        publish_to_hub(released, "lab/oasis", private=True)
    assert hub.repos["lab/oasis"].commits == before


@pytest.mark.parametrize(
    "repo", ["oasis", "lab/", "a/b/c", "lab/my model", "https://hf.co/a/b", ""]
)
def test_malformed_repositories_are_refused(hub, released, run, repo):
    with pytest.raises(InputError, match="a repository is named OWNER/REPO"):
        publish_to_hub(released, repo)
    assert hub.requests == []


@pytest.mark.parametrize(
    ("token", "advice"),
    [
        (None, r"\(401\): run `hf auth login`, or set HF_TOKEN to a token that may write"),
        ("hf_mistyped", r"login required \(401\)"),
        (READER, r"the token may not write there \(403\): give it the right to write"),
    ],
)
def test_a_refusal_says_what_to_do(hub, released, monkeypatch, token, advice):
    monkeypatch.delenv("HF_TOKEN")
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(PublishingError, match=advice) as refusal:
        publish_to_hub(released, "lab/oasis")
    assert hub.url in str(refusal.value)
    assert "lab/oasis" not in hub.repos


def test_no_connection_is_an_error_of_ours(released, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(PublishingError, match=r"cannot publish lab/oasis at http://127.0.0.1:9: "):
        publish_to_hub(released, "lab/oasis")


def test_an_upload_that_fails_is_no_commit(hub, released):
    hub.full = True
    with pytest.raises(
        PublishingError, match=r"cannot publish lab/oasis at http.*507 Insufficient Storage"
    ):
        publish_to_hub(released, "lab/oasis")
    (_, files), *others = hub.repos["lab/oasis"].commits
    assert others == []
    assert "model.safetensors" not in files


@pytest.mark.parametrize("variable", ["MDAN_ZOO_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_nothing_is_published(hub, released, monkeypatch, variable):
    monkeypatch.setenv(variable, "1")
    with pytest.raises(PublishingError, match="MDAN_ZOO_OFFLINE or HF_HUB_OFFLINE forbids"):
        publish_to_hub(released, "lab/oasis")
    assert hub.requests == []


def test_other_weights_on_the_hub_afterwards_are_noticed(hub, released, monkeypatch):
    publish_to_hub(released, "lab/oasis")
    repo = hub.repos["lab/oasis"]
    commit, files = repo.commits[-1]
    repo.commits[-1] = (commit, {**files, "model.safetensors": (b"other", True)})
    hub.lfs.clear()

    def commit_nothing(changes):
        return commit

    monkeypatch.setattr(repo, "commit", commit_nothing)
    with pytest.raises(PublishingError, match="does not have the weights that were uploaded"):
        publish_to_hub(released, "lab/oasis")


def test_a_file_that_changes_after_the_check_is_not_uploaded(hub, tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(RELEASED.read_bytes())
    publication = prepare(NAME, path)
    retrained(path)
    with pytest.raises(CheckpointError, match="has changed since it was checked"):
        publish_to_hub(publication, "lab/oasis")
    with pytest.raises(CheckpointError, match="has changed since it was checked"):
        publish_to_folder(publication, tmp_path / "folder")
    assert hub.requests == []
    assert not (tmp_path / "folder").exists()


@pytest.mark.slow
def test_the_cards_examples_run(hub, released, tmp_path):
    publish_to_hub(released, "lab/oasis")
    card = ModelCard(hub.repos["lab/oasis"].commits[-1][1]["README.md"][0].decode())
    code = card.text.split("```python\n")[1].split("```")[0]
    golden_image().save(tmp_path / "photo.jpg")
    scope: dict = {}
    exec(code.replace('"photo.jpg"', repr(str(tmp_path / "photo.jpg"))), scope)
    assert not scope["network"].training
    assert logits(scope["network"]).equal(logits(create_model(NAME, checkpoint=RELEASED)))


# The command


def test_private_is_for_repositories(run, tmp_path):
    with pytest.raises(InputError, match="--private applies to --repo"):
        run(NAME, "--weights", RELEASED, "--folder", tmp_path, "--private")


@pytest.mark.parametrize("targets", [[], ["--repo", "a/b", "--folder", "c"]])
def test_one_target_is_needed(run, targets):
    with pytest.raises(SystemExit):
        run(NAME, "--weights", RELEASED, *targets)


def test_the_parser_needs_no_torch():
    code = (
        "import sys, mdan_zoo.cli.publish, mdan_zoo.weights.manifest; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
