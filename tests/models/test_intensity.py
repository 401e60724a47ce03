"""The intensity network against a restatement of its formulas and its loss; its parameters."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from restatement import SIZES, check_equals_the_restatement, restated_fpn, tiny_network

from mdan_zoo.errors import InputError
from mdan_zoo.models.config import ModelConfig
from mdan_zoo.models.intensity import IntensityNetwork
from mdan_zoo.models.options import IntensityOptions
from mdan_zoo.training.losses import level_targets
from mdan_zoo.zoo.factory import create_model


def restate(weights, options, pyramid):
    """Return y2, y1, the class maps of y1, I twice, and the class maps of y2."""

    def convolve(name, inputs, padding=0):
        weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        return F.conv2d(inputs, weight, bias, padding=padding)

    def classify(name, features):
        return features @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    c5 = pyramid[3]
    levels = []
    for number, level in enumerate(restated_fpn(weights, pyramid)):
        for layer in (0, 2):
            level = convolve(f"levels.{number}.{layer}", level, padding=1).clamp(min=0)
        levels.append(F.interpolate(level, pyramid[1].shape[2:], mode="bilinear"))
    hidden = convolve("intensity.0", torch.cat(levels, dim=1)).clamp(min=0)
    intensity = 1 / (1 + torch.exp(-convolve("intensity.2", hidden)))
    blocks = intensity.unflatten(3, (-1, 4)).unflatten(2, (-1, 4))
    attended = torch.cat([c5, c5 * blocks.mean(dim=(3, 5))], dim=1)
    first, second = weights["first_classifier.weight"], weights["global_classifier.weight"]
    return [
        classify("global_classifier", attended.mean(dim=(2, 3))),
        classify("first_classifier", c5.mean(dim=(2, 3))),
        torch.einsum("kd,ndhw->nkhw", first, c5).detach(),
        intensity[:, 0],
        intensity[:, 0],
        torch.einsum("kd,ndhw->nkhw", second, attended),
    ]


def tiny(depth, **options):
    return tiny_network(IntensityNetwork, depth, IntensityOptions(dim=8, **options))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_equals_the_formulas_in_outputs_and_gradients(depth, size):
    check_equals_the_restatement(tiny(depth), restate, size)


def test_number_of_parameters():
    with torch.device("meta"):
        network = create_model(ModelConfig("intensity", "mikels8", "FI", architecture="intensity"))
    assert sum(parameter.numel() for parameter in network.parameters()) == 50_286_929


def loss_by_image(network, output, targets):
    """Return the auxiliary loss from the printed formulas, image by image."""
    parents = network.hierarchy.parent_indices[0]
    total = 0.0
    for row, probs in enumerate(output.auxiliary["logits"].softmax(dim=1).tolist()):
        sums = [sum(p for p, j in zip(probs, parents, strict=True) if j == i) for i in (0, 1)]
        for target, found in zip(targets, (sums, probs), strict=True):
            pairs = zip(target[row].tolist(), found, strict=True)
            total -= sum(y * math.log(p) for y, p in pairs) / 2
        label = targets[1][row]
        cam = sum(y * m for y, m in zip(label, output.auxiliary["class_maps"][row], strict=True))
        cam = cam.clamp(min=0)
        pseudo = cam / cam.max() if cam.max() > 0 else cam
        size = output.maps[0].shape[1:]
        pseudo = F.interpolate(pseudo[None, None], size, mode="bilinear")[0, 0]
        errors = (output.maps[0][row] - pseudo) ** 2
        total += network.options.intensity_weight * (label.sum() * errors.mean()).item()
    return total / len(targets[0])


HARD = torch.eye(8, dtype=torch.float64)[[1, 5, 5]]
SOFT = 0.75 * HARD + 0.25 * HARD.flip(1)
WEIGHTED = HARD * torch.tensor([[1.0], [0.5], [3.0]])


@pytest.mark.parametrize("weight", [1.0, 0.25])
@pytest.mark.parametrize("leaves", [HARD, SOFT, WEIGHTED])
def test_auxiliary_loss_is_that_of_the_first_classifier_and_of_the_map(leaves, weight):
    network = tiny(2, intensity_weight=weight)
    output = network(torch.randn(3, 3, 64, 96, dtype=torch.float64), return_maps=True)
    targets = level_targets(leaves, network.hierarchy)
    found = network.auxiliary_loss(output, targets).item()
    assert found == pytest.approx(loss_by_image(network, output, targets), rel=1e-9)


def test_images_labelled_at_a_coarse_level_train_the_first_classifier_but_not_the_map():
    network = tiny(2)
    output = network(torch.randn(3, 3, 64, 64, dtype=torch.float64), return_maps=True)
    polarity = torch.eye(2, dtype=torch.float64)[[0, 1, 1]]
    targets = [polarity, HARD * torch.tensor([[1.0], [1.0], [0.0]])]
    loss = network.auxiliary_loss(output, targets)
    assert loss.item() == pytest.approx(loss_by_image(network, output, targets), rel=1e-9)
    given = (output.auxiliary["logits"], output.auxiliary["intensity"])
    by_logits, by_intensity = torch.autograd.grad(loss, given)
    assert by_logits.flatten(1).abs().amax(dim=1).min() > 0
    assert by_intensity.flatten(1).abs().amax(dim=1).gt(0).tolist() == [True, True, False]


def test_the_map_loss_trains_neither_its_target_nor_divides_by_zero():
    network = tiny(2)
    targets = level_targets(HARD, network.hierarchy)
    with torch.no_grad():
        network.first_classifier.weight.zero_()  # as set_priors does
    output = network(torch.randn(3, 3, 64, 64, dtype=torch.float64), return_maps=True)
    assert not output.auxiliary["class_maps"].requires_grad
    found = network.auxiliary_loss(output, targets).item()
    assert found == pytest.approx(loss_by_image(network, output, targets), rel=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": -1}, "dim must be a whole number from 1 to 1048576, not -1"),
        ({"intensity_weight": -0.5}, "intensity_weight must be a number of at least 0, not -0.5"),
        ({"intensity_weight": math.inf}, "intensity_weight must be .* not inf"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(InputError, match=message):
        IntensityOptions(**options)
