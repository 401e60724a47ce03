"""Emotion intensity network: a predicted intensity map attends the features that are classified.

Inspired by Zhang & Xu (IEEE Transactions on Multimedia 2020); the structure is reconstructed from
its numbers of parameters and operations. Known are a first classifier, an intensity map predicted
from concatenated levels of a feature pyramid and guided by the class activation maps of that
classifier, a second classifier of the attended features, and joint training. All else is our
choice. In particular, the weight of the map loss is constant, although the class activation maps of
the first steps are noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.models.base import EmotionOutput, LeafClassifier
from mdan_zoo.models.fpn import FeaturePyramid, concatenate, resize
from mdan_zoo.models.layers import activation_maps, cross_entropy, log_softmax
from mdan_zoo.models.options import IntensityOptions
from mdan_zoo.models.registry import register_architecture

_PAPER = "https://doi.org/10.1109/TMM.2020.3007352"


@register_architecture("intensity", options=IntensityOptions)
class IntensityNetwork(LeafClassifier):
    """Classifier of C5 and of C5 weighted by an intensity map from a feature pyramid."""

    attention_name = "intensity"
    map_legend = (
        "Class activation: contribution to the logit. "
        "Attention: intensity I, 0 to 1; features F and F * I are classified."
    )

    def __init__(
        self,
        backbone: nn.Module,
        channels: Sequence[int],
        hierarchy: Hierarchy,
        options: IntensityOptions = IntensityOptions(),  # noqa: B008 - frozen
    ) -> None:
        super().__init__(backbone, channels, hierarchy, options, inputs=2 * channels[3])
        dim = options.dim
        self.first_classifier = nn.Linear(channels[3], hierarchy.sizes[-1])
        self.fpn = FeaturePyramid(channels, dim)
        self.levels = nn.ModuleList(
            nn.Sequential(
                *(nn.Conv2d(dim, dim, 3, padding=1), nn.ReLU()),
                *(nn.Conv2d(dim, dim, 3, padding=1), nn.ReLU()),
            )
            for _ in channels
        )
        self.intensity = nn.Sequential(
            *(nn.Conv2d(4 * dim, dim, 1), nn.ReLU()), *(nn.Conv2d(dim, 1, 1), nn.Sigmoid())
        )

    def classify(self, pyramid: list[Tensor], return_maps: bool = False) -> EmotionOutput:
        """Predict every level; the attention map is the intensity, in 0..1 at the size of C3."""
        c5 = pyramid[3]
        features = c5.mean(dim=(2, 3))
        maps = self.fpn(pyramid)
        levels = [level(p) for level, p in zip(self.levels, maps, strict=True)]
        intensity = self.intensity(concatenate(levels, pyramid[1].shape[2:]))
        attended = torch.cat([c5, c5 * F.avg_pool2d(intensity, 4)], dim=1)
        auxiliary = {
            "logits": self.first_classifier(features),
            "class_maps": activation_maps(c5, self.first_classifier).detach(),
            "intensity": intensity[:, 0],
        }
        requested = {}
        if return_maps:
            requested["maps"] = (intensity[:, 0],)
            requested["class_maps"] = (activation_maps(attended, self.global_classifier),)
        pooled = attended.mean(dim=(2, 3))
        return self.predict_leaves(pooled, features, auxiliary=auxiliary, **requested)

    def auxiliary_loss(self, output: EmotionOutput, targets: Sequence[Tensor]) -> Tensor:
        """Return the loss of the first classifier and, weighted, that of the intensity map.

        The target of the map is the class activation map of the label, or the mean over the classes
        of a distribution, without its negative values and divided by its maximum. Images without a
        label of the finest level have no loss of the map.
        """
        given, leaves = output.auxiliary, targets[-1]
        first = self.masks.sum_upwards(log_softmax(given["logits"]))
        weighted = leaves[:, :, None, None] * given["class_maps"]
        pseudo = weighted.sum(dim=1, keepdim=True).relu()
        pseudo = pseudo / pseudo.amax(dim=(2, 3), keepdim=True).clamp_min(1e-12)
        pseudo = resize(pseudo, given["intensity"].shape[1:])[:, 0]
        errors = (given["intensity"] - pseudo).square().mean(dim=(1, 2))
        map_loss = (leaves.sum(dim=1) * errors).mean()
        return cross_entropy(first, targets) + float(self.options.intensity_weight) * map_loss

    def classifiers(self) -> Mapping[str, int]:
        """Return both classifiers and their level, the finest."""
        return {**super().classifiers(), "first_classifier": self.hierarchy.depth - 1}

    @classmethod
    def card_text(cls, backbone: str) -> str:
        """Return the network's description in a model card."""
        return (
            f"an emotion intensity network on the backbone `{backbone}`, inspired by "
            f"[Zhang & Xu, 2020]({_PAPER}), with a structure reconstructed from two numbers"
        )
