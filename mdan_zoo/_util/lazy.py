"""Lazy exports: a package's public names, imported at their first use (PEP 562).

    __getattr__, __dir__, __all__ = lazy_exports(__name__, {"Predictor": "inference.predictor"})

Importing such a package is quick and loads no torch.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def lazy_exports(
    package: str, modules: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return `__getattr__`, `__dir__` and `__all__` of a package with the given `__name__`.

    `modules` maps each public name to the module that defines it, relative to the package.
    """

    def __getattr__(name: str) -> Any:  # noqa: N807 - what the interpreter looks for
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{package}.{modules[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    def __dir__() -> list[str]:  # noqa: N807
        return sorted({*vars(sys.modules[package]), *modules})

    return __getattr__, __dir__, list(modules)
