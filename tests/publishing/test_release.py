"""Releases: the weights of training runs in the package of a checkout, and in its manifest."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from published_weights import RELEASED, logits, rewritten
from random_weights import save_random_weights
from releases import JOINT_METRICS, METRICS, ROOT, contents, write_run

from mdan_zoo.errors import CheckpointError, InputError, ManifestError
from mdan_zoo.inference.predictor import Predictor
from mdan_zoo.inference.verification import golden_image
from mdan_zoo.publishing.release import DATA_TERMS, PROTOCOLS, write_release
from mdan_zoo.weights.manifest import load_manifest
from mdan_zoo.zoo.configs import MODELS
from mdan_zoo.zoo.factory import create_model, list_models, load_network

NAME = "mdan_oasis4"
WEIGHTS = f"mdan_zoo/weights/{NAME}.safetensors"
MANIFEST = "weights_manifest.json"


@pytest.fixture
def checkout(tmp_path):
    """The files of a checkout that a release reads and writes."""
    folder = tmp_path / "checkout"
    (folder / WEIGHTS).parent.mkdir(parents=True)
    shutil.copy(RELEASED, folder / WEIGHTS)
    shutil.copy(ROOT / MANIFEST, folder)
    return folder


@pytest.fixture
def random_run(tmp_path, random_checkpoint):
    """A run of the registered network with other weights than the released ones."""
    return write_run(tmp_path / "run", random_checkpoint)


@pytest.mark.filterwarnings("error::mdan_zoo.weights.manifest.ManifestWarning")
def test_a_release_replaces_the_weights_of_its_model_only(checkout, random_run, random_checkpoint):
    before = load_manifest(checkout / MANIFEST)
    write_release([random_run], METRICS, checkout)
    assert set(contents(checkout)) == {WEIGHTS, MANIFEST}
    after = load_manifest(checkout / MANIFEST)
    entry = after.pop(NAME)
    assert entry.sha256 != before.pop(NAME).sha256
    assert after == before

    config, network = load_network(checkout / WEIGHTS)
    assert config == MODELS[NAME]
    assert logits(network).equal(logits(create_model(NAME, checkpoint=random_checkpoint)))
    found = Predictor(checkpoint=checkout / WEIGHTS, device="cpu").predict(golden_image())
    scores = {level.name: level.scores for level in found.levels}
    for level, recorded in entry.details["golden"]["output"].items():
        assert recorded == pytest.approx(scores[level], abs=1e-5)
    assert entry.size == (checkout / WEIGHTS).stat().st_size
    assert entry.sha256 == entry.details["training"]["weights_sha256"]
    assert [str(source) for source in entry.sources] == [f"package weights/{NAME}.safetensors"]
    assert entry.details["metrics"] == load_manifest()[NAME].details["metrics"]
    assert entry.licences == load_manifest()[NAME].licences


@pytest.mark.slow
def test_a_model_of_two_datasets_is_released_with_the_terms_and_the_protocol_of_both(
    checkout, tmp_path
):
    name, command = "flat_fi8_lite0", "mdan-zoo train flat_fi8_lite0 --data FI=A --data OASIS=B"
    save_random_weights(tmp_path / "random.safetensors", config=MODELS[name])
    before = load_manifest(checkout / MANIFEST)
    random = tmp_path / "random.safetensors"
    test = {"FI": {}, "OASIS": {}}
    for number, (seed, tested) in enumerate([(0, {}), (1, test)]):
        wrong = write_run(
            tmp_path / f"{number}", random, command, test=tested, recipe={"seed": seed}
        )
        with pytest.raises(InputError, match=f"must have seed 0 .*, not seed {seed} and"):
            write_release([wrong], JOINT_METRICS, checkout)
    run = write_run(tmp_path / "run", random, command, test=test)
    write_release([run], JOINT_METRICS, checkout)
    after = load_manifest(checkout / MANIFEST)
    entry = after.pop(name)
    assert (checkout / entry.sources[0].path).name == f"{name}.safetensors"
    assert after == {other: before[other] for other in before if other != name}
    assert entry.command == command
    assert entry.licences.data == DATA_TERMS["FI+OASIS"]
    for words in (
        "Flickr and Instagram",
        "authors of OASIS",
        "contains no images",
        "suit your use",
    ):
        assert words in entry.licences.data
    metrics = entry.details["metrics"]
    assert metrics["protocol"].startswith("on 2,619 images of FI and 130 of OASIS that are not in ")
    assert metrics["source"] == "benchmarks/results/fi_validation_summary.csv"
    assert {row["model"] for row in metrics["rows"]} >= {"flat_fi8_lite0", "mdan_fi8_lite0"}
    assert all(isinstance(row["seeds"], int) for row in metrics["rows"])
    golden = entry.details["golden"]["output"]
    weights = checkout / f"mdan_zoo/weights/{name}.safetensors"
    found = Predictor(checkpoint=weights, device="cpu").predict(golden_image())
    ratings = {rating.name: rating.value for rating in found.dimensions}
    assert golden.pop("dimensions") == pytest.approx(ratings, abs=1e-5)
    assert golden.keys() == {"polarity", "emotion"}


def test_the_terms_and_the_protocol_of_every_released_dataset_are_known():
    released = {MODELS[name].dataset for name in list_models(pretrained=True)}
    assert DATA_TERMS.keys() == PROTOCOLS.keys() == released
    for name in list_models(pretrained=True):
        entry = load_manifest()[name]
        assert entry.licences.data == DATA_TERMS[MODELS[name].dataset]
        assert entry.details["metrics"]["protocol"] == PROTOCOLS[MODELS[name].dataset]
        assert entry.command == entry.details["training"]["command"]


def test_the_released_weights_are_released_again_as_they_are(checkout, tmp_path):
    before = load_manifest(checkout / MANIFEST)[NAME]
    write_release([write_run(tmp_path / "run", RELEASED)], METRICS, checkout)
    after = load_manifest(checkout / MANIFEST)[NAME]
    assert (after.sha256, after.size, after.command) == (before.sha256, before.size, before.command)
    assert (checkout / WEIGHTS).read_bytes() == RELEASED.read_bytes()


def test_a_model_that_was_not_released_gets_its_weights(checkout, random_run):
    values = json.loads((checkout / MANIFEST).read_text())
    values["models"][NAME] = {**values["models"]["mdan_fi8"], "command": "mdan-zoo train"}
    (checkout / MANIFEST).write_text(json.dumps(values))
    (checkout / WEIGHTS).unlink()
    write_release([random_run], METRICS, checkout)
    entry = load_manifest(checkout / MANIFEST)[NAME]
    assert (entry.status, entry.reason) == ("released", "")
    assert (checkout / WEIGHTS).stat().st_size == entry.size


@pytest.mark.slow
def test_a_run_that_cannot_be_released(checkout, random_run, tiny_model, tmp_path):
    before = contents(checkout)

    def refused(run, kind, message):
        with pytest.raises(kind, match=message):
            write_release([random_run, run], METRICS, checkout)  # the first one alone is good
        assert contents(checkout) == before

    refused(tmp_path / "gone", CheckpointError, r"cannot read .*gone/model\.safetensors")
    tiny = write_run(tmp_path / "tiny", tiny_model)
    refused(tiny, InputError, "its dataset FI must be in DATA_TERMS and PROTOCOLS")

    def widen(tensors):
        tensors["global_classifier.bias"] = torch.zeros(9)

    wide = write_run(tmp_path / "wide", rewritten(tmp_path / "wide.safetensors", widen))
    refused(wide, CheckpointError, r"global_classifier\.bias has shape \(9,\)")
    cut = write_run(tmp_path / "cut", RELEASED)
    (cut / "model.safetensors").write_bytes(RELEASED.read_bytes()[:-1])
    refused(cut, CheckpointError, r"is not a \w+ safetensors file")


@pytest.mark.parametrize("command", [None, ""])
def test_a_run_without_its_command_is_refused(checkout, random_run, command):
    before, path = contents(checkout), random_run / "training.json"
    report = json.loads(path.read_text(encoding="utf-8")) | {"command": command}
    if command is None:
        del report["command"]
    path.write_text(json.dumps(report), encoding="utf-8")
    with pytest.raises(InputError, match="must have the command of the training"):
        write_release([random_run], METRICS, checkout)
    assert contents(checkout) == before


def test_a_run_of_a_changed_config_is_refused(checkout, checkpoint, tmp_path):
    before = contents(checkout)
    run = write_run(tmp_path / "run", checkpoint)  # another preprocessing than registered
    with pytest.raises(CheckpointError, match="is not mdan_oasis4 as it is registered: it has"):
        write_release([run], METRICS, checkout)
    assert contents(checkout) == before


@pytest.mark.parametrize(
    ("report", "message"),
    [
        (None, r"cannot read the training report in .*run: .*No such file"),
        ("{", r"cannot read the training report in .*run: "),
        ("[]", r"is not that of its model\.safetensors"),
        ('{"weights_sha256": "0"}', r"is not that of its model\.safetensors"),
    ],
)
def test_a_run_without_its_report_is_refused(checkout, random_run, report, message):
    before = contents(checkout)
    (random_run / "training.json").unlink()
    if report is not None:
        (random_run / "training.json").write_text(report)
    with pytest.raises(InputError, match=message):
        write_release([random_run], METRICS, checkout)
    assert contents(checkout) == before


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        (None, r"cannot read the metrics .*summary\.csv: .*No such file"),
        ("", f"has no row of {NAME}"),
        ("model,r\nflat_oasis4,0.5\n", f"has no row of {NAME}"),
        (f"model,r\n{NAME},high\n", r"cannot read the metrics .*summary\.csv: .*'high'"),
        (f"model,r\n{NAME},0.5,0.5\n", r"cannot read the metrics .*summary\.csv"),
        ("accuracy\n0.5\n", f"has no row of {NAME}"),
    ],
)
def test_malformed_metrics_are_refused(checkout, random_run, tmp_path, metrics, message):
    before = contents(checkout)
    path = tmp_path / "summary.csv"
    if metrics is not None:
        path.write_text(metrics)
    with pytest.raises(InputError, match=message):
        write_release([random_run], path, checkout)
    assert contents(checkout) == before


@pytest.mark.parametrize("content", ["", "{}", '{"schema_version": 99, "models": {}}'])
def test_a_broken_manifest_is_left_alone(checkout, random_run, content):
    (checkout / MANIFEST).write_text(content)
    before = contents(checkout)
    with pytest.raises(ManifestError, match="weights_manifest"):
        write_release([random_run], METRICS, checkout)
    assert contents(checkout) == before


def test_without_a_checkout_nothing_is_written(random_run, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"needs a checkout of mdan-zoo, and there is no .*empty"):
        write_release([random_run], METRICS, tmp_path / "empty")
    assert contents(tmp_path / "empty") == {}
