"""Reference implementation of MDAN: the formulas of the paper as printed.

It shares no code with the network, which is tested against it: it takes the network's weights by
name and the backbone's maps, and computes every tensor that the equations mention. It is
inefficient on purpose, but has no Python loop over images or heads, so that it can be benchmarked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from mdan_zoo.models.mdan.network import MDAN

Levels: TypeAlias = list[Tensor]


def upsample_like(feature_map: Tensor, other: Tensor) -> Tensor:
    """Return the map interpolated bilinearly to the size of another one."""
    return F.interpolate(feature_map, size=other.shape[2:], mode="bilinear", align_corners=False)


def mhcca(query: Tensor, output: Tensor, upsampled: Tensor, fine: Tensor, heads: int) -> Tensor:
    """Return Eq. 4; a head is a group of consecutive positions, in row-major order."""
    n, channels, height, width = fine.shape
    d = height * width // heads
    asking = F.conv2d(upsampled, query).reshape(n, -1, heads, d).transpose(1, 2)
    keys = fine.reshape(n, channels, heads, d).transpose(1, 2)
    scores = asking @ keys.transpose(2, 3) / math.sqrt(d)
    attended = torch.softmax(scores, dim=3) @ keys
    return F.conv2d(attended.transpose(1, 2).reshape(n, -1, height, width), output)


def lcam(classifier_weight: Tensor, combined: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor]:
    """Return M and all m_k (section 4.2.2). `allowed` (N, K): the classes that M is fused of."""
    class_maps = F.conv2d(combined, classifier_weight[:, :, None, None])
    allowed = allowed[:, :, None, None]
    mean = class_maps.where(allowed, 0).sum(dim=1) / allowed.sum(dim=1)
    return mean + class_maps.where(allowed, -math.inf).amax(dim=1), class_maps


def restrained(attention_map: Tensor, mode: str) -> Tensor:
    """Return M as the option `lcam` transforms it; "plain" is the paper's."""
    if mode == "normalised":
        low = attention_map.amin(dim=(1, 2), keepdim=True)
        high = attention_map.amax(dim=(1, 2), keepdim=True)
        return (attention_map - low) / (high - low)
    return {
        "plain": attention_map,
        "detached": attention_map.detach(),
        "bounded": torch.tanh(attention_map),
        "off": torch.zeros_like(attention_map),
    }[mode]


def standardised(model: MDAN, number: int, feature_map: Tensor) -> Tensor:
    """Return the map after batch normalisation with running statistics, if the model has it."""
    if not model.options.normalise_pyramid:
        return feature_map
    norm = f"norms.{number}"
    mean, variance = (model.get_buffer(f"{norm}.running_{name}") for name in ("mean", "var"))
    weight, bias = (model.get_parameter(f"{norm}.{name}") for name in ("weight", "bias"))
    return F.batch_norm(feature_map, mean, variance, weight, bias)


def forward(
    model: MDAN,
    pyramid: Sequence[Tensor],
    children: Sequence[Sequence[Sequence[int]]] | None = None,
) -> tuple[Levels, Levels, Levels, Levels, Levels]:
    """Return P_L, P_G (Eq. 2), P_O, M and m_k, each coarse to fine, from the maps C2..C5.

    `children` has the class ids that L-CAM fuses, of each level and image; by default the children
    of the predicted class.
    """
    local, maps, class_maps = top_down(model, pyramid, children)
    weight, bias = (model.get_parameter(f"global_classifier.{n}") for n in ("weight", "bias"))
    global_ = [torch.softmax(pyramid[3].mean(dim=(2, 3)) @ weight.T + bias, dim=1)]
    for parents in reversed(model.hierarchy.parent_indices):
        sums = global_[0].new_zeros(len(global_[0]), max(parents) + 1)
        index = torch.tensor(parents, device=sums.device)
        global_.insert(0, sums.index_add(1, index, global_[0]))
    alpha = model.options.alpha
    overall = [alpha * by_l + (1 - alpha) * by_g for by_l, by_g in zip(local, global_, strict=True)]
    return local, global_, overall, maps, class_maps


def top_down(
    model: MDAN, pyramid: Sequence[Tensor], children: Sequence[Sequence[Sequence[int]]] | None
) -> tuple[Levels, Levels, Levels]:
    """Return P_L (Eq. 1), M and m_k of every level."""
    weight_of, device = model.get_parameter, pyramid[3].device
    sizes = model.hierarchy.sizes
    parents_of = ([0] * sizes[0], *model.hierarchy.parent_indices)  # the root is 0
    feature = F.conv2d(standardised(model, 0, pyramid[3]), weight_of("reduce.weight"))
    winners = torch.zeros(len(feature), dtype=torch.long, device=device)
    local: Levels = []
    maps: Levels = []
    class_maps: Levels = []
    for number, size in enumerate(sizes):
        fine = standardised(model, number + 1, pyramid[2 - number])
        name = f"levels.{number}"
        upsampled = upsample_like(feature, fine)
        query, output = (weight_of(f"{name}.mhcca.{part}.weight") for part in ("query", "output"))
        combined = mhcca(query, output, upsampled, fine, model.options.heads[number]) + upsampled
        if children is None:
            allowed = torch.tensor(parents_of[number], device=device) == winners[:, None]
        else:
            listed = [[k in ids for k in range(size)] for ids in children[number]]
            allowed = torch.tensor(listed, device=device)
        weight = weight_of(f"{name}.classifier.weight")
        attention_map, by_class = lcam(weight, combined, allowed)
        attention_map = restrained(attention_map, model.options.lcam)
        maps.append(attention_map)
        class_maps.append(by_class)
        feature = (1 + attention_map[:, None]) * combined
        logits = feature.mean(dim=(2, 3)) @ weight.T + weight_of(f"{name}.classifier.bias")
        local.append(torch.softmax(logits, dim=1))
        winners = local[-1].argmax(dim=1)
    return local, maps, class_maps
