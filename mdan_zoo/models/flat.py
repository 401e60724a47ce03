"""The flat control: the backbone and one linear classifier on its pooled last map.

It is MDAN without its top-down branch. The finest level is classified and the coarser ones follow
by Eq. 2, so what MDAN adds can be told from what the backbone already gives.
"""

from __future__ import annotations

from torch import Tensor, nn

from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.models.base import EmotionOutput, EmotionTree, check_images, log_softmax
from mdan_zoo.models.mdan.lcam import activation_maps


class FlatClassifier(nn.Module):
    """Backbone, global average pooling, one linear classifier, sums up the tree.

    Args:
        backbone: Maps images (N, 3, H, W) to a list of maps; the last one is read.
        channels: Channels of that last map.
        hierarchy: The emotion tree.
        dropout: Probability with which the classifier's inputs are dropped in training.
    """

    def __init__(
        self, backbone: nn.Module, channels: int, hierarchy: Hierarchy, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.hierarchy = hierarchy
        self.tree = EmotionTree(hierarchy)
        self.dropout = nn.Dropout(dropout)
        self.global_classifier = nn.Linear(channels, hierarchy.sizes[-1])

    def forward(self, images: Tensor, return_maps: bool = False) -> EmotionOutput:
        """Predict every affective level of a batch of images.

        Args:
            images: (N, 3, H, W), normalised as the backbone expects.
            return_maps: Whether the output carries the class activation maps of the finest level.

        Raises:
            InputError: The shape or the type of the values is not acceptable.
        """
        check_images(images, self.global_classifier.weight)
        return self.classify(list(self.backbone(images)), return_maps)

    def classify(self, pyramid: list[Tensor], return_maps: bool = False) -> EmotionOutput:
        """Do the same from the backbone's maps."""
        features = pyramid[-1].mean(dim=(2, 3))
        logits = self.global_classifier(self.dropout(features))
        log_global = self.tree.sum_upwards(log_softmax(logits))
        class_maps: tuple[Tensor, ...] = ()
        if return_maps:
            class_maps = (activation_maps(pyramid[-1], self.global_classifier.weight),)
        return EmotionOutput(
            (), logits, (), log_global, log_global, features, class_maps=class_maps
        )
