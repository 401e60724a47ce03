"""Use of training.json in publishing."""

from __future__ import annotations

import hashlib
import json

import pytest
from huggingface_hub import ModelCard
from published_weights import own_weights

from mdan_zoo.publishing.model_card import model_card
from mdan_zoo.publishing.publish import UNKNOWN_COMMAND, prepare

COMMAND = "mdan-zoo train --init FILE --hierarchy FILE --data FOLDER --output DIR"
FOLDS = {"primary": {"folds": [0.5, 0.7], "mean": 0.6, "sd": 0.1414}}


@pytest.fixture
def weights(tmp_path):
    return own_weights(tmp_path / "model.safetensors")


def write_record(weights, **changes):
    report = {
        "weights_sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "command": COMMAND,
        "dataset": "folder",
        "split": "80/20, seed 0",
        "split_sha256": "0123456789abcdef" * 4,
        "images": 32,
        "test": {
            "images": 8,
            "trained_on": 0,
            "accuracy": {"level_1": 0.75, "level_2": 0.5},
        },
    }
    weights.with_name("training.json").write_text(json.dumps(report | changes))


def test_command_and_accuracy_of_the_test_part(weights):
    write_record(weights)
    publication = prepare("mine", weights)
    assert publication.command == COMMAND
    (row,) = publication.metrics["rows"]
    assert row == {"branch": "overall", "level_1_accuracy": 0.75, "level_2_accuracy": 0.5}
    card = model_card(publication)
    kept = "8 held-out images (80/20, seed 0, SHA-256 0123456789abcdef...)"
    assert f"{kept}, one training run." in card
    assert f"## Training\n\n```\n{COMMAND}\n```" in card
    assert "| overall | 0.75 | 0.5 |" in card


def test_the_card_names_the_options_that_are_not_the_default(weights):
    options = "`dim=64`, `lcam='normalised'`, `normalise_pyramid=True`"
    card = model_card(prepare("mine", weights))
    assert f"on the backbone `mobilenetv2_100`, with the options {options}. It has" in card


def test_a_record_that_does_not_count_its_test_images_is_read(weights):
    write_record(weights, test={"accuracy": {"level_1": 0.75}})
    protocol = prepare("mine", weights).metrics["protocol"]
    assert protocol.startswith("the held-out images (80/20")
    assert protocol.endswith("were trained on them is not known.")


@pytest.mark.parametrize(
    ("trained_on", "told"),
    [
        (0, "one training run."),
        (3, "one training run; the initial weights were trained on 3 of them."),
        (None, "; whether the initial weights were trained on them is not known."),
    ],
)
def test_images_that_the_start_had_learned_are_reported(weights, trained_on, told):
    write_record(
        weights, test={"images": 8, "trained_on": trained_on, "accuracy": {"level_1": 0.75}}
    )
    assert prepare("mine", weights).metrics["protocol"].endswith(told)


def test_mean_and_spread_of_folds(weights):
    write_record(weights, cross_validation={"accuracy": FOLDS})
    (row,) = prepare("mine", weights).metrics["rows"]
    assert row == {
        "branch": "overall",
        "primary_accuracy": 0.6,
        "primary_accuracy_sd_folds": 0.1414,
    }


def test_custom_images_are_not_a_data_set(weights):
    """The readers of these have names, which the hub would take for a dataset's."""
    write_record(weights)
    data = ModelCard(model_card(prepare("mine", weights))).data
    assert (data.datasets, data.eval_results) == (None, None)
    write_record(weights, dataset="FI")
    (first, _) = ModelCard(model_card(prepare("mine", weights))).data.eval_results
    assert first.dataset_name == "FI"


def test_given_metrics_come_first(weights, tmp_path):
    write_record(weights)
    own = {"protocol": "by hand", "rows": [{"accuracy": 0.9}]}
    (tmp_path / "own.json").write_text(json.dumps(own))
    assert prepare("mine", weights, metrics=tmp_path / "own.json").metrics == own


@pytest.mark.parametrize("content", [None, "no JSON", "[]", '{"weights_sha256": "0"}'])
def test_a_record_of_other_weights_says_nothing_of_these(content, weights):
    if content is not None:
        weights.with_name("training.json").write_text(content)
    publication = prepare("mine", weights)
    assert (publication.command, publication.metrics) == (UNKNOWN_COMMAND, None)
