"""Temperature scaling of trained networks."""

from __future__ import annotations

import dataclasses
import shutil

import pytest
import torch
from safetensors.torch import load_file

from mdan_zoo.datasets.readers.folder import read_folder
from mdan_zoo.datasets.sample import Sample
from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.inference.predictor import Predictor
from mdan_zoo.training import TrainingConfig, fine_tuning_recipe, train
from mdan_zoo.training.calibration import fit_temperature, scale_classifiers
from mdan_zoo.training.report import read_report
from mdan_zoo.training.state import STATE_FILE
from mdan_zoo.zoo.factory import load_network


@pytest.fixture(scope="module")
def trained(model, data, tree, tmp_path_factory):
    """Folders of equal runs, with a fitted temperature and without."""
    folders = {}
    for name, change in (("fitted", "epochs=3"), ("plain", "temperature=1")):
        recipe = fine_tuning_recipe(
            str(model), ["epochs=3", "batch_size=8", "split=50/25/25", "lr=0.003", change]
        )
        output = tmp_path_factory.mktemp("runs") / name
        folders[name] = output
        train(TrainingConfig(recipe, data, output, hierarchy=Hierarchy.load(tree), workers=0))
    return folders


@pytest.mark.slow
def test_the_temperature_is_fitted_on_the_part_val(trained):
    plain, fitted = (read_report(trained[name]) for name in ("plain", "fitted"))
    assert "calibration" not in plain
    found = fitted["calibration"]
    assert found["images"] == 6
    before, after = found["negative_log_likelihood"]
    assert after < before
    _, network = load_network(trained["plain"] / "model.safetensors")
    _, scaled = load_network(trained["fitted"] / "model.safetensors")
    for name, value in network.state_dict().items():
        is_classifier = name.rpartition(".")[0] in network.classifiers()
        expected = value / found["temperature"] if is_classifier else value
        torch.testing.assert_close(scaled.state_dict()[name], expected)


@pytest.mark.slow
def test_a_complete_run_is_saved_again_with_another_temperature(
    trained, model, data, tree, tmp_path
):
    """The state has the network without a temperature, so nothing is trained again."""
    folder = tmp_path / "run"
    shutil.copytree(trained["plain"], folder)
    changes = ["epochs=3", "batch_size=8", "split=50/25/25", "lr=0.003"]
    recipe = fine_tuning_recipe(str(model), [*changes, "temperature=2", "save_dtype=float16"])
    state = (folder / STATE_FILE).read_bytes()
    train(TrainingConfig(recipe, data, folder, hierarchy=Hierarchy.load(tree), workers=0))
    assert (folder / STATE_FILE).read_bytes() == state
    assert read_report(folder)["recipe"]["temperature"] == 2
    _, network = load_network(trained["plain"] / "model.safetensors")
    scale_classifiers(network, 2)
    _, again = load_network(folder / "model.safetensors")
    for name, value in network.state_dict().items():
        found = again.state_dict()[name]
        torch.testing.assert_close(found.float(), value.float(), rtol=1e-3, atol=1e-3, msg=name)
    halves = {value.dtype for value in load_file(folder / "model.safetensors").values()}
    assert torch.float16 in halves


@pytest.mark.slow
def test_the_fit_finds_a_known_scale(trained, data, tree, caplog):
    path, hierarchy = trained["plain"] / "model.safetensors", Hierarchy.load(tree)
    config, network = load_network(path)
    network.eval()
    samples = read_folder(data, hierarchy)
    # Labels such that three quarters of the predictions are right, so that the best one is finite.
    for number, prediction in enumerate(
        Predictor(checkpoint=path).stream([sample.image for sample in samples])
    ):
        order = torch.tensor(prediction.probabilities["overall"][-1]).argsort(descending=True)
        labels = hierarchy.leaf_paths[int(order[int(number % 4 == 0)])]
        samples[number] = dataclasses.replace(samples[number], labels=labels)
    for _ in range(4):  # a fitted temperature is within 0.4 and 2.5
        own = fit_temperature(network, samples, config.input)
        assert own is not None
        scale_classifiers(network, own.temperature)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    scale_classifiers(network, 1 / 1.5)  # 1.5 times the best logits
    caplog.clear()
    found = fit_temperature(network, samples, config.input)
    assert found is not None
    assert found.temperature == pytest.approx(1.5, rel=0.05)
    assert found.negative_log_likelihood[1] < found.negative_log_likelihood[0]
    assert found.images == len(samples)
    assert not caplog.records
    scale_classifiers(network, 1.5)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, before[name])
    coarse = [dataclasses.replace(sample, labels=sample.labels[:1]) for sample in samples]
    assert fit_temperature(network, coarse, config.input) is None


@pytest.mark.slow
@pytest.mark.parametrize(("right", "end"), [(True, "0.4"), (False, "2.5")])
def test_a_temperature_at_an_end_of_its_range_is_told(right, end, model, data, caplog):
    """No temperature is low enough for labels that are all right, or high enough if all wrong."""
    config, network = load_network(model)
    images, leaf_paths = sorted(data.rglob("*.jpg")), network.hierarchy.leaf_paths
    samples = []
    for image, prediction in zip(images, Predictor(checkpoint=model).stream(images), strict=True):
        leaves = torch.tensor(prediction.probabilities["overall"][-1])
        path = leaf_paths[int(leaves.argmax() if right else leaves.argmin())]
        samples.append(Sample(image, path, (), ""))
    assert fit_temperature(network.eval(), samples, config.input) is not None
    (told,) = [record.getMessage() for record in caplog.records]
    assert told.startswith(f"the fitted temperature {end} is an end of the range that was searched")
    assert "on the 24 images of val" in told


@pytest.mark.slow
def test_the_likelihood_is_that_of_the_predictor(trained, data, tree):
    path = trained["plain"] / "model.safetensors"
    config, network = load_network(path)
    samples = read_folder(data, Hierarchy.load(tree))
    found = fit_temperature(network.eval(), samples, config.input)
    predictions = Predictor(checkpoint=path).stream([sample.image for sample in samples])
    probabilities = [
        prediction.probabilities["overall"][-1][sample.labels[-1]]
        for prediction, sample in zip(predictions, samples, strict=True)
    ]
    expected = -torch.tensor(probabilities).log().mean().item()
    assert found is not None
    assert found.negative_log_likelihood[0] == pytest.approx(expected, abs=1e-4)
