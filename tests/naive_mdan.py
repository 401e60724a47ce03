"""MDAN written a second time, as plainly as the paper's formulas stand.

It shares no code with mdan_zoo.models: it takes a network's weights by name and the backbone's
maps, and forms every tensor that the equations mention. Slow and large on purpose.
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
    """Eq. 4, one head after the other."""
    n, channels, height, width = fine.shape
    asking = conv1x1(query, upsampled).reshape(n, -1, height * width)
    keys = fine.reshape(n, channels, height * width)
    d = height * width // heads
    parts = []
    for head in range(heads):
        positions = slice(head * d, (head + 1) * d)
        scores = asking[:, :, positions] @ keys[:, :, positions].transpose(1, 2) / math.sqrt(d)
        parts.append(torch.softmax(scores, dim=2) @ keys[:, :, positions])
    attended = torch.cat(parts, dim=2).reshape(n, -1, height, width)
    return conv1x1(output, attended)


def lcam(classifier_weight, combined, children):
    """Section 4.2.2, one picture after the other; `children` holds class ids for each picture."""
    maps = []
    for features, ids in zip(combined, children, strict=True):
        cams = torch.stack([(classifier_weight[k][:, None, None] * features).sum(0) for k in ids])
        maps.append(cams.mean(dim=0) + cams.amax(dim=0))
    return torch.stack(maps)


def children_of(hierarchy, level, winners):
    """Class ids below the classes that won one level up; at the first level all of them."""
    if level == 0:
        return [range(hierarchy.sizes[0])] * len(winners)
    parents = hierarchy.parent_indices[level - 1]
    return [[k for k, p in enumerate(parents) if p == winner] for winner in winners]


def forward(model, pyramid, children=None):
    """Return (P_L, P_G, P_O, maps), each a list coarse to fine, from the maps C2..C5.

    `children` fixes the classes that L-CAM reads at each level; by default they are found.
    """
    weights = dict(model.named_parameters())
    hierarchy, alpha, heads = model.hierarchy, model.options.alpha, model.options.heads
    feature = conv1x1(weights["reduce.weight"], pyramid[3])
    local, maps = [], []
    for number in range(hierarchy.depth):
        fine = pyramid[2 - number]
        name = f"levels.{number}"
        upsampled = upsample_like(feature, fine)
        attended = mhcca(
            weights[f"{name}.mhcca.query.weight"],
            weights[f"{name}.mhcca.output.weight"],
            upsampled,
            fine,
            heads[number],
        )
        combined = attended + upsampled
        if children is None:
            winners = local[-1].argmax(dim=1).tolist() if local else [0] * len(fine)
            allowed = children_of(hierarchy, number, winners)
        else:
            allowed = children[number]
        weight = weights[f"{name}.classifier.weight"]
        maps.append(lcam(weight, combined, allowed))
        feature = (1 + maps[-1][:, None]) * combined
        logits = feature.mean(dim=(2, 3)) @ weight.T + weights[f"{name}.classifier.bias"]
        local.append(torch.softmax(logits, dim=1))

    pooled = pyramid[3].mean(dim=(2, 3))
    leaf = pooled @ weights["global_classifier.weight"].T + weights["global_classifier.bias"]
    global_ = [torch.softmax(leaf, dim=1)]
    for parents, size in zip(
        reversed(hierarchy.parent_indices), reversed(hierarchy.sizes[:-1]), strict=True
    ):
        summed = [
            sum(global_[0][:, k] for k, p in enumerate(parents) if p == j) for j in range(size)
        ]
        global_.insert(0, torch.stack(summed, dim=1))
    overall = [alpha * by_l + (1 - alpha) * by_g for by_l, by_g in zip(local, global_, strict=True)]
    return local, global_, overall, maps
