"""Architecture registry: the network classes and their options by name. Imports no torch.

    @register_architecture("resnet_sentiment", options=ResNetSentimentOptions)
    class ResNetSentiment(EmotionModel): ...

The class is then built for every `ModelConfig` with `architecture="resnet_sentiment"`. Built-in
architectures are imported when their class is first needed.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from mdan_zoo.errors import InputError, UnknownNameError, did_you_mean
from mdan_zoo.models.options import (
    ArchitectureOptions,
    CNNRNNOptions,
    FlatOptions,
    FPNOptions,
    IntensityOptions,
    MDANOptions,
    PDANetOptions,
    ProbeOptions,
    WSCNetOptions,
)

if TYPE_CHECKING:
    from mdan_zoo.models.base import EmotionModel

    Network = TypeVar("Network", bound=type[EmotionModel])

_PATHS = {
    "mdan": "mdan_zoo.models.mdan.network.MDAN",
    "flat": "mdan_zoo.models.flat.FlatClassifier",
    "fpn": "mdan_zoo.models.fpn.FPNClassifier",
    "cnnrnn": "mdan_zoo.models.cnnrnn.CNNRNN",
    "intensity": "mdan_zoo.models.intensity.IntensityNetwork",
    "wscnet": "mdan_zoo.models.wscnet.WSCNet",
    "pdanet": "mdan_zoo.models.pdanet.PDANet",
    "probe": "mdan_zoo.models.probe.Probe",
}
"""Module and name of each class; a class that is reloaded is another object of the same name."""

_OPTIONS: dict[str, type[ArchitectureOptions]] = {
    "mdan": MDANOptions,
    "flat": FlatOptions,
    "fpn": FPNOptions,
    "cnnrnn": CNNRNNOptions,
    "intensity": IntensityOptions,
    "wscnet": WSCNetOptions,
    "pdanet": PDANetOptions,
    "probe": ProbeOptions,
}
_CLASSES: dict[str, type[EmotionModel]] = {}


def register_architecture(
    name: str, *, options: type[ArchitectureOptions] = ArchitectureOptions
) -> Callable[[Network], Network]:
    """Return a class decorator that registers a network under a name.

    Args:
        name: The value of `ModelConfig.architecture`.
        options: The frozen dataclass of the network's options, which all need a default.

    Raises:
        InputError: Another class is registered under that name.
    """

    def register(network: Network) -> Network:
        path = f"{network.__module__}.{network.__qualname__}"
        if _PATHS.setdefault(name, path) != path:
            raise InputError(f"the architecture {name!r} is already registered")
        network.architecture = name
        _OPTIONS[name] = options
        _CLASSES[name] = network
        return network

    return register


def get_architecture(name: str) -> type[EmotionModel]:
    """Return the class of an architecture.

    Raises:
        UnknownNameError: No architecture has that name; suggests the nearest names.
    """
    get_options_class(name)
    if name not in _CLASSES:
        importlib.import_module(_PATHS[name].rpartition(".")[0])
    return _CLASSES[name]


def get_options_class(name: str) -> type[ArchitectureOptions]:
    """Return the class of an architecture's options; errors as in `get_architecture`."""
    if not isinstance(name, str) or name not in _OPTIONS:
        raise UnknownNameError(
            f"there is no architecture {name!r}; {did_you_mean(name, list_architectures())}"
        )
    return _OPTIONS[name]


def list_architectures() -> list[str]:
    """Return the names of all architectures, sorted."""
    return sorted(_OPTIONS)
