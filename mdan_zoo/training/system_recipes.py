"""Recipes of the systems to compare MDAN with: rules instead of files. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.zoo.configs import SYSTEMS

_OF_MDAN = ("overall_weight", "local_weight", "global_weight", "temperature")
_RATE = ("backbone_lr",)
_CACHED = ("frozen_stages", "cached_views", "min_crop_area")


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
        values["backbone_lr"] = changes.get("lr", values["lr"])
    if system == "probe":
        values |= dict(zip(_CACHED, (4, 2, 1.0), strict=True))
    if system == "curriculum" and not {**values, **changes}.get("init"):
        values["stages"] = ",".join(get_hierarchy(SYSTEMS[model].hierarchy).level_names)
    return {**values, "model": model}


def own_fields(model: str) -> tuple[str, ...]:
    """Return the recipe fields of a model that another model compared with it does not share."""
    system = model.partition("_")[0] if model in SYSTEMS else ""
    return ("init", "stages", *_OF_MDAN, *{"smallcnn": _RATE, "probe": _CACHED}.get(system, ()))
