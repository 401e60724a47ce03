"""Unified CNN-RNN: a recurrent network over the depths of the backbone.

Re-implementation after Zhu et al. (IJCAI 2017), from secondary descriptions. Known are features of
several depths of one CNN, a bidirectional recurrent network over them, and the sum of a
classification loss and 0.5 times a contrastive one with margin 1. Our choices are the depths
C2..C5, global average pooling, one layer of gated recurrent units, its joined outputs as both the
inputs of the classifier and the embedding that the contrastive loss compares, and the form of that
loss.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mdan_zoo.errors import InputError
from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.models.base import EmotionOutput, LeafClassifier
from mdan_zoo.models.options import CNNRNNOptions
from mdan_zoo.models.registry import register_architecture

_PAPER = "https://www.ijcai.org/proceedings/2017/503"
_LEAST = 1e-6
"""A lower limit of the number of pairs, so that a mean over none is 0."""


@register_architecture("cnnrnn", options=CNNRNNOptions)
class CNNRNN(LeafClassifier):
    """Pooled C2..C5, projected to one width, are the sequence that a bidirectional GRU reads.

    The projections have a BatchNorm, so training needs at least two images in a batch.
    """

    def __init__(
        self,
        backbone: nn.Module,
        channels: Sequence[int],
        hierarchy: Hierarchy,
        options: CNNRNNOptions = CNNRNNOptions(),  # noqa: B008 - frozen
    ) -> None:
        dim = options.dim
        super().__init__(backbone, channels, hierarchy, options, inputs=4 * dim)
        self.projections = nn.ModuleList(
            nn.Sequential(nn.Linear(count, dim), nn.ReLU(), nn.BatchNorm1d(dim))
            for count in channels
        )
        # Not nn.GRU: torch.compile and offloading do not support its list of weights.
        self.shallow_to_deep = nn.GRUCell(dim, dim // 2)
        self.deep_to_shallow = nn.GRUCell(dim, dim // 2)

    def classify(self, pyramid: list[Tensor], return_maps: bool = False) -> EmotionOutput:
        """Predict every level from the maps of the backbone; there are no maps to return."""
        if self.training and len(pyramid[3]) == 1:
            raise InputError(
                "cnnrnn normalises over the images of a batch, so it is trained with at least two "
                "images per process and micro-batch, not 1"
            )
        pooled = [feature_map.mean(dim=(2, 3)) for feature_map in pyramid]
        steps = [project(x) for project, x in zip(self.projections, pooled, strict=True)]
        states = hidden_states(self.shallow_to_deep, steps)
        states += hidden_states(self.deep_to_shallow, steps[::-1])
        embedding = torch.cat(states, dim=1)
        return self.predict_leaves(embedding, pooled[3], auxiliary={"embedding": embedding})

    def auxiliary_loss(self, output: EmotionOutput, targets: Sequence[Tensor]) -> Tensor:
        """Return the weighted contrastive loss of the batch; see `contrastive_loss`."""
        loss = contrastive_loss(output.auxiliary["embedding"], targets[-1])
        return float(self.options.contrastive_weight) * loss

    @classmethod
    def card_text(cls, backbone: str) -> str:
        """Return the network's description in a model card."""
        return (
            f"a bidirectional recurrent network over the feature maps of the backbone `{backbone}`,"
            f" re-implemented after [Zhu et al., 2017]({_PAPER}) from secondary descriptions"
        )


def hidden_states(cell: nn.GRUCell, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Return the hidden state of a cell after each input, (N, H) each, starting from 0."""
    states: list[Tensor] = []
    for x in inputs:
        states.append(cell(x, states[-1] if states else None))
    return states


def contrastive_loss(embeddings: Tensor, targets: Tensor, margin: float = 1.0) -> Tensor:
    """Return the contrastive loss (Hadsell et al., 2006) of all pairs of a batch.

    It is half the sum of two means: of d^2 over the pairs of one class, and of max(0, margin - d)^2
    over the other pairs, where d is the Euclidean distance of the normalised embeddings. A pair
    with target distributions p and q counts as one class by sum_k p_k q_k, and as two classes by
    the rest. Pairs with an image that has no label count as neither.

    Args:
        embeddings: (N, C).
        targets: Target distributions, (N, K); 0 for images without a label.
        margin: The distance from which on pairs of two classes have no loss.
    """
    count = len(targets)
    first, second = torch.triu_indices(count, count, 1, device=targets.device)  # as pdist orders
    same = (targets[first] * targets[second]).sum(dim=1)
    different = targets[first].sum(dim=1) * targets[second].sum(dim=1) - same
    wide = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))  # as pdist needs
    distances = F.pdist(F.normalize(wide))
    attraction = (same * distances.square()).sum() / same.sum().clamp_min(_LEAST)
    too_close = (margin - distances).relu().square()
    repulsion = (different * too_close).sum() / different.sum().clamp_min(_LEAST)
    return (attraction + repulsion) / 2
