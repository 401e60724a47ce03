"""Level-dependent Class Activation Maps (L-CAM), section 4.2 of the MDAN paper.

The class activation map of class k is m_k(x) = w_k . X(x), with w_k the row of the level's own
classifier. L-CAM fuses the maps of the classes that the prediction of the level above
allows, M(x) = mean_k m_k(x) + max_k m_k(x) over the children k of the predicted parent, and the
features are attended as (1 + M) * X.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mdan_zoo.models.options import LCAMMode

_FLAT = 1e-3
"""Maps with a smaller range count as constant; scaling them would amplify noise and gradients."""


def children_of_predicted(parent_logits: Tensor, children: Tensor) -> Tensor:
    """Return, for each image, the classes below the class predicted one level up.

    Args:
        parent_logits: (N, P), the local logits of the level above.
        children: bool (P, K), whether class k is a child of class p.

    Returns:
        bool (N, K), at least one True in each row.
    """
    return children[parent_logits.argmax(dim=1)]


def fuse(class_maps: Tensor, allowed: Tensor, mode: LCAMMode) -> Tensor:
    """Fuse class activation maps into the attention map M.

    Args:
        class_maps: m_k, (N, K, H, W).
        allowed: bool (N, K), the classes whose maps are fused.
        mode: See `mdan_zoo.models.options.LCAMMode`.

    Returns:
        M, (N, H, W).
    """
    if mode == "off":
        return class_maps.new_zeros(class_maps[:, 0].shape)
    mask = allowed[:, :, None, None]
    mean = (class_maps * mask).sum(dim=1) / allowed.sum(dim=1)[:, None, None]
    # Not amax, whose gradient looks for the highest value again: a compiled step rounds it to half
    # precision in one place and not in the other, finds it nowhere, and divides by zero.
    highest = class_maps.masked_fill(~mask, -torch.inf).max(dim=1).values
    fused = mean + highest
    if mode == "detached":
        return fused.detach()
    if mode == "normalised":
        values = fused.flatten(1)
        low, high = values.min(dim=1).values, values.max(dim=1).values
        scaled: Tensor = (fused - low[:, None, None]) / (high - low).clamp_min(_FLAT)[:, None, None]
        return scaled
    if mode == "bounded":
        return fused.tanh()
    return fused
