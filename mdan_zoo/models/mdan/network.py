"""MDAN, the Multi-level Dependent Attention Network (Xu et al., CVPR 2022).

A backbone gives the maps C2..C5. The bottom-up branch classifies C5 at the finest affective level
and sums probabilities up the hierarchy (Eq. 2). The top-down branch goes from C5 back to finer
maps, one affective level at a time: level l_a reads C_(5 - l_a), attends to its channels (MHCCA,
Eq. 4) and positions (L-CAM, section 4.2), and has its own classifier (Eq. 1). Both are fused, level
by level, into P_O = alpha P_L + (1 - alpha) P_G. Options leave out or replace each of these parts.

`mdan_zoo.models.mdan.reference` has the same network as the formulas are printed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mdan_zoo.errors import InputError
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


class TopDownMap(nn.Module):
    """One map of the top-down branch, X = C' + upsample(F), for C of a semantic level."""

    def __init__(self, semantic_level: int, channels: int, options: MDANOptions) -> None:
        super().__init__()
        self.fusion, self.upsample_add = options.fusion, options.upsample_add
        if options.fusion == "lateral":
            self.lateral = nn.Conv2d(channels, options.dim, 1, bias=False)
        elif options.fusion != "none":
            heads = options.heads[4 - semantic_level]
            projected = channels if options.fusion == "mhcca_kv" else None
            self.mhcca = MHCCA(options.dim, heads, options.value, projected)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """Return X (N, D, H, W) from F one level up, (N, D, h, w), and C, (N, K, H, W)."""
        if self.fusion == "none":
            return fine
        made: Tensor = self.lateral(fine) if self.fusion == "lateral" else self.mhcca(coarse, fine)
        return made + upsample(coarse, fine.shape[2:]) if self.upsample_add else made


