"""Every registered model by the same tests, with its own backbone, on images of 64 x 64.

Models that differ only in name and data set are one network and are tested once.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import zlib

import pytest
import torch

from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.publishing.release import count_parameters
from mdan_zoo.weights.checkpoint import save_checkpoint
from mdan_zoo.weights.manifest import load_manifest
from mdan_zoo.zoo.factory import MODELS, build_network, create_model


def network_of(name):
    """What of a model's config makes its network."""
    return dataclasses.replace(MODELS[name], name="", dataset="")


DISTINCT = {network_of(name): name for name in sorted(MODELS)}

# P_O of the first classes of every level for the first image; see `fixed_network`.
GOLDEN = {
    "flat_oasis4": [[0.4871, 0.5129], [0.2496, 0.2375, 0.2314]],
    "mdan_emotion6": [[0.4248, 0.5752], [0.0815, 0.0433, 0.7527]],
    "mdan_iaps8": [[0.4239, 0.5761], [0.1858, 0.1227, 0.412]],
    "mdan_oasis4": [[0.4822, 0.5178], [0.1569, 0.2397, 0.2593]],
    "mdan_webemo25": [[0.4406, 0.5594], [0.0554, 0.0211, 0.7729], [0.0157, 0.0085, 0.0112]],
}


def fixed_network(name):
    """Build a model whose weights follow from their names, whatever the libraries' versions are."""
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


def assert_same_output(output, expected):
    assert len(output.probs["overall"]) == len(expected.probs["overall"])
    for a, b in zip(output.log_probs["overall"], expected.log_probs["overall"], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_manifest_has_the_right_number_of_parameters(name):
    assert load_manifest()[name].parameters == count_parameters(MODELS[name])


@pytest.fixture(scope="module", params=sorted(DISTINCT.values()))
def name(request):
    return request.param


@pytest.fixture(scope="module")
def model(name):
    return fixed_network(name)


@pytest.fixture(scope="module")
def expected(model):
    with torch.inference_mode():
        return model(images())


def test_forward(name, model, expected):
    tree = get_hierarchy(MODELS[name].hierarchy)
    assert model.hierarchy == tree
    assert [tuple(level.shape) for level in expected.probs["overall"]] == [
        (4, k) for k in tree.sizes
    ]
    for level in expected.probs["overall"]:
        torch.testing.assert_close(level.sum(dim=1), torch.ones(4))


def test_golden_output(name, expected):
    found = [level[0, :3].tolist() for level in expected.probs["overall"]]
    assert len(found) == len(GOLDEN[name])
    for level, golden in zip(found, GOLDEN[name], strict=True):
        assert level == pytest.approx(golden, abs=2e-3)


def test_backward(model):
    training = copy.deepcopy(model).train()
    output = training(images())
    sum(-level[:, 0].mean() for level in output.log_probs["overall"]).backward()
    for name, parameter in training.named_parameters():
        assert parameter.grad is not None, f"no gradient reaches {name}"
        assert parameter.grad.isfinite().all(), name


def test_save_and_load(name, model, expected, tmp_path):
    path = tmp_path / "weights.safetensors"
    save_checkpoint(path, model, MODELS[name])
    twin = create_model(name, checkpoint=path).eval()
    for key, value in model.state_dict().items():
        assert value.equal(twin.state_dict()[key]), key
    with torch.inference_mode():
        assert_same_output(twin(images()), expected)


def test_compile(model, expected):
    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    with torch.no_grad():
        assert_same_output(compiled(images()), expected)


def test_export_with_any_batch_size(model, expected):
    batch = torch.export.Dim("batch", min=1, max=64)
    example = (images()[:2],)
    program = torch.export.export(model, example, dynamic_shapes={"images": {0: batch}})
    with torch.no_grad():
        assert_same_output(program.module()(images()), expected)
