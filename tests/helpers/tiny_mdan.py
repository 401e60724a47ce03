"""A tiny MDAN in float64, and its comparison with the formulas as printed."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F

from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.models.mdan import reference
from mdan_zoo.models.mdan.network import MDAN
from mdan_zoo.models.options import MDANOptions

ONE_LEVEL = Hierarchy.from_nested(["calm", "tense", "sad"])
TREES = {1: ONE_LEVEL, 2: get_hierarchy("mikels8"), 3: get_hierarchy("webemo25")}


class TinyPyramid(torch.nn.Module):
    """A backbone of four strided convolutions, so that float64 tests stay quick."""

    channels = (6, 10, 12, 20)

    def __init__(self):
        super().__init__()
        sizes = (3, *self.channels)
        self.stages = torch.nn.ModuleList(
            torch.nn.Conv2d(a, b, 3, stride=4 if i == 0 else 2, padding=1)
            for i, (a, b) in enumerate(pairwise(sizes))
        )

    def forward(self, x):
        maps = []
        for stage in self.stages:
            x = F.relu(stage(x))
            maps.append(x)
        return maps


def tiny_mdan(depth: int, dim: int = 16, **options) -> MDAN:
    torch.manual_seed(depth)
    model = MDAN(TinyPyramid(), TinyPyramid.channels, TREES[depth], MDANOptions(dim=dim, **options))
    for name, parameter in model.named_parameters():
        # Large enough that no softmax is nearly uniform, small enough that none is saturated.
        gain = 0.3 if "classifier" in name else 1.0
        torch.nn.init.normal_(parameter, std=gain / math.sqrt(parameter[0].numel()))
    return model.double().eval()


def check_equals_the_formulas(model, images, unused=()):
    """Compare outputs and gradients; of the parameters named like `unused...` nothing depends."""
    batch, depth = len(images), model.hierarchy.depth
    fast = model(images, return_maps=True)
    expected = reference.forward(model, model.backbone(images))
    probs = fast.probs
    branches = [probs.get(branch, ()) for branch in ("local", "global")]
    found = (*branches, probs["overall"], fast.maps, fast.class_maps)
    present = ("local" in model.branches, "global" in model.branches, True, True, True)
    for mine, theirs, there in zip(found, expected, present, strict=True):
        assert len(mine) == depth * there
        for a, b in zip(mine, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)

    targets = [torch.arange(batch) % size for size in model.hierarchy.sizes]
    parameters = {n: p for n, p in model.named_parameters() if not n.startswith(tuple(unused))}
    others = [p for n, p in model.named_parameters() if n not in parameters]

    def gradients(overall):
        picked = [p[range(batch), t].log().mean() for p, t in zip(overall, targets, strict=True)]
        given = [*parameters.values(), *others]
        return torch.autograd.grad(-sum(picked), given, allow_unused=bool(others))

    found_gradients, expected_gradients = gradients(probs["overall"]), gradients(expected[2])
    for name, a, b in zip(parameters, found_gradients, expected_gradients, strict=False):
        assert torch.linalg.norm(a - b) <= 1e-9 * torch.linalg.norm(b), name
        assert torch.linalg.norm(b) > 1e-6, f"{name} has no gradient to compare"
    assert set(found_gradients[len(parameters) :]) <= {None}
