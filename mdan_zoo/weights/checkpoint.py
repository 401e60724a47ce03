"""Checkpoints: safetensors files whose header describes their model. Always loaded strictly.

A checkpoint contains the config and the hierarchy of its model, which determine its classes and
preprocessing. Nothing is unpickled. Each file is read once; see `mdan_zoo.weights.contents`.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from mdan_zoo._util.files import write_atomically
from mdan_zoo.backbones.pyramid import backbone_state
from mdan_zoo.errors import CheckpointError, InputError, MdanZooError
from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.models.base import EmotionModel
from mdan_zoo.models.config import ModelConfig
from mdan_zoo.models.registry import get_architecture
from mdan_zoo.weights.contents import FileContents, read_contents, read_metadata

FLOAT_TYPES = (torch.float32, torch.float16, torch.bfloat16)
_METADATA_KEY = "mdan_zoo"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint file that was read: its tensors, and the model that they belong to."""

    path: Path
    config: ModelConfig
    hierarchy: Hierarchy
    tensors: dict[str, Tensor] = field(repr=False)  # on the CPU, not compared with a network's
    size: int  # in bytes
    sha256: str


CheckpointSource: TypeAlias = "str | os.PathLike[str] | FileContents | Checkpoint"
"""A checkpoint by its path, by its contents, or already read."""


