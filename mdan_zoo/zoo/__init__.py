"""The model zoo: model configs, `create_model`, `list_models` and `from_pretrained`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mdan_zoo._util.lazy import lazy_exports

_MODULES = {
    "DEFAULT_EXPLAINED_MODEL": "configs",
    "DEFAULT_MODEL": "configs",
    "MODELS": "configs",
    "build_network": "factory",
    "create_model": "factory",
    "find_pretrained": "pretrained",
    "from_pretrained": "pretrained",
    "get_config": "factory",
    "get_model_hierarchy": "factory",
    "list_models": "factory",
    "load_network": "factory",
    "released_weights": "factory",
}

__getattr__, __dir__, __all__ = lazy_exports(__name__, _MODULES)

if TYPE_CHECKING:
    from mdan_zoo.zoo.configs import DEFAULT_EXPLAINED_MODEL as DEFAULT_EXPLAINED_MODEL
    from mdan_zoo.zoo.configs import DEFAULT_MODEL as DEFAULT_MODEL
    from mdan_zoo.zoo.configs import MODELS as MODELS
    from mdan_zoo.zoo.factory import build_network as build_network
    from mdan_zoo.zoo.factory import create_model as create_model
    from mdan_zoo.zoo.factory import get_config as get_config
    from mdan_zoo.zoo.factory import get_model_hierarchy as get_model_hierarchy
    from mdan_zoo.zoo.factory import list_models as list_models
    from mdan_zoo.zoo.factory import load_network as load_network
    from mdan_zoo.zoo.factory import released_weights as released_weights
    from mdan_zoo.zoo.pretrained import find_pretrained as find_pretrained
    from mdan_zoo.zoo.pretrained import from_pretrained as from_pretrained
