"""Models with trained weights for visual emotion analysis: which emotion does a picture evoke?

    import mdan_zoo
    mdan_zoo.predict("photo.jpg")

The public names are imported when they are first used, so that `import mdan_zoo` is quick and
does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "predict": "predictor",
    "Predictor": "predictor",
    "Prediction": "prediction",
    "explain": "explanation",
    "Explanation": "explanation",
    "create_model": "zoo",
    "from_pretrained": "pretrained",
    "get_config": "zoo",
    "list_models": "zoo",
    "ModelConfig": "config",
    "Hierarchy": "hierarchy",
    "get_hierarchy": "hierarchies",
    "list_hierarchies": "hierarchies",
    "ImageOptions": "images",
    "load_image": "images",
    "MdanZooError": "errors",
}

__all__ = ["__version__", *_HOMES]

if TYPE_CHECKING:
    from mdan_zoo.config import ModelConfig as ModelConfig
    from mdan_zoo.errors import MdanZooError as MdanZooError
    from mdan_zoo.explanation import Explanation as Explanation
    from mdan_zoo.explanation import explain as explain
    from mdan_zoo.hierarchies import get_hierarchy as get_hierarchy
    from mdan_zoo.hierarchies import list_hierarchies as list_hierarchies
    from mdan_zoo.hierarchy import Hierarchy as Hierarchy
    from mdan_zoo.images import ImageOptions as ImageOptions
    from mdan_zoo.images import load_image as load_image
    from mdan_zoo.prediction import Prediction as Prediction
    from mdan_zoo.predictor import Predictor as Predictor
    from mdan_zoo.predictor import predict as predict
    from mdan_zoo.pretrained import from_pretrained as from_pretrained
    from mdan_zoo.zoo import create_model as create_model
    from mdan_zoo.zoo import get_config as get_config
    from mdan_zoo.zoo import list_models as list_models


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mdan_zoo' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"mdan_zoo.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
