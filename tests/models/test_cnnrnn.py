"""The CNN-RNN against a restatement of its formulas, its loss and its number of parameters."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from restatement import SIZES, check_equals_the_restatement, tiny_network

from mdan_zoo.errors import InputError
from mdan_zoo.models.cnnrnn import CNNRNN, contrastive_loss
from mdan_zoo.models.config import ModelConfig
from mdan_zoo.models.options import CNNRNNOptions
from mdan_zoo.training.losses import level_targets
from mdan_zoo.zoo.factory import create_model


def gru(weights, name, inputs):
    """Return the states of a GRU from its equations, one image at a time."""
    w_input, w_hidden = weights[f"{name}.weight_ih"], weights[f"{name}.weight_hh"]
    b_input, b_hidden = weights[f"{name}.bias_ih"], weights[f"{name}.bias_hh"]
    rows = []
    for image in range(len(inputs[0])):
        state, states = torch.zeros(w_hidden.shape[1], dtype=torch.float64), []
        for step in inputs:
            reset_x, update_x, new_x = (w_input @ step[image] + b_input).chunk(3)
            reset_h, update_h, new_h = (w_hidden @ state + b_hidden).chunk(3)
            reset = 1 / (1 + torch.exp(-(reset_x + reset_h)))
            update = 1 / (1 + torch.exp(-(update_x + update_h)))
            state = (1 - update) * torch.tanh(new_x + reset * new_h) + update * state
            states.append(state)
        rows.append(torch.stack(states))
    return torch.stack(rows)


def restate(weights, options, pyramid):
    """Return y and h."""
    steps = []
    for number, feature_map in enumerate(pyramid):
        linear, norm = f"projections.{number}.0", f"projections.{number}.2"
        pooled = feature_map.flatten(2).mean(dim=2)
        x = (pooled @ weights[f"{linear}.weight"].T + weights[f"{linear}.bias"]).clamp(min=0)
        mean, variance = (weights[f"{norm}.running_{name}"] for name in ("mean", "var"))
        x = (x - mean) / (variance + 1e-5).sqrt()
        steps.append(x * weights[f"{norm}.weight"] + weights[f"{norm}.bias"])
    forward = gru(weights, "shallow_to_deep", steps)
    backward = gru(weights, "deep_to_shallow", steps[::-1])
    embedding = torch.cat([forward, backward], dim=1).flatten(1)
    weight, bias = (weights[f"global_classifier.{name}"] for name in ("weight", "bias"))
    return [embedding @ weight.T + bias, embedding]


def tiny(depth):
    network = tiny_network(CNNRNN, depth, CNNRNNOptions(dim=6))
    for name, buffer in network.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.5, 2)
    return network


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_equals_the_formulas_in_outputs_and_gradients(depth, size):
    check_equals_the_restatement(tiny(depth), restate, size)


def test_number_of_parameters():
    """The pyramid has no map of the stem, of 64 channels, which would be a fifth step."""
    with torch.device("meta"):
        network = create_model(ModelConfig("cnnrnn", "mikels8", "FI", architecture="cnnrnn"))
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count == 45_671_496
    projection, inputs_of_classifier = 64 * 512 + 512 + 2 * 512, 512 * 8
    assert count + projection + inputs_of_classifier == 45_709_896


def pair_by_pair(embeddings, targets):
    """Return the contrastive loss with margin 1 in a loop; a pair counts as both kinds in parts."""
    sums, totals = [0.0, 0.0], [0.0, 0.0]
    rows = [[value / math.hypot(*row) for value in row] for row in embeddings.tolist()]
    labels = targets.tolist()
    for i, j in itertools.combinations(range(len(rows)), 2):
        distance = math.dist(rows[i], rows[j])
        same = sum(p * q for p, q in zip(labels[i], labels[j], strict=True))
        parts = (same, sum(labels[i]) * sum(labels[j]) - same)
        losses = (distance**2, max(0.0, 1 - distance) ** 2)
        for kind, (part, loss) in enumerate(zip(parts, losses, strict=True)):
            sums[kind] += part * loss
            totals[kind] += part
    means = [a / b if b else 0.0 for a, b in zip(sums, totals, strict=True)]
    return sum(means) / 2


HARD = torch.eye(3)[[0, 1, 1, 2, 0, 0]]
SOFT = torch.tensor([[0.6, 0.4, 0.0], [0.2, 0.2, 0.6], [0.0, 0.0, 1.0]]).repeat(2, 1)
PARTIAL = HARD * torch.tensor([1.0, 1.0, 0.0, 1.0, 1.0, 0.0])[:, None]
WEIGHTED = HARD * torch.tensor([1.0, 2.0, 0.5, 1.0, 1.0, 3.0])[:, None]


@pytest.mark.parametrize("targets", [HARD, SOFT, PARTIAL, WEIGHTED, HARD[[0, 0]], HARD[:2]])
def test_contrastive_loss_is_that_of_all_pairs(targets):
    """Also without a pair of one class, and without one of two."""
    torch.manual_seed(0)
    embeddings = torch.randn(len(targets), 3, dtype=torch.float64)  # distances below and above 1
    found = contrastive_loss(embeddings, targets.double())
    assert found.item() == pytest.approx(pair_by_pair(embeddings, targets.double()), rel=1e-9)


@pytest.mark.parametrize("targets", [HARD * 0, HARD[:1]])
def test_contrastive_loss_is_0_without_pairs(targets):
    embeddings = torch.rand(len(targets), 4, requires_grad=True)
    loss = contrastive_loss(embeddings, targets)
    (gradient,) = torch.autograd.grad(loss, embeddings)
    assert loss == gradient.abs().max() == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_contrastive_loss_is_computed_in_float32_under_autocast(dtype):
    torch.manual_seed(0)
    embeddings = torch.randn(6, 3, dtype=dtype, requires_grad=True)
    with torch.autocast("cpu", dtype=dtype):
        found = contrastive_loss(embeddings, HARD)
    found.backward()
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(pair_by_pair(embeddings.float(), HARD), rel=1e-5)
    assert embeddings.grad.isfinite().all()


def test_a_single_image_cannot_be_trained_on():
    network = tiny_network(CNNRNN, 2, CNNRNNOptions(dim=6))
    pixels = torch.zeros(1, 3, 64, 64, dtype=torch.float64)
    with pytest.raises(InputError, match="trained with at least two images per process"):
        network.train()(pixels)
    assert network.eval()(pixels).features.isfinite().all()


def test_equal_images_of_two_classes_have_a_finite_gradient():
    embeddings = torch.ones(2, 4, requires_grad=True)
    contrastive_loss(embeddings, HARD[:2]).backward()
    assert embeddings.grad.isfinite().all()


def test_the_auxiliary_loss_compares_the_embeddings_by_the_finest_level():
    network = tiny(2)
    output = network(torch.randn(6, 3, 64, 64, dtype=torch.float64))
    targets = level_targets(torch.eye(8).double()[[0, 1, 1, 7, 0, 0]], network.hierarchy)
    expected = 0.5 * contrastive_loss(output.auxiliary["embedding"], targets[1])
    assert network.auxiliary_loss(output, targets).equal(expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 0}, "dim must be a whole number from 1 to 1048576, not 0"),
        ({"dim": 7}, "dim must be even, for the two directions of the GRU, not 7"),
        ({"contrastive_weight": -1}, "contrastive_weight must be a number of at least 0, not -1"),
        ({"contrastive_weight": None}, "contrastive_weight must be .* not None"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(InputError, match=message):
        CNNRNNOptions(**options)
