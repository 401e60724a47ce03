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


def mhcca(model: MDAN, name: str, upsampled: Tensor, fine: Tensor, heads: int) -> Tensor:
    """Return Eq. 4; a head is a group of consecutive positions, in row-major order."""
    n, _, height, width = fine.shape
    d = height * width // heads

    def conv(layer: str, feature_map: Tensor) -> Tensor:
        return F.conv2d(feature_map, model.get_parameter(f"{name}.{layer}.weight"))

    def split(feature_map: Tensor, groups: int) -> Tensor:
        return feature_map.reshape(n, -1, groups, height * width // groups).transpose(1, 2)

    projected = model.options.fusion == "mhcca_kv"
    keys, values = (conv(layer, fine) if projected else fine for layer in ("key", "value"))
    scores = split(conv("query", upsampled), heads) @ split(keys, heads).transpose(2, 3)
    attention = torch.softmax(scores / math.sqrt(d), dim=3)
    if model.options.value == "all":
        attended = (attention @ split(values, 1)).mean(dim=1, keepdim=True)
    else:
        attended = attention @ split(values, heads)
    return conv("output", attended.transpose(1, 2).reshape(n, -1, height, width))


def combined_map(model: MDAN, name: str, level: int, above: Tensor, fine: Tensor) -> Tensor:
    """Return X of a semantic level, from F of the level above it and C of the level."""
    fusion = model.options.fusion
    if fusion == "none":
        return fine
    upsampled = upsample_like(above, fine)
    if fusion == "lateral":
        made = F.conv2d(fine, model.get_parameter(f"{name}.lateral.weight"))
    else:
        made = mhcca(model, f"{name}.mhcca", upsampled, fine, model.options.heads[4 - level])
    return made + upsampled if model.options.upsample_add else made


def lcam(
    classifier_weight: Tensor, combined: Tensor, allowed: Tensor, pooling: str = "mean+max"
) -> tuple[Tensor, Tensor]:
    """Return M and all m_k (section 4.2.2). `allowed` (N, K): the classes that M is fused of."""
    class_maps = F.conv2d(combined, classifier_weight[:, :, None, None])
    allowed = allowed[:, :, None, None]
    mean = class_maps.where(allowed, 0).sum(dim=1) / allowed.sum(dim=1)
    highest = class_maps.where(allowed, -math.inf).amax(dim=1)
    return {"mean+max": mean + highest, "mean": mean, "max": highest}[pooling], class_maps


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
    of the predicted class. P_L or P_G is empty if the model is without that branch.
    """
    branches = model.options.branches
    if branches == "global":
        global_ = sum_upwards(model, pyramid)
        return [], global_, global_, [], []
    local, maps, class_maps = top_down(model, pyramid, children)
    if branches == "local":
        return local, [], local, maps, class_maps
    global_ = sum_upwards(model, pyramid)
    alpha = model.options.alpha
    overall = [alpha * by_l + (1 - alpha) * by_g for by_l, by_g in zip(local, global_, strict=True)]
    return local, global_, overall, maps, class_maps


def sum_upwards(model: MDAN, pyramid: Sequence[Tensor]) -> Levels:
    """Return P_G of every level (Eq. 2)."""
    weight, bias = (model.get_parameter(f"global_classifier.{n}") for n in ("weight", "bias"))
    global_ = [torch.softmax(pyramid[3].mean(dim=(2, 3)) @ weight.T + bias, dim=1)]
    for parents in reversed(model.hierarchy.parent_indices):
        sums = global_[0].new_zeros(len(global_[0]), max(parents) + 1)
        index = torch.tensor(parents, device=sums.device)
        global_.insert(0, sums.index_add(1, index, global_[0]))
    return global_


def top_down(
    model: MDAN, pyramid: Sequence[Tensor], children: Sequence[Sequence[Sequence[int]]] | None
) -> tuple[Levels, Levels, Levels]:
    """Return P_L (Eq. 1), M and m_k of every level."""
    sizes, options, device = model.hierarchy.sizes, model.options, pyramid[3].device
    parents_of = ([0] * sizes[0], *model.hierarchy.parent_indices)  # the root is 0
    classified = options.semantic_levels[: len(sizes)]
    order: Sequence[int] = classified
    feature = pyramid[3]
    if options.fusion != "none":
        feature = F.conv2d(standardised(model, 0, feature), model.get_parameter("reduce.weight"))
        order = range(4, min(classified) - 1, -1)
    winners = torch.zeros(len(feature), dtype=torch.long, device=device)
    found: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
    for semantic in order:
        fine = standardised(model, 5 - semantic, pyramid[semantic - 2])
        if semantic not in classified:
            feature = combined_map(model, f"unclassified.C{semantic}", semantic, feature, fine)
            continue
        number = classified.index(semantic)
        combined = combined_map(model, f"levels.{number}", semantic, feature, fine)
        if options.lcam == "off":  # all classes, whose maps are not used
            allowed = torch.ones(len(feature), sizes[number], dtype=torch.bool, device=device)
        elif children is None:
            allowed = torch.tensor(parents_of[number], device=device) == winners[:, None]
        else:
            listed = [[k in ids for k in range(sizes[number])] for ids in children[number]]
            allowed = torch.tensor(listed, device=device)
        weight, bias = (
            model.get_parameter(f"levels.{number}.classifier.{n}") for n in ("weight", "bias")
        )
        attention_map, by_class = lcam(weight, combined, allowed, options.lcam_pooling)
        attention_map = restrained(attention_map, options.lcam)
        feature = (1 + attention_map[:, None]) * combined
        probabilities = torch.softmax(feature.mean(dim=(2, 3)) @ weight.T + bias, dim=1)
        found[number] = (probabilities, attention_map, by_class)
        winners = probabilities.argmax(dim=1)
    local, maps, class_maps = zip(*(found[number] for number in sorted(found)), strict=True)
    return list(local), list(maps), list(class_maps)
