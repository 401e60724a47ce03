"""Initial backbone weights: safetensors, PyTorch state dicts and installed packages."""

from __future__ import annotations

import importlib.metadata
import io
import os
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from mdan_zoo.backbones.pyramid import classifier_state
from mdan_zoo.errors import CheckpointError, InputError
from mdan_zoo.weights.checkpoint import check_tensors, read_tensors
from mdan_zoo.weights.contents import read_contents

_PICKLED = (".pth", ".pt", ".bin")
_SUFFIXES = (".safetensors", *_PICKLED)


def load_backbone_weights(backbone: nn.Module, name: str, source: str | os.PathLike[str]) -> None:
    """Load the weights of a timm model into its feature pyramid.

    The tensors have timm's names, or those of another implementation: then they are matched by
    their order, provided that number and shapes agree with timm's whole model; a convolution of
    timm's may be a linear layer in the file. Tensors that the pyramid does not have, such as the
    ImageNet classifier, are ignored.

    Args:
        backbone: Result of `build_backbone`.
        name: Its name in timm.
        source: A safetensors file, a state dict saved by `torch.save`, or the name of an installed
            package that contains one such file.

    Raises:
        CheckpointError: The file is damaged, contains other objects than tensors, or belongs to
            another backbone.
        InputError: The source is neither a file nor such a package.
    """
    path = find_backbone_file(source)
    tensors = _read_state_dict(path) if path.suffix in _PICKLED else read_tensors(path)
    state = backbone.state_dict()
    # BatchNorm's batch count does not affect the output, and converted files lack it.
    expected = {key: v for key, v in state.items() if not key.endswith("num_batches_tracked")}
    # Wrappers of timm's models put their modules under this name.
    names = {key: key if key in tensors else key.removeprefix("backbone.") for key in expected}
    if not set(names.values()) <= tensors.keys():
        tensors = _renamed(tensors, classifier_state(name)) or tensors
    found = {key: tensors[given] for key, given in names.items() if given in tensors}
    check_tensors(path, found, expected)
    backbone.load_state_dict({**state, **found}, strict=True)


def find_backbone_file(source: str | os.PathLike[str]) -> Path:
    """Return a file, or the checkpoint of an installed package.

    Raises:
        InputError: The source is neither a file nor a package with one checkpoint.
    """
    path = Path(source)
    if path.is_file() or path.suffix in _SUFFIXES:
        return path
    try:
        files = importlib.metadata.files(os.fspath(source)) or []
    except (importlib.metadata.PackageNotFoundError, ValueError) as error:
        raise InputError(
            f"backbone weights must be a {', '.join(_SUFFIXES)} file or the name of an installed "
            f"package, not {os.fspath(source)!r}"
        ) from error
    found = [Path(str(file.locate())) for file in files if file.suffix in _SUFFIXES]
    if len(found) != 1:
        raise InputError(
            f"the package {source} contains {len(found)} checkpoints "
            f"({', '.join(_SUFFIXES)}), not one"
        )
    return found[0]


def _read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a state dict without running code that the file may contain."""
    data = io.BytesIO(read_contents(path).data)
    try:
        state = torch.load(data, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} contains other objects than tensors, which could run code when loaded; save "
            "the state dict of the model with safetensors instead"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} is damaged, or not a PyTorch file: {error}") from error
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise CheckpointError(f"{path} is not a state dict: it contains {type(state).__name__}")
    return dict(state)


def _renamed(tensors: Mapping[str, Tensor], model: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under the names of a model; nothing unless all shapes agree in order."""
    if len(tensors) != len(model):
        return {}
    pairs = list(zip(tensors.values(), model.values(), strict=True))
    for given, own in pairs:
        linear = own.dim() == 4 and given.shape == own.flatten(1).shape
        if given.shape != own.shape and not linear:
            return {}
    return {name: given.reshape(own.shape) for name, (given, own) in zip(model, pairs, strict=True)}
