"""Entry points of torch.hub: one function per model, and `predictor`.

    model = torch.hub.load("OWNER/mdan-zoo", "mdan_oasis4", pretrained=True, trust_repo=True)

The functions named after a model accept `pretrained` and the other arguments of
`mdan_zoo.create_model`: checkpoint, hierarchy and backbone. torch.hub checks `dependencies` after
it has run this file, and lists every public callable in it as an entry point. The model configs
need none of the dependencies; everything else is imported inside the functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mdan_zoo.zoo.configs import REGISTERED

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from mdan_zoo.inference.predictor import Predictor
    from mdan_zoo.models.base import EmotionModel
    from mdan_zoo.models.config import ModelConfig

dependencies = [
    "torch",
    "torchvision",
    "timm",
    "safetensors",
    "PIL",
    "requests",
    "huggingface_hub",
]


def predictor(name: str | None = None, **options: Any) -> Predictor:
    """Return a model with its preprocessing, which predicts images.

    Args:
        name: A model with released weights; by default that of `mdan_zoo.predict`.
        **options: Further arguments of `mdan_zoo.Predictor`, such as device="cuda".
    """
    from mdan_zoo.inference.predictor import Predictor

    return Predictor(name, **options)


def _entry_point(config: ModelConfig) -> Callable[..., EmotionModel]:
    """Return the function that creates a model."""

    def create(pretrained: bool = False, **options: Any) -> EmotionModel:
        from mdan_zoo.zoo.factory import create_model

        return create_model(config.name, pretrained=pretrained, **options)

    create.__name__ = create.__qualname__ = config.name
    create.__doc__ = f"""Create the {config.architecture} network for {config.dataset}.

    Backbone {config.backbone}, hierarchy {config.hierarchy}.

    Args:
        pretrained: Whether to load the released weights.
        **options: Further arguments of `mdan_zoo.create_model`.
    """
    return create


for _name, _config in REGISTERED.items():
    globals()[_name] = _entry_point(_config)
