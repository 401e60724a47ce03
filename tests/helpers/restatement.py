"""Tiny networks in float64, and their comparison with a restatement of the formulas."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from tiny_mdan import TREES, TinyPyramid

SIZES = [(64, 64), (96, 160), (32, 64)]


def tiny_network(kind, depth, options):
    """Return a network of a class, with weights that saturate neither softmax nor sigmoid."""
    torch.manual_seed(depth)
    network = kind(TinyPyramid(), TinyPyramid.channels, TREES[depth], options)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=1 / math.sqrt(parameter[0].numel()))
    return network.double().eval()


def check_equals_the_restatement(network, restate, size):
    """Compare logits, auxiliary values, maps and class maps, and the gradients of their squares.

    `restate` returns them, in this order, given the state dict, the options, and C2..C5.
    """
    images = torch.randn(3, 3, *size, dtype=torch.float64)
    output = network(images, return_maps=True)
    found = [*output.logits["global"], *output.auxiliary.values()]
    found += [*output.maps, *output.class_maps]
    pyramid = network.backbone(images)
    expected = restate(network.state_dict(keep_vars=True), network.options, pyramid)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    leaves = output.probs["overall"][-1]
    torch.testing.assert_close(leaves, expected[0].softmax(dim=1), rtol=1e-9, atol=1e-9)

    parameters = dict(network.named_parameters())

    def gradients(tensors):
        loss = sum(tensor.square().sum() for tensor in tensors)
        return torch.autograd.grad(loss, list(parameters.values()))

    for name, a, b in zip(parameters, gradients(found), gradients(expected), strict=True):
        assert torch.linalg.norm(a - b) <= 1e-9 * torch.linalg.norm(b), name
        assert torch.linalg.norm(b) > 1e-9, f"{name} has no gradient to compare"


def restated_fpn(weights, pyramid):
    """Return P2..P5: lateral 1x1 convolutions, added top-down, and 3x3 ones except on P5."""

    def layer(name, inputs, padding=0):
        weight, bias = (weights[f"fpn.{name}.{part}"] for part in ("weight", "bias"))
        return F.conv2d(inputs, weight, bias, padding=padding)

    merged = layer("laterals.3", pyramid[3])
    maps = [merged]
    for number in (2, 1, 0):
        upsampled = F.interpolate(merged, scale_factor=2, mode="bilinear")
        merged = layer(f"laterals.{number}", pyramid[number]) + upsampled
        maps.insert(0, layer(f"smoothing.{number}", merged, padding=1))
    return maps
