"""The models as entry points of torch.hub.

    model = torch.hub.load("OWNER/mdan-zoo", "mdan_oasis4", pretrained=True, trust_repo=True)

Every function that is named after a model takes `pretrained` and the further arguments of
`mdan_zoo.create_model`: checkpoint, hierarchy and backbone. torch.hub checks `dependencies` after
it has run this file, and takes every callable in it for an entry point; so nothing is imported at
the top that might be missing or that might be called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from mdan_zoo.inference.predictor import Predictor
    from mdan_zoo.models import EmotionNetwork

dependencies = [
    "torch",
    "torchvision",
    "timm",
    "safetensors",
    "PIL",
    "requests",
    "huggingface_hub",
]


def mdan_webemo25(pretrained: bool = False, **options: Any) -> EmotionNetwork:
    """MDAN with ResNet-101 for WEBEmo: Parrott's tree of 2, 6 and 25 emotions."""
    return _create("mdan_webemo25", pretrained, options)


def mdan_emotion6(pretrained: bool = False, **options: Any) -> EmotionNetwork:
    """MDAN with ResNet-101 for Emotion-6: 2 polarities, 6 emotions."""
    return _create("mdan_emotion6", pretrained, options)


def mdan_fi8(pretrained: bool = False, **options: Any) -> EmotionNetwork:
    """MDAN with ResNet-101 for FI: 2 polarities, Mikels' 8 emotions."""
    return _create("mdan_fi8", pretrained, options)


def mdan_artphoto8(pretrained: bool = False, **options: Any) -> EmotionNetwork:
    """MDAN with ResNet-101 for ArtPhoto: 2 polarities, Mikels' 8 emotions."""
    return _create("mdan_artphoto8", pretrained, options)


def mdan_iaps8(pretrained: bool = False, **options: Any) -> EmotionNetwork:
    """MDAN with ResNet-101 for IAPSsubset: 2 polarities, Mikels' 8 emotions."""
    return _create("mdan_iaps8", pretrained, options)


def mdan_abstract8(pretrained: bool = False, **options: Any) -> EmotionNetwork:
    """MDAN with ResNet-101 for Abstract: 2 polarities, Mikels' 8 emotions."""
    return _create("mdan_abstract8", pretrained, options)


def mdan_emoset8(pretrained: bool = False, **options: Any) -> EmotionNetwork:
    """MDAN with ResNet-101 for EmoSet-118K: 2 polarities, Mikels' 8 emotions."""
    return _create("mdan_emoset8", pretrained, options)


def mdan_oasis4(pretrained: bool = False, **options: Any) -> EmotionNetwork:
    """MDAN with MobileNetV2 for OASIS: 2 polarities, 4 quadrants of valence and arousal."""
    return _create("mdan_oasis4", pretrained, options)


def flat_oasis4(pretrained: bool = False, **options: Any) -> EmotionNetwork:
    """MobileNetV2 with one linear classifier for OASIS: mdan_oasis4 without its top-down branch."""
    return _create("flat_oasis4", pretrained, options)


def predictor(name: str | None = None, **options: Any) -> Predictor:
    """A model with its preprocessing: images in, predictions out.

    Args:
        name: A model with released weights; by default the one whose weights are in the checkout.
        **options: Further arguments of `mdan_zoo.Predictor`, such as device="cuda".
    """
    from mdan_zoo.inference.predictor import Predictor

    return Predictor(name, **options)


def _create(name: str, pretrained: bool, options: dict[str, Any]) -> EmotionNetwork:
    from mdan_zoo.zoo.factory import create_model

    return create_model(name, pretrained=pretrained, **options)
