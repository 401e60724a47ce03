"""Training step: the module that maps a batch to the loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from mdan_zoo.backbones.pyramid import stages_after
from mdan_zoo.images.preprocessing import Preprocessing
from mdan_zoo.training.losses import branch_weights, loss
from mdan_zoo.training.recipe import Recipe

if TYPE_CHECKING:
    from mdan_zoo.models.base import EmotionModel

_CACHED_STAGES = 3


class TrainingStep(nn.Module):
    """Normalisation, network and loss in one module, to be distributed and compiled."""

    def __init__(self, network: EmotionModel, preprocessing: Preprocessing, recipe: Recipe) -> None:
        super().__init__()
        self.network = network
        self.preprocessing = preprocessing
        self.branch_weights = branch_weights(type(network), recipe)
        self.last_stage: nn.Module | None = None
        if recipe.cached_views and recipe.frozen_stages == _CACHED_STAGES:
            self.last_stage = stages_after(network.backbone, _CACHED_STAGES)

    def forward(
        self, inputs: Tensor | list[Tensor], targets: list[Tensor], weights: Tensor | None
    ) -> Tensor:
        """Return the loss of images, uint8 (B, 3, S, S), or of cached maps C2..C5."""
        if isinstance(inputs, Tensor):
            output = self.network(self.preprocessing.normalise(inputs))
        else:
            maps = [stage.float() for stage in inputs]
            if self.last_stage is not None:
                maps[3] = self.last_stage(maps[2])
            output = self.network.classify(maps)
        return loss(self.network, output, targets, self.branch_weights, weights)
