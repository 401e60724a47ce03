"""WSCNet, Weakly Supervised Coupled Networks (She et al., IEEE Transactions on Multimedia 2020).

A re-implementation after the authors' code, https://github.com/sherleens/WSCNet. With F = C5, the
last map of the backbone, GAP the mean over the positions, and K classes:

    m_c = mean of k convolutions of F, 1x1     detection map of class c
    v_c = GAP(m_c)                             logits of the detection branch, for training only
    M   = (1/K) sum_c v_c m_c                  sentiment map
    y   = Linear(GAP([F, F * M]))              logits of the classification branch, the prediction

and the loss is 0.5 CE(y) + 0.5 CE(v), whose gradients also pass through M.

Choices of this package: the coarser levels of the hierarchy are sums of the probabilities of the
finest one (Eq. 2 of the MDAN paper), the cross-entropy is the mean over the levels, as of every
architecture, and GAP accepts any input size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.models.base import EmotionOutput, LeafClassifier
from mdan_zoo.models.layers import cross_entropy, log_softmax
from mdan_zoo.models.options import WSCNetOptions
from mdan_zoo.models.registry import register_architecture

_DETECTION_WEIGHT = 0.5


@register_architecture("wscnet", options=WSCNetOptions)
class WSCNet(LeafClassifier):
    """Weakly Supervised Coupled Networks: detection maps, coupled with a classifier."""

    loss_weights: ClassVar[Mapping[str, float]] = {"overall": 1 - _DETECTION_WEIGHT}
    attention_name = "sentiment map"
    map_legend = (
        "Class activation: contribution to the detection logit. "
        "Attention: M; features F and F * M are classified."
    )

    def __init__(
        self,
        backbone: nn.Module,
        channels: Sequence[int],
        hierarchy: Hierarchy,
        options: WSCNetOptions = WSCNetOptions(),  # noqa: B008 - frozen
    ) -> None:
        super().__init__(backbone, channels, hierarchy, options, inputs=2 * channels[3])
        # One convolution per map of a class, so that each has a row per class.
        self.detectors = nn.ModuleList(
            nn.Conv2d(channels[3], hierarchy.sizes[-1], 1) for _ in range(options.maps_per_class)
        )

    def classify(self, pyramid: list[Tensor], return_maps: bool = False) -> EmotionOutput:
        """Predict every level from the maps of the backbone; see `EmotionModel.classify`."""
        features = pyramid[3]
        class_maps = torch.stack([detector(features) for detector in self.detectors]).mean(dim=0)
        detection = class_maps.mean(dim=(2, 3))
        attention = torch.einsum("nk,nkhw->nhw", detection, class_maps) / detection.shape[1]
        pooled = features.mean(dim=(2, 3))
        coupled = (features * attention[:, None]).mean(dim=(2, 3))
        return self.predict_leaves(
            torch.cat([pooled, coupled], dim=1),
            pooled,
            auxiliary={"detection": detection},
            maps=(attention,) if return_maps else (),
            class_maps=(class_maps,) if return_maps else (),
        )

    def classifiers(self) -> Mapping[str, int]:
        """Return the classifier and the convolutions of the detection maps, all of leaves."""
        detectors = (f"detectors.{number}" for number in range(len(self.detectors)))
        return {**super().classifiers(), **dict.fromkeys(detectors, self.hierarchy.depth - 1)}

    @classmethod
    def card_text(cls, backbone: str) -> str:
        """Return the network's description in a model card."""
        return (
            "a re-implementation after [WSCNet](https://github.com/sherleens/WSCNet) (She et al., "
            f"2020) on the backbone `{backbone}`; coarser levels and the loss at every level are "
            "choices of this package"
        )

    def pyramid_stages(self) -> Sequence[int]:
        """Return the index of C5."""
        return range(3, 4)

    def auxiliary_loss(self, output: EmotionOutput, targets: Sequence[Tensor]) -> Tensor:
        """Return 0.5 CE(v), the loss of the detection branch."""
        detection = self.masks.sum_upwards(log_softmax(output.auxiliary["detection"]))
        return _DETECTION_WEIGHT * cross_entropy(detection, targets)

    @torch.no_grad()
    def set_priors(self, frequencies: Tensor) -> None:
        """Initialise the classifier alone: the sentiment map is quadratic in the detection maps."""
        self.global_classifier.weight.zero_()
        self.global_classifier.bias.copy_(frequencies.log())
