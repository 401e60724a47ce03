"""Models with trained weights for visual emotion analysis: which emotion does an image evoke?

    import mdan_zoo
    mdan_zoo.predict("photo.jpg")

A custom hierarchy of emotions:

>>> import mdan_zoo
>>> nested = {"positive": ["joy", "awe"], "negative": ["fear"]}
>>> mdan_zoo.Hierarchy.from_nested(nested).path("awe")
('positive', 'awe')

The public names are imported when they are first used, so that `import mdan_zoo` is quick and
does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mdan_zoo._util.lazy import lazy_exports
from mdan_zoo._version import __version__ as __version__

_MODULES = {
    "predict": "inference.predictor",
    "Predictor": "inference.predictor",
    "Prediction": "inference.prediction",
    "explain": "inference.explanation",
    "Explanation": "inference.explanation",
    "create_model": "zoo.factory",
    "from_pretrained": "zoo.pretrained",
    "get_config": "zoo.factory",
    "list_models": "zoo.factory",
    "ModelConfig": "models.config",
    "Hierarchy": "hierarchy.tree",
    "get_hierarchy": "hierarchy.builtin",
    "list_hierarchies": "hierarchy.builtin",
    "ImageOptions": "images.load",
    "load_image": "images.load",
    "MdanZooError": "errors",
}

__getattr__, __dir__, __all__ = lazy_exports(__name__, _MODULES)
__all__ += ["__version__"]

if TYPE_CHECKING:
    from mdan_zoo.errors import MdanZooError as MdanZooError
    from mdan_zoo.hierarchy.builtin import get_hierarchy as get_hierarchy
    from mdan_zoo.hierarchy.builtin import list_hierarchies as list_hierarchies
    from mdan_zoo.hierarchy.tree import Hierarchy as Hierarchy
    from mdan_zoo.images.load import ImageOptions as ImageOptions
    from mdan_zoo.images.load import load_image as load_image
    from mdan_zoo.inference.explanation import Explanation as Explanation
    from mdan_zoo.inference.explanation import explain as explain
    from mdan_zoo.inference.prediction import Prediction as Prediction
    from mdan_zoo.inference.predictor import Predictor as Predictor
    from mdan_zoo.inference.predictor import predict as predict
    from mdan_zoo.models.config import ModelConfig as ModelConfig
    from mdan_zoo.zoo.factory import create_model as create_model
    from mdan_zoo.zoo.factory import get_config as get_config
    from mdan_zoo.zoo.factory import list_models as list_models
    from mdan_zoo.zoo.pretrained import from_pretrained as from_pretrained