def save_checkpoint(
    path: str | os.PathLike[str],
    network: nn.Module,
    config: ModelConfig,
    *,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write a network of this zoo to a safetensors file, completely or not at all.

    Floating-point tensors are stored as `dtype`, one of `FLOAT_TYPES`; float16 halves the file.

    Raises:
        CheckpointError: `config` is not the network's, a value is not finite in `dtype`, or the
            network's values are not in memory.
        InputError: `network` or `dtype` is not a valid one, or no file can be written at the path.
    """
    plain = getattr(network, "_orig_mod", network)  # inside that of torch.compile
    if not isinstance(plain, EmotionModel):
        raise InputError(
            f"network must be an EmotionModel, not {type(plain).__name__}; give the network that "
            "is inside a wrapper"
        )
    if dtype not in FLOAT_TYPES:
        raise InputError(f"dtype must be one of {', '.join(map(str, FLOAT_TYPES))}, not {dtype!r}")
    state = plain.state_dict()
    if empty := [n for n, v in state.items() if not isinstance(v, Tensor) or v.is_meta]:
        raise CheckpointError(
            f"{path} is not written: {', '.join(empty[:3])} has no values here; the network is on "
            "the meta device, offloaded or quantised"
        )
    tensors = {
        # torch.compile adds a prefix to the names of the parts that it wraps.
        name.replace("_orig_mod.", ""): (
            (value.to(dtype) if value.is_floating_point() else value).cpu().contiguous()
        )
        for name, value in state.items()
    }
    broken = [n for n, v in tensors.items() if v.is_floating_point() and not v.isfinite().all()]
    if broken:
        raise CheckpointError(
            f"{path} is not written: {', '.join(broken[:3])} would hold values that are NaN or "
            f"infinite in {dtype}"
        )
    if problems := _differences(plain, tensors, config):
        raise CheckpointError(
            f"{path} is not written, the config is another network's: " + "; ".join(problems)
        )
    about = {"config": config.to_dict(), "hierarchy": plain.hierarchy.to_dict()}
    write_atomically(Path(path), save(tensors, {_METADATA_KEY: json.dumps(about)}))


def _differences(
    network: EmotionModel, tensors: Mapping[str, Tensor], config: ModelConfig
) -> list[str]:
    """Return how a network differs from its config. The hierarchy is not compared."""
    if not isinstance(network, get_architecture(config.architecture)):
        return [
            f"the network is of the class {type(network).__name__}, the config has the "
            f"architecture {config.architecture!r}"
        ]
    ours, theirs = dataclasses.asdict(network.options), dataclasses.asdict(config.options)
    problems = [
        f"the network has {name} {value!r}, the config {theirs[name]!r}"
        for name, value in ours.items()
        if value != theirs[name]
    ]
    prefix = "backbone."
    state = {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}
    if different := _tensor_problems(state, backbone_state(config.backbone)):
        problems.append(f"the network's backbone is not a {config.backbone}: {different[0]}")
    return problems


def open_checkpoint(source: CheckpointSource) -> Checkpoint:
    """Read a checkpoint, unless it is already read; errors of `read_identity`."""
    if isinstance(source, Checkpoint):
        return source
    contents = source if isinstance(source, FileContents) else read_contents(source)
    metadata = contents.metadata()
    tensors, size = _tensors(contents), len(contents.data)
    config, hierarchy = _identity(contents.path, metadata)
    return Checkpoint(contents.path, config, hierarchy, tensors, size, contents.sha256)


def read_identity(path: str | os.PathLike[str]) -> tuple[ModelConfig, Hierarchy]:
    """Return the config and the hierarchy of a checkpoint, of which only the header is read.

    `CheckpointError` if the file is missing, is not safetensors, or has no config.
    """
    return _identity(path, read_metadata(path))


def _identity(
    path: str | os.PathLike[str], metadata: Mapping[str, Any]
) -> tuple[ModelConfig, Hierarchy]:
    about = metadata.get(_METADATA_KEY)
    if about is None:
        raise CheckpointError(
            f"{path} does not say which model it belongs to; mdan_zoo reads checkpoints that "
            "`mdan-zoo train` or mdan_zoo.weights.checkpoint.save_checkpoint wrote"
        )
    try:
        content = json.loads(about)
        config = ModelConfig.from_dict(content["config"])
        return config, Hierarchy.from_dict(content["hierarchy"])
    except (ValueError, KeyError, TypeError, RecursionError, MdanZooError) as error:
        raise CheckpointError(
            f"{path}: its description of the model is malformed: {error}"
        ) from error


def load_checkpoint(network: nn.Module, source: CheckpointSource, config: ModelConfig) -> None:
    """Load a checkpoint into a network, strictly: every tensor must be there, fit and be finite.

    The network must have the checkpoint's hierarchy, and its config must equal the checkpoint's,
    except for mean and standard deviation of the input, which belong to the weights.

    Raises:
        CheckpointError: The file is damaged or belongs to another model, or the network is on the
            meta device; the network is unchanged.
    """
    checkpoint = open_checkpoint(source)
    path = checkpoint.path
    theirs, ours = _architecture(checkpoint.config), _architecture(config)
    differing = [
        f"{key} {theirs[key]!r}, not {ours[key]!r}" for key in ours if theirs[key] != ours[key]
    ]
    if differing:
        raise CheckpointError(f"{path} belongs to another model: it has " + "; ".join(differing))
    if checkpoint.hierarchy != network.hierarchy:
        raise CheckpointError(
            f"{path} was trained for the hierarchy {checkpoint.hierarchy!r}, the network has "
            f"{network.hierarchy!r}"
        )
    load_tensors(path, network, checkpoint.tensors)


def _architecture(config: ModelConfig) -> dict[str, Any]:
    values = config.to_dict()
    values["input"] = {k: v for k, v in values["input"].items() if k not in ("mean", "std")}
    return values


def read_tensors(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Return the tensors of any safetensors file; `CheckpointError` if it is damaged."""
    contents = read_contents(path)
    contents.metadata()  # limits the header before safetensors parses it
    return _tensors(contents)


def _tensors(contents: FileContents) -> dict[str, Tensor]:
    try:
        return load(contents.data)
    except SafetensorError as error:
        raise CheckpointError(
            f"{contents.path} is not a complete safetensors file: {error}"
        ) from error


def load_tensors(
    path: str | os.PathLike[str], network: nn.Module, tensors: dict[str, Tensor]
) -> None:
    """Load tensors into a network strictly; errors of `load_checkpoint`."""
    expected = network.state_dict()
    check_tensors(path, tensors, expected)
    if empty := [name for name, value in expected.items() if value.is_meta]:
        raise CheckpointError(
            f"{path} cannot be loaded into a network on the meta device ({empty[0]}, ...), which "
            "holds no values: create it outside torch.device('meta'), or allocate its memory with "
            ".to_empty(device='cpu')"
        )
    network.load_state_dict(tensors, strict=True)


def check_tensors(
    path: str | os.PathLike[str], found: dict[str, Tensor], expected: dict[str, Tensor]
) -> None:
    """Raise `CheckpointError` unless names, shapes and types agree and every value is finite."""
    if problems := _tensor_problems(found, expected):
        shown = "; ".join(sorted(problems)[:3])
        more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise CheckpointError(f"{path} does not fit the network: {shown}{more}")


def _tensor_problems(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    """Return what keeps tensors from being loaded, as the ends of sentences."""
    problems = [f"lacks {name}" for name in expected if name not in found]
    problems += [
        f"has {name}, which the network does not" for name in found if name not in expected
    ]
    for name in expected.keys() & found.keys():
        theirs, ours = found[name], expected[name]
        if theirs.shape != ours.shape:
            problems.append(f"{name} has shape {tuple(theirs.shape)}, not {tuple(ours.shape)}")
        elif ours.is_floating_point() and theirs.dtype not in FLOAT_TYPES:
            problems.append(f"{name} is {theirs.dtype}, not float32, float16 or bfloat16")
        elif not ours.is_floating_point() and theirs.dtype != ours.dtype:
            problems.append(f"{name} is {theirs.dtype}, not {ours.dtype}")
        elif theirs.is_floating_point() and not theirs.isfinite().all():
            problems.append(f"{name} has values that are NaN or infinite")
    return problems