class TopDownLevel(TopDownMap):
    """One affective level of the local branch: map, L-CAM and the local classifier."""

    def __init__(
        self, semantic_level: int, channels: int, classes: int, options: MDANOptions
    ) -> None:
        super().__init__(semantic_level, channels, options)
        self.classifier = nn.Linear(channels if self.fusion == "none" else options.dim, classes)
        self.dropout = nn.Dropout(options.dropout)
        self.lcam, self.lcam_pooling = options.lcam, options.lcam_pooling

    def forward(  # type: ignore[override]
        self, coarse: Tensor, fine: Tensor, allowed: Tensor, last: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Return logits (N, K), m_k (N, K, H, W), M (N, H, W) and F (N, D, H, W) of this level.

        `coarse` is F of the level above, (N, D, h, w); `fine` is C of this level, (N, C, H, W);
        `allowed`, bool (N, K), are the children of the class predicted one level up. F is None at
        the `last` level, unless one of the layers has to be called to get it.
        """
        if last and self._can_be_read():
            return *self.forward_last(coarse, fine, allowed), None
        combined = super().forward(coarse, fine)
        class_maps = activation_maps(combined, self.classifier)
        attention_map = fuse(class_maps, allowed, self.lcam, self.lcam_pooling)
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
        bands = split_heads(self.mhcca.value(fine), self.mhcca.bands)
        n, _, height, width = fine.shape
        weight, output_weight = self.classifier.weight, self.mhcca.output_weight

        from_fine = (weight @ output_weight).expand(bands.shape[0], -1, -1) @ attention @ bands
        from_coarse = activation_maps(coarse, self.classifier)
        class_maps = join_heads(from_fine, fine) + upsample(from_coarse, (height, width))
        attention_map = fuse(class_maps, allowed, self.lcam, self.lcam_pooling)

        # Half of the division by HW comes before the sums over positions and half after, so that
        # neither the sums nor their terms leave float16's range.
        scale = 1 / math.sqrt(height * width)
        gain = scale * (1 + attention_map)
        weighted = bands @ gain.reshape(bands.shape[0], -1, 1)
        attended = (attention @ weighted).reshape(n, self.mhcca.bands, -1).sum(dim=1)
        attended = attended @ output_weight.T
        passed_on = torch.einsum("ndhw,nhw->nd", coarse, upsample_adjoint(gain, coarse.shape[2:]))
        logits = self.classifier(self.dropout(scale * (attended + passed_on)))
        return logits, class_maps, attention_map

    def _can_be_read(self) -> bool:
        """Return whether `forward_last` holds and the weights that it reads are of the layers."""
        return (
            self.fusion in ("mhcca", "mhcca_kv")
            and self.upsample_add
            and is_plain(self.mhcca, MHCCA)
            and is_plain(self.mhcca.output, nn.Conv2d)
            and is_plain(self.classifier, nn.Linear)
        )


@register_architecture("mdan", options=MDANOptions)
class MDAN(EmotionModel):
    """Multi-level Dependent Attention Network for any emotion hierarchy of 1 to 3 levels.

    Raises:
        InputError: The hierarchy has more levels than `options.semantic_levels`.
    """

    branches: tuple[str, ...] = ("local", "global")
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
        sizes, given = hierarchy.sizes, options.semantic_levels
        if len(given) < len(sizes):
            raise InputError(
                f"the hierarchy has {len(sizes)} levels, so semantic_levels must be as many, not "
                f"{given!r}"
            )
        if options.branches != "both":
            self.branches = (str(options.branches),)
        if options.lcam == "off":
            self.map_legend = EmotionModel.map_legend
        top_down = "local" in self.branches and options.fusion != "none"
        classified = given[: len(sizes)] if "local" in self.branches else ()
        self._order = tuple(range(4, min(classified) - 1, -1)) if top_down else classified
        self._classified = classified
        width = dict(zip((2, 3, 4, 5), channels, strict=True))
        if top_down:
            self.reduce = nn.Conv2d(width[5], options.dim, 1, bias=False)
        self.levels = nn.ModuleList(
            TopDownLevel(level, width[level], classes, options)
            for level, classes in zip(classified, sizes, strict=False)
        )
        self.unclassified = nn.ModuleDict(
            {
                f"C{level}": TopDownMap(level, width[level], options)
                for level in self._order
                if level not in classified
            }
        )
        if "global" in self.branches:
            self.global_classifier = nn.Linear(width[5], sizes[-1])
        self.dropout = nn.Dropout(options.dropout)
        read = {*self._order, 5} if top_down else {*self._order}
        self.norms = nn.ModuleList(
            nn.BatchNorm2d(width[level])
            if options.normalise_pyramid and level in read
            else nn.Identity()
            for level in range(5, min(read, default=6) - 1, -1)
        )

    def classify(self, pyramid: list[Tensor], return_maps: bool = False) -> EmotionOutput:
        """Predict every level from the maps of the backbone; see `EmotionModel.classify`."""
        features = pyramid[3].mean(dim=(2, 3))
        log_probs: dict[str, tuple[Tensor, ...]] = {}
        logits: dict[str, tuple[Tensor, ...]] = {}
        maps: tuple[Tensor, ...] = ()
        class_maps: tuple[Tensor, ...] = ()
        if "local" in self.branches:
            logits["local"], maps, class_maps = self._classify_levels(pyramid)
            log_probs["local"] = tuple(log_softmax(level) for level in logits["local"])
        if "global" in self.branches:
            global_logits = self.global_classifier(self.dropout(features))
            logits["global"] = (global_logits,)
            log_probs["global"] = self.masks.sum_upwards(log_softmax(global_logits))
        log_overall = log_probs[self.branches[0]]
        if self.alpha is not None:
            log_overall = tuple(
                torch.logaddexp(by_local + _log(self.alpha), by_global + _log(1 - self.alpha))
                for by_local, by_global in zip(*log_probs.values(), strict=True)
            )
        elif return_maps and not class_maps:
            class_maps = (activation_maps(pyramid[3], self.global_classifier),)
        return EmotionOutput(
            log_probs={"overall": log_overall, **log_probs},
            features=features,
            logits=logits,
            maps=maps if return_maps else (),
            class_maps=class_maps if return_maps else (),
        )

    def classifiers(self) -> Mapping[str, int]:
        """Return the local classifiers of every level, and the global one of the finest level."""
        found = {f"levels.{level}.classifier": level for level in range(len(self.levels))}
        if "global" in self.branches:
            found["global_classifier"] = self.hierarchy.depth - 1
        return found

    @classmethod
    def card_text(cls, backbone: str) -> str:
        """Return the network's description in a model card."""
        return f"[MDAN]({_PAPER}) on the backbone `{backbone}`"

    @property
    def alpha(self) -> float | None:
        """Weight of the local branch in P_O; None for a network with one branch."""
        return float(self.options.alpha) if len(self.branches) == 2 else None

    def pyramid_stages(self) -> Sequence[int]:
        """Return the indices of C5 and of the maps of the local branch."""
        return sorted({3, *(level - 2 for level in self._order)})

    def auxiliary_loss(self, output: EmotionOutput, targets: Sequence[Tensor]) -> Tensor | None:
        """Return 0 times the features if nothing else reads C5, and None otherwise.

        Training on several GPUs needs gradients of all parameters.
        """
        reads_c5 = "global" in self.branches or hasattr(self, "reduce") or 5 in self._order
        return None if reads_c5 else 0 * output.features.sum()

    @torch.no_grad()
    def set_priors(self, frequencies: Tensor) -> None:
        """Initialise the global classifier alone: L-CAM reads the weights of the local ones.

        Without a global classifier, initialise the local one of the finest level.
        """
        if "global" not in self.branches:
            super().set_priors(frequencies)
            return
        self.global_classifier.weight.zero_()
        self.global_classifier.bias.copy_(frequencies.log())

    def _classify_levels(self, pyramid: list[Tensor]) -> tuple[tuple[Tensor, ...], ...]:
        """Run the local branch over C2..C5; return logits, M and m_k, each coarse to fine."""
        coarse = self.reduce(self.norms[0](pyramid[3])) if hasattr(self, "reduce") else pyramid[3]
        root = coarse.new_zeros(coarse.shape[0], 1)  # which is always predicted
        found: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
        for semantic_level in self._order:
            fine = self.norms[5 - semantic_level](pyramid[semantic_level - 2])
            if semantic_level not in self._classified:
                coarse = self.unclassified[f"C{semantic_level}"](coarse, fine)
                continue
            number = self._classified.index(semantic_level)
            # Without L-CAM a finer affective level may come first; its mask has no effect.
            above = found[number - 1][0] if number - 1 in found else root
            allowed = self.masks(number)[above.argmax(dim=1)]
            last = semantic_level == self._order[-1]
            logits, class_maps, attention_map, coarse = self.levels[number](
                coarse, fine, allowed, last
            )
            found[number] = (logits, attention_map, class_maps)
        return tuple(zip(*(found[number] for number in sorted(found)), strict=True))


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf
