"""Layers and functions shared by several architectures."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mdan_zoo.hierarchy.tree import Hierarchy


class HierarchyMasks(nn.Module):
    """A hierarchy as masks on the model's device, which are not part of the state dict."""

    def __init__(self, hierarchy: Hierarchy) -> None:
        super().__init__()
        self.depth = hierarchy.depth
        parents_of = ((0,) * hierarchy.sizes[0], *hierarchy.parent_indices)  # the root is 0
        counts = (1, *hierarchy.sizes[:-1])
        for level, (count, parents) in enumerate(zip(counts, parents_of, strict=True)):
            mask = torch.arange(count)[:, None] == torch.tensor(parents)[None, :]
            self.register_buffer(f"child_mask_{level}", mask, persistent=False)

    def child_mask(self, level: int) -> Tensor:
        """Return bool (P, K): whether class k is a child of class p one level up, or the root."""
        mask: Tensor = getattr(self, f"child_mask_{level}")
        return mask

    def sum_upwards(self, log_leaves: Tensor) -> tuple[Tensor, ...]:
        """Sum log-probabilities of the leaves, (N, K_n), to (N, K_l) of every level (Eq. 2)."""
        levels = [log_leaves]
        for level in range(self.depth - 1, 0, -1):
            others = ~self.child_mask(level)
            children = levels[0][:, None, :].masked_fill(others, -torch.inf)
            levels.insert(0, children.logsumexp(dim=2))
        return tuple(levels)


def log_softmax(logits: Tensor) -> Tensor:
    """Return log-probabilities (N, K) in at least float32, also under autocast."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(dim=1)


def activation_maps(features: Tensor, weight: Tensor) -> Tensor:
    """Return the maps m_k(x) = w_k . X(x), (N, K, H, W), for X (N, C, H, W) and w (K, C)."""
    n, _, height, width = features.shape
    # One product per image; einsum would first move the channels to the front, a copy of the map.
    return (weight.expand(n, -1, -1) @ features.flatten(2)).reshape(n, -1, height, width)
