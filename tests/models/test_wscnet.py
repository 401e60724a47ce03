"""WSCNet against a restatement of its formulas, its loss and its number of parameters."""

from __future__ import annotations

import math

import pytest
import torch
from architecture_tests import tiny_config
from restatement import SIZES, check_equals_the_restatement, tiny_network

from mdan_zoo.errors import InputError
from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.images.input_spec import InputSpec
from mdan_zoo.images.preprocessing import Preprocessing
from mdan_zoo.models.config import ModelConfig
from mdan_zoo.models.options import WSCNetOptions
from mdan_zoo.models.wscnet import WSCNet
from mdan_zoo.training.losses import TrainingStep, image_weights
from mdan_zoo.training.recipe import Recipe
from mdan_zoo.training.run import load_model_file
from mdan_zoo.weights.checkpoint import save_checkpoint
from mdan_zoo.zoo.factory import create_model


def restate(weights, options, pyramid):
    """Return y, v, M and m, class by class."""
    features = pyramid[3]
    names = [f"detectors.{number}" for number in range(options.maps_per_class)]
    class_maps = []
    for c in range(len(weights["global_classifier.bias"])):
        detected = 0
        for name in names:
            row = weights[f"{name}.weight"][c, :, 0, 0]
            detected += torch.tensordot(features, row, ([1], [0])) + weights[f"{name}.bias"][c]
        class_maps.append(detected / len(names))
    scores = [class_map.mean(dim=(1, 2)) for class_map in class_maps]
    attention = sum(v[:, None, None] * m for v, m in zip(scores, class_maps, strict=True))
    attention = attention / len(class_maps)
    coupled = torch.cat([features, features * attention[:, None]], dim=1)
    weight, bias = (weights[f"global_classifier.{name}"] for name in ("weight", "bias"))
    logits = coupled.mean(dim=(2, 3)) @ weight.T + bias
    return [logits, torch.stack(scores, dim=1), attention, torch.stack(class_maps, dim=1)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("maps_per_class", [1, 4])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_equals_the_formulas_in_outputs_and_gradients(depth, maps_per_class, size):
    network = tiny_network(WSCNet, depth, WSCNetOptions(maps_per_class))
    check_equals_the_restatement(network, restate, size)


def test_the_sentiment_map_is_the_mean_of_the_maps_if_all_scores_are_one():
    network = tiny_network(WSCNet, 2, WSCNetOptions(maps_per_class=1))
    pyramid = network.backbone(torch.randn(1, 3, 96, 96, dtype=torch.float64))
    with torch.no_grad():
        scores = network.classify(pyramid).auxiliary["detection"]
        network.detectors[0].bias += 1 - scores[0]
        output = network.classify(pyramid, return_maps=True)
    torch.testing.assert_close(output.maps[0], output.class_maps[0].mean(dim=1))


def test_number_of_parameters():
    config = ModelConfig("wscnet", "mikels8", "FI", architecture="wscnet")
    with torch.device("meta"):
        network = create_model(config)
    assert sum(parameter.numel() for parameter in network.parameters()) == 42_598_504


def test_the_loss_is_half_of_each_cross_entropy_at_the_levels_of_the_label():
    """One image with a class, one with several, and one that is only positive or negative."""
    network = tiny_network(WSCNet, 2, WSCNetOptions()).float()
    step = TrainingStep(network, Preprocessing(InputSpec(64, 64)), Recipe("mdan_fi8"))
    images = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8)
    fine = torch.zeros(3, 8)
    fine[0, 1], fine[1, 2], fine[1, 6] = 1, 0.25, 0.75
    coarse = torch.tensor([[1.0, 0.0], [0.25, 0.75], [0.0, 1.0]])
    parents = network.hierarchy.parent_indices[0]
    with torch.no_grad():
        output = network(step.preprocessing.normalise(images))
        total = step(images, [coarse, fine], image_weights([coarse, fine])).item()

    expected = 0.0
    for logits in (output.logits["global"][0], output.auxiliary["detection"]):
        for row, probs in enumerate(logits.softmax(dim=1).tolist()):
            sums = [sum(p for p, j in zip(probs, parents, strict=True) if j == i) for i in (0, 1)]
            levels = [
                -sum(y * math.log(p) for y, p in zip(targets[row].tolist(), found, strict=True))
                for targets, found in ((coarse, sums), (fine, probs))
            ]
            expected += 0.5 * (levels[0] if row == 2 else sum(levels) / 2) / 3
    assert total == pytest.approx(expected, rel=1e-5)


def test_detection_maps_are_copied_by_class_name(tmp_path):
    config = tiny_config("wscnet")
    source = create_model(config)
    save_checkpoint(tmp_path / "model.safetensors", source, config)
    tree = Hierarchy.from_nested({"good": ["calm", "awe"], "bad": ["fear"]})
    network = create_model(config, hierarchy=tree)
    assert load_model_file(network, tmp_path / "model.safetensors") == ["awe", "fear"]
    for own, theirs in zip(network.detectors, source.detectors, strict=True):
        for name in ("awe", "fear"):
            row = source.hierarchy.leaves.index(name)
            assert own.weight[tree.leaves.index(name)].equal(theirs.weight[row])


def test_priors_leave_the_detection_as_it_is():
    network = tiny_network(WSCNet, 1, WSCNetOptions())
    before = [detector.weight.clone() for detector in network.detectors]
    network.set_priors(torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64))
    assert all(a.equal(b.weight) for a, b in zip(before, network.detectors, strict=True))


@pytest.mark.parametrize("value", [0, 65, 4.0, True, "4"])
def test_options_are_checked(value):
    with pytest.raises(InputError, match=f"a whole number from 1 to 64, not {value!r}"):
        WSCNetOptions(maps_per_class=value)
