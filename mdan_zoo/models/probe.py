"""Probe: a linear classifier or a perceptron on the embedding of a frozen backbone."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.models.flat import FlatClassifier
from mdan_zoo.models.options import ProbeOptions
from mdan_zoo.models.registry import register_architecture


@register_architecture("probe", options=ProbeOptions)
class Probe(FlatClassifier):
    """Frozen backbone, a hidden layer if the options have one, one linear classifier.

    On "vit_base_patch16_clip_quickgelu_224.openai:embedding", it is a re-implementation after the
    linear probe of Radford et al., Learning transferable visual models from natural language
    supervision (2021). The hidden layer with GELU is our choice.
    """

    frozen_backbone = True

    def __init__(
        self,
        backbone: nn.Module,
        channels: Sequence[int],
        hierarchy: Hierarchy,
        options: ProbeOptions = ProbeOptions(),  # noqa: B008 - frozen
    ) -> None:
        super().__init__(backbone, channels, hierarchy, options)
        if options.hidden:
            self.hidden = nn.Sequential(nn.Linear(channels[3], options.hidden), nn.GELU())
            self.global_classifier = nn.Linear(options.hidden, hierarchy.sizes[-1])

    @classmethod
    def card_text(cls, backbone: str) -> str:
        """Return the network's description in a model card."""
        return f"a classifier of the features of the frozen backbone `{backbone}`"
