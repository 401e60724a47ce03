"""The feature pyramid network against a restatement of its formulas; its number of parameters."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from restatement import SIZES, check_equals_the_restatement, restated_fpn, tiny_network

from mdan_zoo.errors import InputError
from mdan_zoo.models.config import ModelConfig
from mdan_zoo.models.fpn import FPNClassifier
from mdan_zoo.models.options import FPNOptions
from mdan_zoo.zoo.factory import create_model


def restate(weights, options, pyramid):
    """Return y and the class maps, level by level."""
    maps = restated_fpn(weights, pyramid)
    weight, bias = (weights[f"global_classifier.{name}"] for name in ("weight", "bias"))
    logits, class_maps = bias, 0
    size = pyramid[1].shape[2:]
    for rows, feature_map in zip(weight.split(options.dim, dim=1), maps, strict=True):
        logits = logits + feature_map.mean(dim=(2, 3)) @ rows.T
        by_class = torch.einsum("kd,ndhw->nkhw", rows, feature_map)
        class_maps = class_maps + F.interpolate(by_class, size, mode="bilinear")
    return [logits, class_maps]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_equals_the_formulas_in_outputs_and_gradients(depth, size):
    network = tiny_network(FPNClassifier, depth, FPNOptions(dim=8))
    check_equals_the_restatement(network, restate, size)


def test_class_maps_add_up_to_the_logits():
    network = tiny_network(FPNClassifier, 2, FPNOptions(dim=8))
    output = network(torch.randn(2, 3, 96, 64, dtype=torch.float64), return_maps=True)
    logits = output.class_maps[0].mean(dim=(2, 3)) + network.global_classifier.bias
    torch.testing.assert_close(logits, output.logits["global"][0])


def test_number_of_parameters():
    with torch.device("meta"):
        network = create_model(ModelConfig("fpn", "mikels8", "FI", architecture="fpn"))
    assert sum(parameter.numel() for parameter in network.parameters()) == 45_262_664


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 0}, "dim must be a whole number from 1 to 1048576, not 0"),
        ({"dim": 256.0}, "dim must be a whole number from 1 to 1048576, not 256.0"),
        ({"dropout": 1}, "dropout must be at least 0 and below 1, not 1"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(InputError, match=message):
        FPNOptions(**options)
