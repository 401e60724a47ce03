"""Any timm model as a pyramid of four maps C2..C5."""

from __future__ import annotations

from typing import Any

import timm
import torch
from torch import Tensor, nn

from mdan_zoo.errors import InputError, UnknownNameError, did_you_mean

STRIDES = (4, 8, 16, 32)
"""Strides of C2, C3, C4 and C5."""


class ChannelsFirst(nn.Module):
    """Gives the maps of a channels-last backbone (Swin, for one) as (N, C, H, W)."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """Return C2..C5 of `pictures` (N, 3, H, W)."""
        return [feature_map.permute(0, 3, 1, 2) for feature_map in self.backbone(pictures)]


def build_backbone(name: str) -> tuple[nn.Module, tuple[int, int, int, int]]:
    """Build a timm model, with random weights, as a four-stage pyramid.

    Args:
        name: Name of a timm model, such as "resnet101" or "mobilenetv2_100".

    Returns:
        The module, which maps (N, 3, H, W) to [C2, C3, C4, C5], and the channels of the four.

    Raises:
        UnknownNameError: timm knows no such model.
        InputError: The model has no maps at strides 4, 8, 16 and 32.
    """
    if not timm.is_model(name):
        raise UnknownNameError(
            f"timm {timm.__version__} has no backbone {name!r}; "
            + did_you_mean(name, timm.list_models())
        )
    indices = _stage_indices(name)
    backbone: Any = timm.create_model(
        name, pretrained=False, features_only=True, out_indices=indices
    )
    c2, c3, c4, c5 = backbone.feature_info.channels()
    if str(getattr(backbone, "output_fmt", "NCHW")).endswith("NHWC"):
        backbone = ChannelsFirst(backbone)
    return backbone, (c2, c3, c4, c5)


def _stage_indices(name: str) -> tuple[int, ...]:
    """Return which of the model's feature maps have the strides that MDAN reads."""
    try:
        with torch.device("meta"):  # shapes only: no memory, no time
            shapes: Any = timm.create_model(name, pretrained=False, features_only=True)
            reductions = [stage["reduction"] for stage in shapes.feature_info.info]
    except (RuntimeError, AttributeError, TypeError, AssertionError) as error:
        raise InputError(
            f"backbone {name!r} gives no feature maps ({error}); MDAN needs a timm model with "
            "maps at strides 4, 8, 16 and 32, such as resnet101, convnext_tiny or mobilenetv2_100"
        ) from error
    if not set(STRIDES) <= set(reductions):
        raise InputError(
            f"backbone {name!r} has maps at strides {', '.join(map(str, reductions))}; MDAN needs "
            "4, 8, 16 and 32, as resnet101, convnext_tiny or mobilenetv2_100 have"
        )
    # Of several maps at one stride the deepest is the last convolution of that stage.
    return tuple(len(reductions) - 1 - reductions[::-1].index(stride) for stride in STRIDES)


def last_stage(backbone: nn.Module) -> nn.Module:
    """Return the part of a backbone that turns C4 into C5, sharing its parameters.

    With everything before it frozen, C2..C4 of a picture are computed once and only this part is
    run, and trained, again and again.

    Args:
        backbone: What `build_backbone` gave.

    Raises:
        InputError: The backbone is not a chain of modules, so that it cannot be cut there.
    """
    info: Any = getattr(backbone, "feature_info", None)
    names = info.module_name()[-2:] if info is not None else []
    for mark in (".", "_"):  # timm flattens some backbones: stages.2 becomes stages_2
        before, until = (name.replace(".", mark) for name in names) if names else ("", "")
        parent, _, before = before.rpartition(".")
        children = _children(backbone, parent)
        if before in children and until.removeprefix(f"{parent}.") in children:
            order = list(children)
            start, stop = order.index(before) + 1, order.index(until.removeprefix(f"{parent}.")) + 1
            return nn.Sequential(*list(children.values())[start:stop])
    raise InputError(f"{type(backbone).__name__} cannot be cut between C4 and C5; train it frozen")


def _children(module: nn.Module, name: str) -> dict[str, nn.Module]:
    """Return the children of a submodule by name; none where there is no such submodule."""
    for part in filter(None, name.split(".")):
        found = dict(module.named_children()).get(part)
        if found is None:
            return {}
        module = found
    return dict(module.named_children())
