"""PDANet, Polarity-consistent Deep Attention Network (Zhao et al., ACM Multimedia 2019).

A re-implementation after the authors' code, https://github.com/ZizhouJia/PDANet, in a form for
classes: the authors predict continuous dimensions. With F = C5, the last map of the backbone, GAP
the mean over the positions, and s the sigmoid function:

    a  = 1 + s(GAP(s(Conv(F))))                            gate of the channels
    V  = ReLU(Conv(F))
    p  = softmax over positions of w . tanh(Conv(V) + Linear(a))   spatial attention
    y  = Linear([GAP(V * a), GAP(V * p)])                  logits

with 1x1 convolutions. p sums to 1, so that GAP divides by the number of positions twice; see
`PDANetOptions.spatial_pooling`.

The loss is the mean over the images i of (1 + lambda g_i) CE_i, where g_i is 1 if the class with
the highest probability has another polarity, that is another ancestor at the coarsest level, than
the label, and otherwise 0. The authors add the same penalty to the squared error of dimensions.

Choices of this package: lambda; the coarser levels of the hierarchy are sums of the probabilities
of the finest one (Eq. 2 of the MDAN paper); CE_i is the mean over the levels at which image i is
labelled, as of every architecture; a convolution that the authors' code never calls, and the bias
of w, which cancels in the softmax, are left out.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.models.base import EmotionOutput, LeafClassifier
from mdan_zoo.models.layers import activation_maps, cross_entropy
from mdan_zoo.models.options import PDANetOptions
from mdan_zoo.models.registry import register_architecture


@register_architecture("pdanet", options=PDANetOptions)
class PDANet(LeafClassifier):
    """Polarity-consistent Deep Attention Network: channel and spatial attention, for classes."""

    attention_name = "spatial attention"
    map_legend = (
        "Class activation: contribution to the logit. "
        "Attention: weights of the positions, which sum to 1."
    )

    def __init__(
        self,
        backbone: nn.Module,
        channels: Sequence[int],
        hierarchy: Hierarchy,
        options: PDANetOptions = PDANetOptions(),  # noqa: B008 - frozen
    ) -> None:
        super().__init__(backbone, channels, hierarchy, options, inputs=2 * channels[3])
        width = channels[3]
        self.gate = nn.Conv2d(width, width, 1)
        self.value = nn.Conv2d(width, width, 1)
        self.project_value = nn.Conv2d(width, width, 1)
        self.project_gate = nn.Linear(width, width)
        self.score = nn.Conv2d(width, 1, 1, bias=False)

    def classify(self, pyramid: list[Tensor], return_maps: bool = False) -> EmotionOutput:
        """Predict every level from the maps of the backbone; see `EmotionModel.classify`."""
        gate = self.gate(pyramid[3]).sigmoid().mean(dim=(2, 3))
        if self.options.channel_gate == "double_sigmoid":
            gate = 1 + gate.sigmoid()
        value = self.value(pyramid[3]).relu()
        hidden = (self.project_value(value) + self.project_gate(gate)[:, :, None, None]).tanh()
        scores = self.score(hidden)[:, 0]
        attention = scores.flatten(1).softmax(dim=1).reshape(scores.shape)
        scale = attention[0].numel() if self.options.spatial_pooling == "sum" else 1
        weighted = [gate[:, :, None, None] * value, scale * attention[:, None] * value]
        attended = torch.cat(weighted, dim=1)
        class_maps: tuple[Tensor, ...] = ()
        if return_maps:
            class_maps = (activation_maps(attended, self.global_classifier),)
        return self.predict_leaves(
            attended.mean(dim=(2, 3)),
            pyramid[3].mean(dim=(2, 3)),
            maps=(attention,) if return_maps else (),
            class_maps=class_maps,
        )

    @classmethod
    def card_text(cls, backbone: str) -> str:
        """Return the network's description in a model card."""
        return (
            "a re-implementation after [PDANet](https://github.com/ZizhouJia/PDANet) (Zhao et al., "
            f"2019) on the backbone `{backbone}`, in a form for classes whose loss, coarser levels "
            "and weight of wrong polarities are choices of this package"
        )

    def pyramid_stages(self) -> Sequence[int]:
        """Return the index of C5."""
        return range(3, 4)

    def auxiliary_loss(self, output: EmotionOutput, targets: Sequence[Tensor]) -> Tensor | None:
        """Return lambda * mean of g_i CE_i, which is 0 without a level of polarities.

        The polarity of a label is the one with the highest target probability.
        """
        if self.hierarchy.depth == 1:
            return None
        predicted = output.log_probs["overall"]
        classes = predicted[-1].argmax(dim=1)
        for level in range(self.hierarchy.depth - 1, 0, -1):
            classes = self.masks(level)[:, classes].int().argmax(dim=0)  # their parents
        wrong = (classes != targets[0].argmax(dim=1)).float()
        weight: float = self.options.polarity_weight
        return weight * cross_entropy(predicted, targets, wrong)
