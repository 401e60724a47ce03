"""Networks as plain `torch.nn.Module`s, independent of files, model names and downloads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mdan_zoo._util.lazy import lazy_exports

_MODULES = {
    "ArchitectureOptions": "options",
    "EmotionModel": "base",
    "EmotionOutput": "base",
    "ModelConfig": "config",
    "get_architecture": "registry",
    "list_architectures": "registry",
    "register_architecture": "registry",
}

__getattr__, __dir__, __all__ = lazy_exports(__name__, _MODULES)

if TYPE_CHECKING:
    from mdan_zoo.models.base import EmotionModel as EmotionModel
    from mdan_zoo.models.base import EmotionOutput as EmotionOutput
    from mdan_zoo.models.config import ModelConfig as ModelConfig
    from mdan_zoo.models.options import ArchitectureOptions as ArchitectureOptions
    from mdan_zoo.models.registry import get_architecture as get_architecture
    from mdan_zoo.models.registry import list_architectures as list_architectures
    from mdan_zoo.models.registry import register_architecture as register_architecture
