"""Flat classifier: the backbone with one linear classifier, a control for MDAN.

The finest level is classified; the coarser levels are sums of its probabilities (Eq. 2). Of a
backbone that returns an embedding, such as "vgg16:embedding", the classifier reads that.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.models.base import EmotionOutput, LeafClassifier
from mdan_zoo.models.layers import activation_maps
from mdan_zoo.models.options import FlatOptions, ProbeOptions
from mdan_zoo.models.registry import register_architecture


@register_architecture("flat", options=FlatOptions)
class FlatClassifier(LeafClassifier):
    """Backbone, global average pooling, one linear classifier, sums up the hierarchy."""

    accepts_embedding = True

    def __init__(
        self,
        backbone: nn.Module,
        channels: Sequence[int],
        hierarchy: Hierarchy,
        options: FlatOptions | ProbeOptions = FlatOptions(),  # noqa: B008 - frozen
    ) -> None:
        super().__init__(backbone, channels, hierarchy, options, channels[3], options.dropout)
        self.hidden: nn.Module = nn.Identity()

    def classify(self, pyramid: list[Tensor], return_maps: bool = False) -> EmotionOutput:
        """Predict every level from the maps of the backbone; see `EmotionModel.classify`."""
        features = pyramid[-1].mean(dim=(2, 3))
        class_maps: tuple[Tensor, ...] = ()
        if return_maps and self.has_maps and isinstance(self.hidden, nn.Identity):
            class_maps = (activation_maps(pyramid[-1], self.global_classifier),)
        return self.predict_leaves(self.hidden(features), features, class_maps=class_maps)

    @classmethod
    def card_text(cls, backbone: str) -> str:
        """Return the network's description in a model card."""
        return f"the backbone `{backbone}` with one linear classifier"

    def pyramid_stages(self) -> Sequence[int]:
        """Return the index of C5."""
        return range(3, 4)
