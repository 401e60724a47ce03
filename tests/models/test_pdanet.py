"""PDANet against a restatement of its formulas, its loss and its number of parameters."""

from __future__ import annotations

import math

import pytest
import torch
from restatement import SIZES, check_equals_the_restatement, tiny_network
from torch import nn

from mdan_zoo.errors import InputError
from mdan_zoo.images.input_spec import InputSpec
from mdan_zoo.images.preprocessing import Preprocessing
from mdan_zoo.models.config import ModelConfig
from mdan_zoo.models.options import PDANetOptions
from mdan_zoo.models.pdanet import PDANet
from mdan_zoo.training.losses import TrainingStep, image_weights, level_targets
from mdan_zoo.training.recipe import Recipe
from mdan_zoo.zoo.factory import create_model


def restate(weights, options, pyramid):
    """Return y, p and the class maps, position by position."""
    features = pyramid[3]
    width, height, breadth = features.shape[1:]
    positions = height * breadth
    columns = features.flatten(2).transpose(1, 2)  # (N, positions, channels)

    def layer(name, inputs):
        return inputs @ weights[f"{name}.weight"].flatten(1).T + weights[f"{name}.bias"]

    gate = (1 / (1 + torch.exp(-layer("gate", columns)))).sum(dim=1) / positions
    if options.channel_gate == "double_sigmoid":
        gate = 1 + 1 / (1 + torch.exp(-gate))
    values = layer("value", columns).clamp(min=0)
    hidden = torch.tanh(layer("project_value", values) + layer("project_gate", gate)[:, None])
    scores = torch.exp(hidden @ weights["score.weight"].flatten())
    attention = scores / scores.sum(dim=1, keepdim=True)
    first = (values * gate[:, None]).mean(dim=1)
    second = (values * attention[:, :, None]).sum(dim=1)
    if options.spatial_pooling == "mean":
        second = second / positions
    logits = layer("global_classifier", torch.cat([first, second], dim=1))

    by_gate, by_attention = weights["global_classifier.weight"].split(width, dim=1)
    share = attention * (1 if options.spatial_pooling == "mean" else positions)
    class_maps = (values * gate[:, None]) @ by_gate.T
    class_maps = class_maps + (values * share[:, :, None]) @ by_attention.T
    class_maps = class_maps.transpose(1, 2).unflatten(2, (height, breadth))
    return [logits, attention.unflatten(1, (height, breadth)), class_maps]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channel_gate", ["double_sigmoid", "sigmoid"])
@pytest.mark.parametrize("spatial_pooling", ["mean", "sum"])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_equals_the_formulas_in_outputs_and_gradients(depth, spatial_pooling, channel_gate, size):
    options = PDANetOptions(channel_gate, spatial_pooling)
    check_equals_the_restatement(tiny_network(PDANet, depth, options), restate, size)


def test_class_maps_add_up_to_the_logits():
    network = tiny_network(PDANet, 2, PDANetOptions())
    output = network(torch.randn(2, 3, 96, 64, dtype=torch.float64), return_maps=True)
    logits = output.class_maps[0].mean(dim=(2, 3)) + network.global_classifier.bias
    torch.testing.assert_close(logits, output.logits["global"][0])


def test_number_of_parameters():
    """The authors' code also has a convolution that is never called and the bias of the score."""
    config = ModelConfig("pdanet", "mikels8", "FI", architecture="pdanet")
    with torch.device("meta"):
        network = create_model(config)
        unused = nn.Conv2d(2048, 2048, 1)
    counts = {name: parameter.numel() for name, parameter in network.named_parameters()}
    assert sum(counts.values()) == 59_320_392
    published = sum(counts.values()) + unused.weight.numel() + unused.bias.numel() + 1
    assert published == 63_516_745
    added = ("gate", "value", "project_value", "project_gate")
    biases = sum(counts[f"{name}.bias"] for name in added) + unused.bias.numel() + 1
    assert published - biases == 63_506_504  # Table 1 of the MDAN paper: 63.51M


