"""Recipes of the systems to compare MDAN with: rules instead of files. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.zoo.configs import SYSTEMS

_OF_MDAN = ("overall_weight", "local_weight", "global_weight", "temperature")


def system_values(
    model: str, mdan: Mapping[str, Any], changes: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the recipe fields of a system.

    Args:
        model: Name of the system.
        mdan: Fields of the MDAN that it is compared with. Where that starts from another model, the
            system starts from the same system on the other dataset.
        changes: Fields that the user changes.
    """
    values = {name: value for name, value in mdan.items() if name not in _OF_MDAN}
    if "init" in mdan:
        dataset, other = (mdan[name].removeprefix("mdan_") for name in ("model", "init"))
        values["init"] = model.replace(dataset, other)
    system = model.partition("_")[0]
    if system == "smallcnn":  # no layer is pretrained
        values["backbone_lr"] = values["lr"]
    if system == "probe":
        values |= {"frozen_stages": 4, "cached_views": 2, "min_crop_area": 1.0}
    if system == "curriculum" and not {**values, **changes}.get("init"):
        values["stages"] = ",".join(get_hierarchy(SYSTEMS[model].hierarchy).level_names)
    return {**values, "model": model}
