"""Feature pyramid network with one linear classifier: a pyramid without attention.

A control for MDAN that shows what top-down features add to those of the flat classifier. It is a
re-implementation after the base network of Rao et al. (Neurocomputing 2019), which has no regions;
their whole network is another one. Training and input size are those of the model, not theirs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.models.base import EmotionOutput, LeafClassifier
from mdan_zoo.models.layers import activation_maps
from mdan_zoo.models.options import FPNOptions
from mdan_zoo.models.registry import register_architecture

_LIN = "https://arxiv.org/abs/1612.03144"
_RAO = "https://doi.org/10.1016/j.neucom.2018.12.053"


class FeaturePyramid(nn.Module):
    """Feature pyramid network (Lin et al., 2017) with bilinear upsampling and no convolution on P5.

    Args:
        channels: The numbers of channels of C2, C3, C4 and C5.
        dim: D, the number of channels of P2, P3, P4 and P5.
    """

    def __init__(self, channels: Sequence[int], dim: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(count, dim, 1) for count in channels)
        self.smoothing = nn.ModuleList(nn.Conv2d(dim, dim, 3, padding=1) for _ in channels[1:])

    def forward(self, pyramid: Sequence[Tensor]) -> list[Tensor]:
        """Return P2..P5, (N, D, H_l, W_l) each, for the maps C2..C5."""
        *finer, merged = (lateral(c) for lateral, c in zip(self.laterals, pyramid, strict=True))
        maps = [merged]
        for lateral, smooth in zip(finer[::-1], self.smoothing[::-1], strict=True):
            merged = lateral + resize(merged, lateral.shape[2:])
            maps.insert(0, smooth(merged))
        return maps


def resize(feature_map: Tensor, size: Sequence[int]) -> Tensor:
    """Interpolate a map (N, C, h, w) bilinearly to `size` = (H, W)."""
    return F.interpolate(feature_map, size=tuple(size), mode="bilinear", align_corners=False)


def concatenate(maps: Sequence[Tensor], size: Sequence[int]) -> Tensor:
    """Resize maps to `size` = (H, W), and concatenate their channels."""
    return torch.cat([resize(feature_map, size) for feature_map in maps], dim=1)


@register_architecture("fpn", options=FPNOptions)
class FPNClassifier(LeafClassifier):
    """Feature pyramid, global average pooling of its maps, one linear classifier of all of them."""

    def __init__(
        self,
        backbone: nn.Module,
        channels: Sequence[int],
        hierarchy: Hierarchy,
        options: FPNOptions = FPNOptions(),  # noqa: B008 - frozen
    ) -> None:
        super().__init__(backbone, channels, hierarchy, options, 4 * options.dim, options.dropout)
        self.fpn = FeaturePyramid(channels, options.dim)

    def classify(self, pyramid: list[Tensor], return_maps: bool = False) -> EmotionOutput:
        """Predict every level from the maps of the backbone; see `EmotionModel.classify`."""
        maps = self.fpn(pyramid)
        pooled = torch.cat([feature_map.mean(dim=(2, 3)) for feature_map in maps], dim=1)
        class_maps: tuple[Tensor, ...] = ()
        if return_maps:  # at the size of P3, which keeps the means of all levels
            joined = concatenate(maps, maps[1].shape[2:])
            class_maps = (activation_maps(joined, self.global_classifier),)
        return self.predict_leaves(pooled, pyramid[3].mean(dim=(2, 3)), class_maps=class_maps)

    @classmethod
    def card_text(cls, backbone: str) -> str:
        """Return the network's description in a model card."""
        return (
            f"a [feature pyramid network]({_LIN}) on the backbone `{backbone}` with one linear "
            f"classifier, re-implemented after the base network of [Rao et al., 2019]({_RAO}); "
            "the regions of that paper are not part of it"
        )
