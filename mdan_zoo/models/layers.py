"""Layers and functions shared by several architectures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses import FakeTensor

from mdan_zoo.hierarchy.tree import Hierarchy

_READABLE = (Tensor, nn.Parameter, FakeTensor)
"""Classes of parameters that hold the weight itself; torch.export uses the last one."""


class HierarchyMasks(nn.Module):
    """A hierarchy as masks on the model's device, which are not part of the state dict."""

    def __init__(self, hierarchy: Hierarchy) -> None:
        super().__init__()
        self.depth = hierarchy.depth
        self._parents = ((0,) * hierarchy.sizes[0], *hierarchy.parent_indices)  # the root is 0
        self._counts = (1, *hierarchy.sizes[:-1])
        for level in range(self.depth):
            self.register_buffer(f"child_mask_{level}", self._mask(level), persistent=False)

    def forward(self, level: int) -> Tensor:
        """Return bool (P, K): whether class k is a child of class p one level up, or the root."""
        mask: Tensor = getattr(self, f"child_mask_{level}")
        return mask

    def _mask(self, level: int, device: torch.device | None = None) -> Tensor:
        parents = torch.tensor(self._parents[level], device=device)
        return torch.arange(self._counts[level], device=device)[:, None] == parents[None, :]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> HierarchyMasks:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for level in range(self.depth):  # `to_empty` leaves arbitrary values, which no file has
            setattr(self, f"child_mask_{level}", self._mask(level, self(level).device))
        return self

    def sum_upwards(self, log_leaves: Tensor) -> tuple[Tensor, ...]:
        """Sum log-probabilities of the leaves, (N, K_n), to (N, K_l) of every level (Eq. 2)."""
        levels = [log_leaves]
        for level in range(self.depth - 1, 0, -1):
            others = ~self(level)
            children = levels[0][:, None, :].masked_fill(others, -torch.inf)
            levels.insert(0, children.logsumexp(dim=2))
        return tuple(levels)


def log_softmax(logits: Tensor) -> Tensor:
    """Return log-probabilities (N, K) in at least float32, also under autocast."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(dim=1)


def cross_entropy(
    log_probabilities: Sequence[Tensor], targets: Sequence[Tensor], weights: Tensor | None = None
) -> Tensor:
    """Return the mean over levels and images of -sum_k Y_k log P_k (Eq. 3).

    The equation omits the logarithm that the paper's text, cross-entropy, implies. Predictions and
    target distributions are (N, K_l) for every level, weights of the images (N,).
    """
    losses = []
    for predicted, target in zip(log_probabilities, targets, strict=True):
        by_image = -(target * predicted).sum(dim=1)
        losses.append((by_image if weights is None else weights * by_image).mean())
    return torch.stack(losses).mean()


def is_plain(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Return whether a module of the network is as it was built, so that its weight may be read.

    Otherwise only a call gives its result: offloading, sharding (FSDP), pruning and weight
    normalisation put the weight in place when the module is called; quantisation, LoRA and
    replaced layers have no such weight.
    """
    own = vars(module)
    return (
        type(module) is kind
        and not (own["_forward_pre_hooks"] or own["_forward_hooks"] or "forward" in own)
        and all(type(value) in _READABLE for value in module.parameters(recurse=False))
    )


def activation_maps(features: Tensor, classifier: nn.Module) -> Tensor:
    """Return the class activation maps of a classifier of C features.

    Args:
        features: X, (N, C, H, W).
        classifier: A linear layer f(x) = w x + b, wrapped or replaced or not.

    Returns:
        m_k(x) = w_k . X(x) = f_k(X(x)) - f_k(0), (N, K, H, W).
    """
    n, _, height, width = features.shape
    columns = features.flatten(2)
    if is_plain(classifier, nn.Linear):
        # One product per image; einsum would first copy the map, with the channels at the front.
        weight: Any = classifier.weight  # inside FSDP not a parameter
        maps: Tensor = weight.expand(n, -1, -1) @ columns
    else:
        logits = classifier(F.pad(columns, (0, 1)).transpose(1, 2))  # of all X(x), and of 0
        maps = (logits[:, :-1] - logits[:, -1:]).transpose(1, 2)
    return maps.reshape(n, -1, height, width)
