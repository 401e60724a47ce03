"""Config and hierarchy of a manifest entry, so that models can be defined by a manifest alone.

Needs no torch.
"""

from __future__ import annotations

from typing import Any

from mdan_zoo.errors import InputError, ManifestError
from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.models.config import ModelConfig
from mdan_zoo.weights.manifest import ManifestEntry


def config_of(entry: ManifestEntry) -> ModelConfig:
    """Return the config that an entry carries.

    It is the config of the checkpoint, whose `name` may differ from the entry's: weights that were
    fine-tuned from a registered model keep its name in their config.

    Raises:
        ManifestError: The entry has no config, or a malformed one.
    """
    try:
        return ModelConfig.from_dict(_detail(entry, "config"))
    except InputError as error:
        raise ManifestError(f"the manifest's entry of {entry.name}: {error}") from error


def hierarchy_of(entry: ManifestEntry) -> Hierarchy:
    """Return the hierarchy that an entry carries.

    Raises:
        ManifestError: The entry has no tree, or a malformed one.
    """
    try:
        return Hierarchy.from_dict(_detail(entry, "hierarchy"))
    except ValueError as error:  # HierarchyError is one
        raise ManifestError(f"the manifest's entry of {entry.name}: {error}") from error


def _detail(entry: ManifestEntry, field: str) -> Any:
    details = entry.details or {}
    if field not in details:
        raise ManifestError(
            f"the manifest's entry of {entry.name} has no {field!r}; `mdan-zoo publish` writes one"
        )
    return details[field]
