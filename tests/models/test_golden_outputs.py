"""Golden outputs of every model of the zoo, with its own backbone, on images of 64 x 64.

Models that differ only in name and dataset are one network and are tested once.
"""

from __future__ import annotations

import dataclasses
import math
import zlib

import pytest
import torch

from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.weights.manifest import load_manifest
from mdan_zoo.zoo.configs import MODELS
from mdan_zoo.zoo.factory import build_network


def network_of(name):
    """Return a config without what does not affect the network."""
    return dataclasses.replace(MODELS[name], name="", dataset="")


DISTINCT = {network_of(name): name for name in sorted(MODELS)}

# P_O of the first classes of every level for the first image; see `fixed_network`.
GOLDEN = {
    "flat_fi8_lite0": [[0.4997, 0.5003], [0.1429, 0.1188, 0.1117]],
    "flat_oasis4": [[0.4871, 0.5129], [0.2496, 0.2375, 0.2314]],
    "mdan_emotion6": [[0.4248, 0.5752], [0.0815, 0.0433, 0.7527]],
    "mdan_fi8_lite0": [[0.5331, 0.4669], [0.142, 0.0999, 0.1392]],
    "mdan_iaps8": [[0.4239, 0.5761], [0.1858, 0.1227, 0.412]],
    "mdan_oasis4": [[0.4822, 0.5178], [0.1569, 0.2397, 0.2593]],
    "mdan_webemo25": [[0.4406, 0.5594], [0.0554, 0.0211, 0.7729], [0.0157, 0.0085, 0.0112]],
}


def fixed_network(name):
    """Build a model with weights that depend only on their names, not on library versions."""
    model = build_network(MODELS[name])
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter.fill_(0.0 if parameter_name.endswith("bias") else 1.0)
            else:
                generator = torch.Generator().manual_seed(zlib.crc32(parameter_name.encode()))
                # Small for the classifiers, or the probabilities are all 0 or 1.
                gain = 0.25 if "classifier" in parameter_name else 1.0
                scale = gain / math.sqrt(parameter[0].numel())
                parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0  # the statistics become those of the next batch
        model.train()(images())
    return model.eval()


def images():
    return torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_manifest_has_the_right_number_of_parameters(name):
    with torch.device("meta"):
        network = build_network(MODELS[name])
    count = sum(parameter.numel() for parameter in network.parameters())
    assert load_manifest()[name].parameters == count


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(DISTINCT.values()))
def test_golden_output(name):
    with torch.inference_mode():
        output = fixed_network(name)(images())
    levels = output.probs["overall"]
    tree = get_hierarchy(MODELS[name].hierarchy)
    assert [tuple(level.shape) for level in levels] == [(4, k) for k in tree.sizes]
    found = [level[0, :3].tolist() for level in levels]
    for level, golden in zip(found, GOLDEN[name], strict=True):
        assert level == pytest.approx(golden, abs=2e-3)
    ratings = {rating: values[0].item() for rating, values in output.dimensions.items()}
    expected = {"valence": 1.8447, "arousal": 2.1082} if MODELS[name].dimensions else {}
    assert ratings == pytest.approx(expected, abs=2e-3)
