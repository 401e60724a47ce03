"""Available models: those whose weights are on this machine; nothing is downloaded."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mdan_zoo.errors import ManifestError, WeightsUnavailableError
from mdan_zoo.images.load import ImageOptions
from mdan_zoo.inference.predictor import Predictor
from mdan_zoo.weights import fetch
from mdan_zoo.weights.manifest import ManifestEntry, load_manifest
from mdan_zoo.zoo.configs import DEFAULT_MODEL, SYSTEMS
from mdan_zoo.zoo.factory import get_config, get_model_hierarchy, list_models

MAX_BYTES = 20_000_000
"""Largest image file; those of most cameras are smaller."""

MAX_PIXELS = 64_000_000
"""Largest image; reading one of this size takes about 200 MB of memory."""


@dataclass(frozen=True)
class ListedModel:
    """A model and its availability; `weights` is the checkpoint on this machine, or None."""

    name: str
    dataset: str
    classes: str  # per level, such as "2/4"
    status: str  # "ready", or why it is not available and what to do
    weights: Path | None


def find_models() -> list[ListedModel]:
    """Return all models, starting with those on this machine, of which there must be one."""
    manifest = load_manifest()
    models = [
        _listed(name, manifest.get(name))
        for name in list_models()
        if name in manifest or name not in SYSTEMS
    ]
    if all(model.weights is None for model in models):
        raise WeightsUnavailableError(
            "no model has its weights on this machine: run mdan-zoo download NAME first; "
            "mdan-zoo list --pretrained shows the names"
        )
    return sorted(models, key=lambda model: model.weights is None)


def choose_default(models: Iterable[ListedModel]) -> str:
    """Return the name of the initially selected model: the default one if available."""
    names = [model.name for model in models if model.weights is not None]
    return DEFAULT_MODEL if DEFAULT_MODEL in names else names[0]


def _listed(name: str, entry: ManifestEntry | None) -> ListedModel:
    try:
        sizes = "/".join(map(str, get_model_hierarchy(name).sizes))
    except ManifestError as error:  # other models remain usable
        return ListedModel(name, "", "", str(error), None)
    weights = fetch.find_local(entry) if entry is not None and entry.released else None
    if weights is not None:
        status = "ready"
    elif entry is None:
        status = "no entry in the weights manifest"
    elif entry.released:
        status = f"not downloaded: mdan-zoo download {name}"
    else:
        status = f"no released weights: {entry.reason}"
    return ListedModel(name, get_config(name).dataset, sizes, status, weights)


@functools.lru_cache(maxsize=3)  # limits the memory of the server
def load_predictor(name: str) -> Predictor:
    """Return the predictor of a model whose released weights are on this machine.

    Unlike `Predictor(name)`, it raises an error instead of downloading missing or damaged weights.
    """
    entry = load_manifest()[name]
    weights = fetch.find_local(entry)
    if weights is None:
        raise WeightsUnavailableError(
            f"the weights of {name} are no longer here: run mdan-zoo download {name}"
        )
    fetch.verify_file(weights, entry)
    options = ImageOptions(max_pixels=MAX_PIXELS, max_bytes=MAX_BYTES)
    return Predictor(name, image_options=options)
