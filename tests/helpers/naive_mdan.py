"""MDAN written a second time, as plainly as the paper's formulas stand.

It shares no code with mdan_zoo.models: it takes a network's weights by name and the backbone's
maps, and forms every tensor that the equations mention. Large on purpose, but with no Python loop
over images or heads, so that it can also be timed.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F


def conv1x1(weight, feature_map):
    return F.conv2d(feature_map, weight)


def upsample_like(feature_map, other):
    return F.interpolate(feature_map, size=other.shape[2:], mode="bilinear", align_corners=False)


def mhcca(query, output, upsampled, fine, heads):
    """Eq. 4; a head is a group of consecutive positions, in row-major order."""
    n, channels, height, width = fine.shape
    d = height * width // heads
    asking = conv1x1(query, upsampled).reshape(n, -1, heads, d).transpose(1, 2)
    keys = fine.reshape(n, channels, heads, d).transpose(1, 2)
    scores = asking @ keys.transpose(2, 3) / math.sqrt(d)
    attended = torch.softmax(scores, dim=3) @ keys
    return conv1x1(output, attended.transpose(1, 2).reshape(n, -1, height, width))


def lcam(classifier_weight, combined, allowed):
    """Section 4.2.2: M and every m_k. `allowed` (N, K): which classes take part in M."""
    class_maps = conv1x1(classifier_weight[:, :, None, None], combined)
    allowed = allowed[:, :, None, None]
    mean = class_maps.where(allowed, 0).sum(dim=1) / allowed.sum(dim=1)
    return mean + class_maps.where(allowed, -math.inf).amax(dim=1), class_maps


def restrained(attention_map, mode):
    """What an option of the network makes of M; "plain" is the paper's."""
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


def standardised(model, number, feature_map):
    """Batch normalisation with the statistics that it has learned, where there is one."""
    if not model.options.normalise_pyramid:
        return feature_map
    norm = f"norms.{number}"
    values = [model.get_buffer(f"{norm}.running_{name}") for name in ("mean", "var")]
    values += [model.get_parameter(f"{norm}.{name}") for name in ("weight", "bias")]
    mean, variance, weight, bias = (value[:, None, None] for value in values)
    return (feature_map - mean) / torch.sqrt(variance + 1e-5) * weight + bias


def children_of(hierarchy, level, winners):
    """Which classes (N, K) are below the class that won one level up (N,)."""
    roots = [0] * hierarchy.sizes[0]
    parents = (roots, *hierarchy.parent_indices)[level]
    return torch.tensor(parents, device=winners.device) == winners[:, None]


def forward(model, pyramid, children=None):
    """Return (P_L, P_G, P_O, M, m_k), each a list coarse to fine, from the maps C2..C5.

    `children` fixes the classes that L-CAM reads: at each level, for each image, their ids. By
    default they are found.
    """
    weight_of = model.get_parameter
    hierarchy, alpha, heads = model.hierarchy, model.options.alpha, model.options.heads
    feature = conv1x1(weight_of("reduce.weight"), standardised(model, 0, pyramid[3]))
    local, maps, class_maps = [], [], []
    for number in range(hierarchy.depth):
        fine = standardised(model, number + 1, pyramid[2 - number])
        name = f"levels.{number}"
        upsampled = upsample_like(feature, fine)
        attended = mhcca(
            weight_of(f"{name}.mhcca.query.weight"),
            weight_of(f"{name}.mhcca.output.weight"),
            upsampled,
            fine,
            heads[number],
        )
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

    pooled = pyramid[3].mean(dim=(2, 3))
    leaf = pooled @ weight_of("global_classifier.weight").T + weight_of("global_classifier.bias")
    global_ = [torch.softmax(leaf, dim=1)]
    for parents, size in zip(
        reversed(hierarchy.parent_indices), reversed(hierarchy.sizes[:-1]), strict=True
    ):
        summed = [
            sum(global_[0][:, k] for k, p in enumerate(parents) if p == j) for j in range(size)
        ]
        global_.insert(0, torch.stack(summed, dim=1))
    overall = [alpha * by_l + (1 - alpha) * by_g for by_l, by_g in zip(local, global_, strict=True)]
    return local, global_, overall, maps, class_maps
