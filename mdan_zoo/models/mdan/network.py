"""MDAN, the Multi-level Dependent Attention Network (Xu et al., CVPR 2022).

A backbone gives the maps C2..C5. The bottom-up branch classifies C5 at the finest affective level
and sums probabilities up the hierarchy (Eq. 2). The top-down branch goes from C5 back to finer
maps, one affective level at a time: level l_a reads C_(5 - l_a), attends to its channels (MHCCA,
Eq. 4) and positions (L-CAM, section 4.2), and has its own classifier (Eq. 1). Both are fused, level
by level, into P_O = alpha P_L + (1 - alpha) P_G.

`mdan_zoo.models.mdan.reference` has the same network as the formulas are printed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.models.base import EmotionModel, EmotionOutput
from mdan_zoo.models.layers import activation_maps, is_plain, log_softmax
from mdan_zoo.models.mdan.lcam import fuse
from mdan_zoo.models.mdan.mhcca import MHCCA, join_heads, split_heads, upsample, upsample_adjoint
from mdan_zoo.models.options import MDANOptions
from mdan_zoo.models.registry import register_architecture

_PAPER = (
    "https://openaccess.thecvf.com/content/CVPR2022/html/Xu_MDAN_Multi-Level_Dependent_Attention_"
    "Network_for_Visual_Emotion_Analysis_CVPR_2022_paper.html"
)


class TopDownLevel(nn.Module):
    """One affective level of the top-down branch: MHCCA, L-CAM and the local classifier."""

    def __init__(self, heads: int, classes: int, options: MDANOptions) -> None:
        super().__init__()
        self.mhcca = MHCCA(options.dim, heads)
        self.classifier = nn.Linear(options.dim, classes)
        self.dropout = nn.Dropout(options.dropout)
        self.lcam = options.lcam

    def forward(
        self, coarse: Tensor, fine: Tensor, allowed: Tensor, last: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Return logits (N, K), m_k (N, K, H, W), M (N, H, W) and F (N, D, H, W) of this level.

        `coarse` is F of the level above, (N, D, h, w); `fine` is C of this level, (N, C, H, W);
        `allowed`, bool (N, K), are the children of the class predicted one level up. F is None at
        the `last` level, unless one of the layers has to be called to get it.
        """
        if last and self._can_be_read():
            return *self.forward_last(coarse, fine, allowed), None
        combined = self.mhcca(coarse, fine) + upsample(coarse, fine.shape[2:])
        class_maps = activation_maps(combined, self.classifier)
        attention_map = fuse(class_maps, allowed, self.lcam)
        features = (1 + attention_map)[:, None] * combined
        logits = self.classifier(self.dropout(features.mean(dim=(2, 3))))
        return logits, class_maps, attention_map, features

    def forward_last(
        self, coarse: Tensor, fine: Tensor, allowed: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the same as `forward`, without F of this level, from the weights of the layers.

        With X = O(A_h C_h) + upsample(F), all that the last level needs is linear in X:

            m_k = w_k . X = (w_k W_o A_h) C_h + upsample(w_k . F)
            mean_x (1 + M) X = [ W_o sum_h A_h (C_h (1 + M)_h) + sum_y F(y) up^T(1 + M)(y) ] / HW

        so the map X (N, D, H, W), the largest tensor of the network, is never made.
        """
        attention = self.mhcca.attention(coarse, fine)
        bands = split_heads(fine, self.mhcca.heads)
        n, _, height, width = fine.shape
        weight, output_weight = self.classifier.weight, self.mhcca.output_weight

        from_fine = (weight @ output_weight).expand(bands.shape[0], -1, -1) @ attention @ bands
        from_coarse = activation_maps(coarse, self.classifier)
        class_maps = join_heads(from_fine, fine) + upsample(from_coarse, (height, width))
        attention_map = fuse(class_maps, allowed, self.lcam)

        # Half of the division by HW comes before the sums over positions and half after, so that
        # neither the sums nor their terms leave float16's range.
        scale = 1 / math.sqrt(height * width)
        gain = scale * (1 + attention_map)
        weighted = bands @ gain.reshape(bands.shape[0], -1, 1)
        attended = (attention @ weighted).reshape(n, self.mhcca.heads, -1).sum(dim=1)
        attended = attended @ output_weight.T
        passed_on = torch.einsum("ndhw,nhw->nd", coarse, upsample_adjoint(gain, coarse.shape[2:]))
        logits = self.classifier(self.dropout(scale * (attended + passed_on)))
        return logits, class_maps, attention_map

    def _can_be_read(self) -> bool:
        """Return whether the weights that `forward_last` reads are those of the layers."""
        return (
            is_plain(self.mhcca, MHCCA)
            and is_plain(self.mhcca.output, nn.Conv2d)
            and is_plain(self.classifier, nn.Linear)
        )


@register_architecture("mdan", options=MDANOptions)
class MDAN(EmotionModel):
    """Multi-level Dependent Attention Network for any emotion hierarchy of 1 to 3 levels."""

    branches = ("local", "global")
    attention_name = "L-CAM"
    map_legend = (
        "Class activation: contribution to the logit. "
        "Attention: M; features are multiplied by 1 + M."
    )

    def __init__(
        self,
        backbone: nn.Module,
        channels: Sequence[int],
        hierarchy: Hierarchy,
        options: MDANOptions = MDANOptions(),  # noqa: B008 - frozen
    ) -> None:
        super().__init__(backbone, channels, hierarchy, options)
        sizes = hierarchy.sizes
        self.reduce = nn.Conv2d(channels[3], options.dim, 1, bias=False)
        self.levels = nn.ModuleList(
            TopDownLevel(heads, classes, options)
            for heads, classes in zip(options.heads, sizes, strict=False)
        )
        self.global_classifier = nn.Linear(channels[3], sizes[-1])
        self.dropout = nn.Dropout(options.dropout)
        self.norms = nn.ModuleList(
            nn.BatchNorm2d(count) if options.normalise_pyramid else nn.Identity()
            for count in channels[::-1][: len(sizes) + 1]
        )

    def classify(self, pyramid: list[Tensor], return_maps: bool = False) -> EmotionOutput:
        """Predict every level from the maps of the backbone; see `EmotionModel.classify`."""
        features = pyramid[3].mean(dim=(2, 3))
        global_logits = self.global_classifier(self.dropout(features))
        local_logits, maps, class_maps = self._top_down(pyramid)

        log_local = tuple(log_softmax(logits) for logits in local_logits)
        log_global = self.masks.sum_upwards(log_softmax(global_logits))
        log_overall = tuple(
            torch.logaddexp(by_local + _log(self.alpha), by_global + _log(1 - self.alpha))
            for by_local, by_global in zip(log_local, log_global, strict=True)
        )
        return EmotionOutput(
            log_probs={"overall": log_overall, "local": log_local, "global": log_global},
            features=features,
            logits={"local": local_logits, "global": (global_logits,)},
            maps=maps if return_maps else (),
            class_maps=class_maps if return_maps else (),
        )

    def classifiers(self) -> Mapping[str, int]:
        """Return the local classifiers of every level, and the global one of the finest level."""
        local = {f"levels.{level}.classifier": level for level in range(self.hierarchy.depth)}
        return {**local, "global_classifier": self.hierarchy.depth - 1}

    @classmethod
    def card_text(cls, backbone: str) -> str:
        """Return the network's description in a model card."""
        return f"[MDAN]({_PAPER}) on the backbone `{backbone}`"

    @property
    def alpha(self) -> float:
        """Weight of the local branch in P_O."""
        return float(self.options.alpha)

    @classmethod
    def pyramid_stages(cls, depth: int) -> range:
        """Return the indices of the maps: level 1 reads C4, level 2 C3, level 3 C2."""
        return range(max(0, 3 - depth), 4)

    @torch.no_grad()
    def set_priors(self, frequencies: Tensor) -> None:
        """Initialise the global classifier alone: L-CAM reads the weights of the local ones."""
        self.global_classifier.weight.zero_()
        self.global_classifier.bias.copy_(frequencies.log())

    def _top_down(self, pyramid: list[Tensor]) -> tuple[tuple[Tensor, ...], ...]:
        """Run the local branch over C2..C5; return logits, M and m_k, each coarse to fine."""
        coarse = self.reduce(self.norms[0](pyramid[3]))
        logits = coarse.new_zeros(coarse.shape[0], 1)  # the root is always predicted
        results: list[tuple[Tensor, Tensor, Tensor]] = []
        for number, level in enumerate(self.levels):
            fine = self.norms[number + 1](pyramid[2 - number])
            allowed = self.masks(number)[logits.argmax(dim=1)]
            last = number + 1 == len(self.levels)
            logits, class_maps, attention_map, coarse = level(coarse, fine, allowed, last)
            results.append((logits, attention_map, class_maps))
        return tuple(zip(*results, strict=True))


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf
