"""L-CAM, the level-dependent class activation map of MDAN (section 4.2).

It fuses the maps m_k(x) = w_k . X(x) of the children k of the class predicted one level up,
M(x) = mean_k m_k(x) + max_k m_k(x), or one of the two (Table 5), and attends the features as
(1 + M) * X.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mdan_zoo.models.options import LCAMMode, LCAMPooling

_FLAT = 1e-3
"""Maps with a smaller range count as constant; scaling them would amplify noise and gradients."""


def fuse(
    class_maps: Tensor, allowed: Tensor, mode: LCAMMode, pooling: LCAMPooling = "mean+max"
) -> Tensor:
    """Fuse class activation maps m_k, (N, K, H, W), into the attention map M, (N, H, W).

    `allowed`, bool (N, K), selects the classes whose maps are fused.
    """
    if mode == "off":
        return class_maps.new_zeros(class_maps[:, 0].shape)
    mask = allowed[:, :, None, None]
    mean = (class_maps * mask).sum(dim=1) / allowed.sum(dim=1)[:, None, None]
    # Not amax, whose gradient looks for the highest value again: a compiled step rounds it to half
    # precision in one place and not in the other, finds it nowhere, and divides by zero.
    highest = class_maps.masked_fill(~mask, -torch.inf).max(dim=1).values
    fused = mean + highest if pooling == "mean+max" else mean if pooling == "mean" else highest
    if mode == "detached":
        return fused.detach()
    if mode == "normalised":
        values = fused.flatten(1)
        low, high = values.min(dim=1).values, values.max(dim=1).values
        scaled: Tensor = (fused - low[:, None, None]) / (high - low).clamp_min(_FLAT)[:, None, None]
        return scaled
    return fused.tanh() if mode == "bounded" else fused
