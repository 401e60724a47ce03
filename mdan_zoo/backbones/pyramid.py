"""Backbones: timm models that return four maps C2..C5, or only their pooled embedding."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import Any

import timm
import torch
from torch import Tensor, nn

import mdan_zoo.backbones.classic  # noqa: F401 - registers models with timm
from mdan_zoo.errors import (
    InputError,
    MdanZooError,
    UnknownNameError,
    WeightsUnavailableError,
    did_you_mean,
)
from mdan_zoo.images.input_spec import InputSpec

STRIDES = (4, 8, 16, 32)
"""Strides of C2, C3, C4 and C5."""

_WINDOWED = ("swin_transformer", "swin_transformer_v2", "swin_transformer_v2_cr")
"""Modules of timm whose models accept any size only if they are created for it."""

HEAD = ":head"
"""End of the name of a backbone whose C5 includes the head convolution of the timm model."""

EMBEDDING = ":embedding"
"""End of the name of a backbone that is a timm model up to its classifier, without maps."""

_PATCH_GRIDS = ("deit", "eva", "vision_transformer")
"""Modules of timm whose models resample their position embeddings with `dynamic_img_size`."""

_FITTING = "resnet101, convnext_tiny or mobilenetv2_100"
"""Backbones that error messages suggest."""


class ChannelsFirst(nn.Module):
    """Wrapper of a channels-last backbone, such as Swin, that returns maps (N, C, H, W)."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return C2..C5 of `images` (N, 3, H, W)."""
        return [feature_map.permute(0, 3, 1, 2) for feature_map in self.backbone(images)]


