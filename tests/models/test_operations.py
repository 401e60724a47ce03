"""Numbers of operations, and those of Table 1 of the paper."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from mdan_zoo.models.mdan import reference
from mdan_zoo.models.operations import multiply_accumulates
from mdan_zoo.models.options import MDANOptions
from mdan_zoo.zoo.configs import REGISTERED
from mdan_zoo.zoo.factory import build_network


class Formulas(nn.Module):
    """MDAN with the formulas as printed; products for one predicted parent per level."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        children = [[[0]]] * self.network.hierarchy.depth
        return reference.forward(self.network, self.network.backbone(images), children)


def on_meta(name, **changes):
    with torch.device("meta"):
        return build_network(dataclasses.replace(REGISTERED[name], **changes))


def gflops(network):
    return 2 * multiply_accumulates(network, 448, batch_norm=True) / 1e9


def test_layers_are_counted_as_they_are_defined():
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.Flatten(),
        nn.Linear(4 * 8 * 8, 5),
    )
    products = 8 * 8 * 4 * 3 * 3 * 3 + 4 * 8 * 8 * 5
    assert multiply_accumulates(network, 16) == products
    assert multiply_accumulates(network, 16, batch_norm=True) == products + 2 * 4 * 8 * 8
    assert network.training
    assert not network[1]._forward_hooks
    assert network[0].weight.device.type == "cpu"


@pytest.mark.parametrize(("name", "expected"), [("wscnet_fi8", 62.68), ("pdanet_fi8", 67.60)])
def test_networks_with_attention_have_the_operations_of_table_1(name, expected):
    """It has 62.7 and 67.6 GFLOPs."""
    assert gflops(on_meta(name)) == pytest.approx(expected, abs=0.005)


def test_mdan_has_the_operations_of_table_1_if_attention_is_applied_to_all_positions():
    """It has 101.4 GFLOPs. The implementation computes the same function with fewer."""
    options = MDANOptions(value="all")
    network = on_meta("mdan_fi8", options=options)
    assert gflops(Formulas(network)) == pytest.approx(101.35, abs=0.005)
    band = on_meta("mdan_fi8")
    assert gflops(Formulas(band)) == pytest.approx(89.84, abs=0.005)
    assert gflops(band) < 72


@pytest.mark.parametrize(
    ("name", "printed", "ours"),
    [
        ("alexnet_fi8", 2.8, 0.71),
        ("vgg16_fi8", 62.0, 15.47),
        ("flat_fi8_resnet50", 15.6, 4.09),
        ("flat_fi8", 30.4, 7.80),
    ],
)
def test_classic_networks_have_four_times_their_multiply_accumulates_at_224_pixels(
    name, printed, ours
):
    """Table 1 has four times published numbers; those of ResNet are of its first version."""
    found = multiply_accumulates(on_meta(name), 224) / 1e9
    assert found == pytest.approx(ours, abs=0.005)
    assert printed == pytest.approx(4 * found, rel=0.06)


@pytest.mark.parametrize(("name", "fast_limit"), [("mdan_fi8", 5.6), ("mdan_webemo25", 15)])
def test_operations_of_the_top_down_branch(name, fast_limit, capsys):
    """Counts 10^9 multiply-accumulates at 448 px with ResNet-101, on tensors without memory."""
    model = on_meta(name)

    def gmacs(network):
        return multiply_accumulates(network, 448) / 1e9

    bare = gmacs(model.backbone)
    fast, naive = gmacs(model) - bare, gmacs(Formulas(model)) - bare
    with capsys.disabled():
        print(
            f"\n{name}: backbone {bare:.1f} GMACs, top-down branch {fast:.1f} "
            f"(as the formulas stand {naive:.1f})"
        )
    assert fast <= fast_limit
    document = Path(__file__).parents[2] / "docs" / "network.md"
    row = re.search(rf"\(`{name}`\) \| (.*) \|\n", document.read_text(encoding="utf-8"))[1]
    assert row == f"{bare:.1f} | {naive:.1f} | {fast:.1f}"