def loss_and_parts(depth, targets_of, **options):
    """Return the loss of four images, and CE_i and g_i of each, computed from its probabilities.

    `targets_of` returns the targets of the levels given the network's classes of the images.
    """
    network = tiny_network(PDANet, depth, PDANetOptions(**options)).float()
    step = TrainingStep(network, Preprocessing(InputSpec(64, 64)), Recipe("mdan_fi8"))
    images = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)
    paths = network.hierarchy.leaf_paths
    with torch.no_grad():
        leaves = network(step.preprocessing.normalise(images)).probs["overall"][-1].tolist()
        winners = [max(range(len(paths)), key=row.__getitem__) for row in leaves]
        targets = targets_of(network.hierarchy, winners)
        total = step(images, targets, image_weights(targets)).item()
    losses, wrong = [], []
    for row, (probs, winner) in enumerate(zip(leaves, winners, strict=True)):
        levels = []
        for level, target in enumerate(targets):
            label = target[row].tolist()
            sums = [
                sum(p for p, path in zip(probs, paths, strict=True) if path[level] == k)
                for k in range(len(label))
            ]
            if sum(label):
                levels.append(-sum(y * math.log(p) for y, p in zip(label, sums, strict=True)))
        losses.append(sum(levels) / len(levels))
        polarity = targets[0][row].tolist()
        wrong.append(depth > 1 and paths[winner][0] != polarity.index(max(polarity)))
    return total, losses, wrong


def hard_labels(hierarchy, winners):
    """The predicted classes of images 0 and 1, and classes of another polarity of 2 and 3."""
    paths = hierarchy.leaf_paths
    other = [next((p for p in paths if p[0] != paths[w][0]), paths[-1]) for w in winners[2:]]
    labels = [*(paths[winner] for winner in winners[:2]), *other]
    return [
        torch.eye(size)[[label[level] for label in labels]]
        for level, size in enumerate(hierarchy.sizes)
    ]


def partial_labels(hierarchy, winners):
    """Without the finest level of images 1 and 3."""
    *coarse, fine = hard_labels(hierarchy, winners)
    return [*coarse, fine * torch.tensor([1.0, 0.0, 1.0, 0.0])[:, None]]


def soft_labels(hierarchy, winners):
    """Mixtures; the likeliest class of image 0 has another polarity than the likeliest polarity."""
    fine = hard_labels(hierarchy, winners)[-1]
    shares = torch.tensor([1.0, 0.6, 0.7, 0.9])[:, None]
    fine = shares * fine + (1 - shares) * fine.flip(0)
    polarities = [path[0] for path in hierarchy.leaf_paths]
    order = sorted(range(len(fine[0])), key=lambda k: polarities[k] != polarities[winners[0]])
    fine[0] = 0
    fine[0, order[:2]], fine[0, order[-1]] = 0.3, 0.4
    return list(level_targets(fine, hierarchy))


@pytest.mark.parametrize("weight", [0.5, 2.0])
@pytest.mark.parametrize("targets_of", [hard_labels, partial_labels, soft_labels])
@pytest.mark.parametrize("depth", [2, 3])
def test_the_loss_of_an_image_grows_if_the_polarity_is_wrong(depth, targets_of, weight):
    total, losses, wrong = loss_and_parts(depth, targets_of, polarity_weight=weight)
    assert set(wrong) == {False, True}
    expected = [(1 + weight * g) * loss for loss, g in zip(losses, wrong, strict=True)]
    assert total == pytest.approx(sum(expected) / 4, rel=1e-5)


def test_a_hierarchy_of_one_level_has_no_polarities():
    total, losses, _ = loss_and_parts(1, hard_labels)
    assert total == pytest.approx(sum(losses) / 4, rel=1e-5)


def test_the_polarity_of_a_prediction_passes_no_gradient_and_that_of_the_loss_does():
    network = tiny_network(PDANet, 2, PDANetOptions())
    output = network(torch.randn(4, 3, 64, 64, dtype=torch.float64))
    right = output.log_probs["overall"][-1].argmax(dim=1).tolist()
    targets = [level.double() for level in hard_labels(network.hierarchy, right)]
    auxiliary = network.auxiliary_loss(output, targets)
    (gradient,) = torch.autograd.grad(auxiliary, output.logits["global"][0])
    assert gradient[:2].abs().max() == 0
    assert gradient[2:].abs().min() > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channel_gate": "plain"}, "channel_gate must be double_sigmoid or sigmoid, not 'plain'"),
        ({"spatial_pooling": None}, "spatial_pooling must be mean or sum, not None"),
        ({"polarity_weight": -0.5}, "polarity_weight must be a number of at least 0, not -0.5"),
        ({"polarity_weight": "1"}, "polarity_weight must be a number of at least 0, not '1'"),
        ({"polarity_weight": math.nan}, "polarity_weight must be a number of at least 0, not nan"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(InputError, match=message):
        PDANetOptions(**options)