class WithHead(nn.Module):
    """Wrapper of a backbone whose last map goes through the head convolution of its timm model."""

    def __init__(self, backbone: nn.Module, conv_head: nn.Module, bn2: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.conv_head = conv_head
        self.bn2 = bn2

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return C2..C5 of `images` (N, 3, H, W)."""
        *maps, last = self.backbone(images)
        return [*maps, self.bn2(self.conv_head(last))]


class Embedding(nn.Module):
    """Wrapper of a timm model without its classifier, whose embedding takes the place of C5.

    Attributes:
        channels: Length of the embedding.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        model: Any = backbone
        self.channels: int = getattr(model, "head_hidden_size", None) or model.num_features

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return three empty tensors and the embedding (N, C, 1, 1) of `images` (N, 3, H, W)."""
        embedding: Tensor = self.backbone(images)
        empty = embedding.new_empty(0)
        return [empty, empty, empty, embedding[:, :, None, None]]


def build_backbone(
    name: str, size: int | None = None, *, pretrained: bool = False
) -> tuple[nn.Module, tuple[int, int, int, int]]:
    """Build a timm model as a four-stage pyramid, or up to its pooled embedding.

    Args:
        name: Name of a timm model, such as "resnet101" or "mobilenetv2_100". With ":head" after
            it, C5 includes the head convolution of the model, which EfficientNet and MobileNetV2
            have between their last stage and the pooling: 1,280 instead of 320 channels. With
            ":embedding" after it, the input of the classifier of the model takes the place of C5,
            as (N, C, 1, 1), and C2, C3 and C4 are empty. Any image model will do, such as a vision
            transformer, or "alexnet" and "vgg16", whose embedding is the output of fc7.
        size: Side in pixels of the square images that it must accept, since some models accept only
            one size. None skips the check.
        pretrained: Whether timm downloads its weights; otherwise they are random.

    Returns:
        The module, which maps (N, 3, H, W) to [C2, C3, C4, C5], and the channels of the four; 0
        are those of an empty map.

    Raises:
        UnknownNameError: timm has no such model.
        InputError: The model has no maps at strides 4, 8, 16 and 32, or does not accept the size.
    """
    maker = _maker(name)
    indices = _stage_indices(name, maker)
    if size is not None:
        _check_size(name, maker, size)
    backbone = _create(name, indices, pretrained=pretrained)
    if isinstance(backbone, Embedding):
        return backbone, (0, 0, 0, backbone.channels)
    c2, c3, c4, c5 = _feature_info(backbone).channels()
    if isinstance(backbone, WithHead):
        c5 = backbone.conv_head.out_channels
    return backbone, (c2, c3, c4, c5)


def pretrained_backbone(name: str, spec: InputSpec) -> tuple[nn.Module, InputSpec]:
    """Build a backbone with timm's pretrained weights, from the Hub or its cache.

    Returns:
        The backbone, and `spec` with the mean and standard deviation that its weights need.

    Raises:
        WeightsUnavailableError: The weights cannot be fetched.
        UnknownNameError, InputError: As in `build_backbone`.
    """
    try:
        backbone, _ = build_backbone(name, spec.crop, pretrained=True)
    except MdanZooError:
        raise
    except Exception as error:  # whatever timm, huggingface_hub and the network raise
        raise WeightsUnavailableError(
            f"the pretrained weights of {name} cannot be fetched ({error}); pass a safetensors "
            "file with --backbone-weights"
        ) from error
    return backbone, with_normalisation(spec, name)


def with_normalisation(spec: InputSpec, name: str) -> InputSpec:
    """Return `spec` with the mean and standard deviation of a timm model's pretrained weights."""
    _maker(name)
    cfg: Any = timm.get_pretrained_cfg(_plain(name))
    if cfg is None:  # timm has no weights of the model
        return spec
    return dataclasses.replace(spec, mean=tuple(cfg.mean), std=tuple(cfg.std))


def backbone_state(name: str) -> dict[str, Tensor]:
    """Return the state dict of a backbone on the meta device; errors as in `build_backbone`."""
    indices = _stage_indices(name, _maker(name))
    return dict(_create_shapes(name, indices).state_dict())


def classifier_state(name: str) -> dict[str, Tensor]:
    """Return the state dict of a whole timm model, with its classifier, on the meta device."""
    with torch.device("meta"):
        return dict(_maker(name)().state_dict())


def _plain(name: str) -> str:
    """Return the name of a backbone in timm."""
    return name.removesuffix(HEAD if name.endswith(HEAD) else EMBEDDING)


def _maker(name: str) -> Any:
    """Return the function that creates a model."""
    plain = _plain(name) if isinstance(name, str) else name
    if not isinstance(plain, str) or not timm.is_model(plain):
        raise UnknownNameError(
            f"timm {timm.__version__} has no backbone {plain!r}; "
            + did_you_mean(plain, timm.list_models())
        )
    return timm.models.model_entrypoint(plain)


def _create(
    name: str, indices: tuple[int, ...] | None = None, *, pretrained: bool = False
) -> nn.Module:
    """Create a backbone, with the maps of timm's `indices`, or all maps.

    Raises:
        InputError: The timm model has no head convolution, but the name says so.
    """
    plain = _plain(name)
    options: dict[str, Any] = {}
    if timm.models.is_model_in_modules(plain, _WINDOWED):
        options["strict_img_size"] = False  # else only its original size is accepted
    if name.endswith(EMBEDDING):
        return _create_embedding(plain, pretrained, options)
    if indices is not None:
        options["out_indices"] = indices
    features = timm.create_model(plain, features_only=True, pretrained=pretrained, **options)
    if plain != name:
        model: Any = timm.create_model(plain, pretrained=pretrained)
        if not hasattr(model, "conv_head") or not hasattr(model, "bn2"):
            raise InputError(
                f"backbone {plain!r} has no head convolution before its pooling; remove {HEAD!r}"
            )
        return WithHead(features, model.conv_head, model.bn2)
    last = str(getattr(features, "output_fmt", "NCHW")).endswith("NHWC")
    return ChannelsFirst(features) if last else features


def _create_embedding(plain: str, pretrained: bool, options: dict[str, Any]) -> Embedding:
    """Create a timm model without its classifier."""
    if timm.models.is_model_in_modules(plain, _PATCH_GRIDS):
        options["dynamic_img_size"] = True
    is_vgg = timm.models.is_model_in_modules(plain, ("vgg",))
    if is_vgg:
        options["drop_rate"] = 0.5  # after fc6 and fc7, as in torchvision
    model: Any = timm.create_model(plain, num_classes=0, pretrained=pretrained, **options)
    if is_vgg:  # fc6 reads 7 x 7 positions of larger images, too; timm slides it over the map
        model.features.append(nn.AdaptiveAvgPool2d(7))
    return Embedding(model)


def _feature_info(backbone: nn.Module) -> Any:
    """Return timm's description of the feature maps; None if there is none."""
    wrapped = isinstance(backbone, (WithHead, ChannelsFirst))
    return getattr(backbone.backbone if wrapped else backbone, "feature_info", None)


def _hint(name: str) -> str:
    return f". A classifier of the pooled embedding needs none: {_plain(name) + EMBEDDING!r}"


def _create_shapes(name: str, indices: tuple[int, ...] | None = None) -> nn.Module:
    """Create a model on the meta device, which takes no memory."""
    try:
        with torch.device("meta"):
            return _create(name, indices)
    except RuntimeError:  # before timm 1.0.22 many models read values during creation
        with torch.random.fork_rng(devices=[]):
            return _create(name, indices).to("meta")


def check_sizes(name: str, sizes: Iterable[int]) -> None:
    """Raise `InputError` unless a backbone accepts square images of all `sizes`."""
    for size in sizes:
        _check_size(name, _maker(name), size)


# Cached by the function that creates the model, not by its name, which may be registered again.
@functools.cache
def _stage_indices(name: str, maker: Callable[..., Any]) -> tuple[int, ...]:
    """Return the indices of the feature maps with strides 4, 8, 16 and 32; of embeddings, none."""
    if name.endswith(EMBEDDING):
        return ()
    try:
        stages = _feature_info(_create_shapes(name)).info
        reductions = [stage["reduction"] for stage in stages]
    except (RuntimeError, AttributeError, TypeError, AssertionError) as error:
        raise InputError(
            f"backbone {name!r} has no feature maps ({error}); MDAN needs a timm model with "
            f"maps at strides 4, 8, 16 and 32, such as {_FITTING}{_hint(name)}"
        ) from error
    if not set(STRIDES) <= set(reductions):
        raise InputError(
            f"backbone {name!r} has maps at strides {', '.join(map(str, reductions))}; MDAN needs "
            f"4, 8, 16 and 32, as {_FITTING} have{_hint(name)}"
        )
    # Of several maps at one stride the deepest is the last convolution of that stage.
    return tuple(len(reductions) - 1 - reductions[::-1].index(stride) for stride in STRIDES)


@functools.cache
def _check_size(name: str, maker: Callable[..., Any], size: int) -> None:
    """Raise `InputError` unless the maps of a square image have the sizes of the strides."""
    shapes = _create_shapes(name, _stage_indices(name, maker))
    try:
        with torch.device("meta"), torch.no_grad():
            maps = shapes.eval()(torch.empty(1, 3, size, size))
    except Exception as error:  # whatever timm's models raise
        cfg: Any = timm.get_pretrained_cfg(_plain(name))
        own = cfg.input_size[-1]
        reason = str(error) or type(error).__name__
        raise InputError(
            f"backbone {name!r} does not accept images of {size} x {size} pixels ({reason}); it "
            f"is made for {own} x {own}. Use a config with a crop that it accepts, or a backbone "
            f"that accepts every size, such as {_FITTING}"
        ) from error
    if isinstance(shapes, Embedding):
        return
    found = [" x ".join(map(str, feature_map.shape[2:])) for feature_map in maps]
    needed = [f"{size // stride} x {size // stride}" for stride in STRIDES]
    if found != needed:
        raise InputError(
            f"backbone {name!r} has maps of {', '.join(found)} for an image of "
            f"{size} x {size} pixels; MDAN needs {', '.join(needed)}, as {_FITTING} have"
        )


def stages_after(backbone: nn.Module, stages: int, last: int = 4) -> nn.Sequential:
    """Return the part of a backbone after its first `stages` maps, sharing its parameters.

    Args:
        backbone: Result of `build_backbone`.
        stages: 1 cuts after C2, 2 after C3, 3 after C4.
        last: 2 ends with C3, 3 with C4, 4 with C5.

    Raises:
        InputError: The backbone is not a chain of modules and cannot be cut there.
    """
    if isinstance(backbone, WithHead):
        inside = stages_after(backbone.backbone, stages, last)
        return nn.Sequential(inside, backbone.conv_head, backbone.bn2) if last == 4 else inside
    before, parent = _end_of_stage(backbone, stages)
    until, same = _end_of_stage(backbone, last)
    if parent is not same:
        raise _uncut(backbone, stages)
    children = list(parent.children())
    return nn.Sequential(*children[children.index(before) + 1 : children.index(until) + 1])


def leading_maps(backbone: nn.Module, images: Tensor, count: int) -> list[Tensor]:
    """Return the first `count` maps of images (N, 3, H, W), without computing later stages.

    Raises:
        InputError: `count` is below 4, and the backbone cannot be cut there.
    """
    if count == len(STRIDES):
        return list(backbone(images))
    if isinstance(backbone, WithHead):
        return leading_maps(backbone.backbone, images, count)
    maps: list[Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
        maps.append(output)
        if len(maps) == count:
            raise _StageReachedError

    ends = [_end_of_stage(backbone, stage)[0] for stage in range(1, count + 1)]
    hooks = [module.register_forward_hook(keep) for module in ends]
    try:
        backbone(images)
    except _StageReachedError:
        pass
    finally:
        for hook in hooks:
            hook.remove()
    return maps


class _StageReachedError(Exception):
    """Ends a forward pass after the last map that is needed."""


def _end_of_stage(backbone: nn.Module, stage: int) -> tuple[nn.Module, nn.Module]:
    """Return the module whose output is a map, 1 for C2 to 4 for C5, and its parent."""
    info = getattr(backbone, "feature_info", None)
    modules, names = dict(backbone.named_modules()), info.module_name() if info is not None else []
    for mark in (".", "_") if names else ():  # timm flattens some backbones: stages_2, not stages.2
        name = names[stage - 1].replace(".", mark)
        if name in modules:
            return modules[name], modules[name.rpartition(".")[0]]
    raise _uncut(backbone, stage)


def _uncut(backbone: nn.Module, stage: int) -> InputError:
    return InputError(
        f"{type(backbone).__name__} cannot be cut after its stage {stage}: freeze none (0) or all "
        "(4) of its stages"
    )
