"""Config and hierarchy of a manifest entry, so that models can be defined by a manifest alone.

Needs no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from mdan_zoo.errors import ManifestError
from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.models.config import ModelConfig
from mdan_zoo.weights.manifest import ManifestEntry

T = TypeVar("T")


def config_of(entry: ManifestEntry) -> ModelConfig:
    """Return the config of an entry's checkpoint, or raise `ManifestError`.

    Its `name` may differ from the entry's: weights that were fine-tuned from a registered model
    keep that model's name.
    """
    return _read(entry, "config", ModelConfig.from_dict)


def hierarchy_of(entry: ManifestEntry) -> Hierarchy:
    """Return the hierarchy of an entry's checkpoint, or raise `ManifestError`."""
    return _read(entry, "hierarchy", Hierarchy.from_dict)


def _read(entry: ManifestEntry, field: str, parse: Callable[[Any], T]) -> T:
    place, details = f"the manifest's entry of {entry.name}", entry.details or {}
    if field not in details:
        raise ManifestError(f"{place} has no {field!r}; `mdan-zoo publish` writes one")
    try:
        return parse(details[field])
    except ValueError as error:  # InputError and HierarchyError
        raise ManifestError(f"{place}: {error}") from error
