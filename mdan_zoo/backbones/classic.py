"""Classic networks that timm lacks, registered as timm models."""

from __future__ import annotations

from typing import Any

import torchvision
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn

__all__ = ["AlexNet", "SmallCNN"]  # `register_model` adds the names of the models

default_cfgs = generate_default_cfgs(
    {
        "alexnet.tv_in1k": {
            "url": torchvision.models.AlexNet_Weights.IMAGENET1K_V1.url,
            "input_size": (3, 224, 224),
            "first_conv": "features.0",
            "classifier": "classifier.6",
        },
        "smallcnn": {"input_size": (3, 224, 224), "first_conv": "features.0", "classifier": "head"},
    }
)


class AlexNet(torchvision.models.AlexNet):  # type: ignore[misc]  # torchvision has no types
    """torchvision's AlexNet, ungrouped (Krizhevsky, 2014), with adaptive pooling to 6 x 6.

    With `num_classes=0`, the output is that of fc7, (N, 4096), as in timm.
    """

    num_features = 4096

    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        self.num_classes = num_classes
        if num_classes != 1000:
            self.classifier[6] = _last_layer(self.num_features, num_classes)


class SmallCNN(nn.Module):
    """Two convolutions and four fully connected layers, the third with 24 units.

    Re-implementation after You et al., Robust image sentiment analysis using progressively trained
    and domain transferred deep networks (AAAI 2015), without their training. Filters, strides and
    units are as described by later work. Our choices are the padding, the pooling after the second
    convolution, a ReLU after every hidden layer, and the adaptive pooling, which changes nothing at
    224 pixels.
    """

    num_features = 24

    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.features = nn.Sequential(
            *(nn.Conv2d(3, 96, 11, stride=4), nn.ReLU()),
            *(nn.LocalResponseNorm(5), nn.MaxPool2d(3, stride=2)),
            *(nn.Conv2d(96, 256, 5, stride=2, padding=2), nn.ReLU()),
            *(nn.LocalResponseNorm(5), nn.MaxPool2d(3, stride=2)),
        )
        self.classifier = nn.Sequential(
            *(nn.AdaptiveAvgPool2d(6), nn.Flatten()),
            *(nn.Linear(256 * 6 * 6, 1024), nn.ReLU()),
            *(nn.Linear(1024, 1024), nn.ReLU()),
            *(nn.Linear(1024, self.num_features), nn.ReLU()),
        )
        self.head = _last_layer(self.num_features, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of `images` (N, 3, H, W); the 24 units if there are no classes."""
        logits: Tensor = self.head(self.classifier(self.features(images)))
        return logits


def _last_layer(width: int, num_classes: int) -> nn.Module:
    return nn.Linear(width, num_classes) if num_classes else nn.Identity()


@register_model
def alexnet(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Build `AlexNet`; its pretrained weights are torchvision's."""
    return build_model_with_cfg(
        AlexNet, "alexnet", pretrained, kwargs_filter=("in_chans",), **kwargs
    )


@register_model
def smallcnn(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Build `SmallCNN` with random weights; as there are no others, `pretrained` has no effect."""
    return build_model_with_cfg(SmallCNN, "smallcnn", False, kwargs_filter=("in_chans",), **kwargs)
