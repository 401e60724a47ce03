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

from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.models.mdan.network import MDAN

Levels: TypeAlias = list[Tensor]


def conv1x1(weight: Tensor, feature_map: Tensor) -> Tensor:
    """Return the 1x1 convolution without bias."""
    return F.conv2d(feature_map, weight)


def upsample_like(feature_map: Tensor, other: Tensor) -> Tensor:
    """Return the map interpolated bilinearly to the size of another one."""
    return F.interpolate(feature_map, size=other.shape[2:], mode="bilinear", align_corners=False)


def mhcca(query: Tensor, output: Tensor, upsampled: Tensor, fine: Tensor, heads: int) -> Tensor:
    """Return Eq. 4; a head is a group of consecutive positions, in row-major order."""
    n, channels, height, width = fine.shape
    d = height * width // heads
    asking = conv1x1(query, upsampled).reshape(n, -1, heads, d).transpose(1, 2)
    keys = fine.reshape(n, channels, heads, d).transpose(1, 2)
    scores = asking @ keys.transpose(2, 3) / math.sqrt(d)
    attended = torch.softmax(scores, dim=3) @ keys
    return conv1x1(output, attended.transpose(1, 2).reshape(n, -1, height, width))


def lcam(classifier_weight: Tensor, combined: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor]:
    """Return M and all m_k (section 4.2.2). `allowed` (N, K): the classes that M is fused of."""
    class_maps = conv1x1(classifier_weight[:, :, None, None], combined)
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
    values = [model.get_buffer(f"{norm}.running_{name}") for name in ("mean", "var")]
    values += [model.get_parameter(f"{norm}.{name}") for name in ("weight", "bias")]
    mean, variance, weight, bias = (value[:, None, None] for value in values)
    return (feature_map - mean) / torch.sqrt(variance + 1e-5) * weight + bias


def children_of(hierarchy: Hierarchy, level: int, winners: Tensor) -> Tensor:
    """Return the classes (N, K) below the class (N,) that is predicted one level up."""
    roots = [0] * hierarchy.sizes[0]
    parents = (roots, *hierarchy.parent_indices)[level]
    return torch.tensor(parents, device=winners.device) == winners[:, None]


def forward(
    model: MDAN,
    pyramid: Sequence[Tensor],
    children: Sequence[Sequence[Sequence[int]]] | None = None,
) -> tuple[Levels, Levels, Levels, Levels, Levels]:
    """Return P_L, P_G, P_O, M and m_k, each coarse to fine, from the maps C2..C5.

    `children` has the class ids that L-CAM fuses, of each level and image; by default the children
    of the predicted class.
    """
    local, maps, class_maps = top_down(model, pyramid, children)
    global_ = bottom_up(model, pyramid[3])
    alpha = model.options.alpha
    overall = [alpha * by_l + (1 - alpha) * by_g for by_l, by_g in zip(local, global_, strict=True)]
    return local, global_, overall, maps, class_maps


def top_down(
    model: MDAN,
    pyramid: Sequence[Tensor],
    children: Sequence[Sequence[Sequence[int]]] | None,
) -> tuple[Levels, Levels, Levels]:
    """Return P_L (Eq. 1), M and m_k of every level."""
    weight_of = model.get_parameter
    hierarchy = model.hierarchy
    feature = conv1x1(weight_of("reduce.weight"), standardised(model, 0, pyramid[3]))
    local: Levels = []
    maps: Levels = []
    class_maps: Levels = []
    for number in range(hierarchy.depth):
        fine = standardised(model, number + 1, pyramid[2 - number])
        name = f"levels.{number}"
        upsampled = upsample_like(feature, fine)
        query, output = (weight_of(f"{name}.mhcca.{part}.weight") for part in ("query", "output"))
        attended = mhcca(query, output, upsampled, fine, model.options.heads[number])
        combined = attended + upsampled
        if children is None:
            root = torch.zeros(len(fine), dtype=torch.long, device=fine.device)
            winners = local[-1].argmax(dim=1) if local else root
            allowed = children_of(hierarchy, number, winners)
        else:
            classes = range(hierarchy.sizes[number])
            listed = [[k in ids for k in classes] for ids in children[number]]
            allowed = torch.tensor(listed, device=fine.device)
        weight = weight_of(f"{name}.classifier.weight")
        attention_map, by_class = lcam(weight, combined, allowed)
        attention_map = restrained(attention_map, model.options.lcam)
        maps.append(attention_map)
        class_maps.append(by_class)
        feature = (1 + attention_map[:, None]) * combined
        logits = feature.mean(dim=(2, 3)) @ weight.T + weight_of(f"{name}.classifier.bias")
        local.append(torch.softmax(logits, dim=1))
    return local, maps, class_maps


def bottom_up(model: MDAN, last_map: Tensor) -> Levels:
    """Return P_G of every level (Eq. 2), from C5."""
    weight_of, hierarchy = model.get_parameter, model.hierarchy
    pooled = last_map.mean(dim=(2, 3))
    leaf = pooled @ weight_of("global_classifier.weight").T + weight_of("global_classifier.bias")
    levels = [torch.softmax(leaf, dim=1)]
    for parents in reversed(hierarchy.parent_indices):
        finer = levels[0]
        size = max(parents) + 1
        summed = [finer[:, [k for k, p in enumerate(parents) if p == j]] for j in range(size)]
        levels.insert(0, torch.stack([children.sum(dim=1) for children in summed], dim=1))
    return levels
