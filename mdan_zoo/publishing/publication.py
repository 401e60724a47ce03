"""Publications: a verified checkpoint under a name, with licences, command and metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mdan_zoo.datasets.registry import OWN_IMAGES
from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.inference.verification import WeightFile
from mdan_zoo.weights.hub_api import WEIGHTS_FILE
from mdan_zoo.weights.manifest import Licences
from mdan_zoo.zoo.configs import REGISTERED


@dataclass(frozen=True)
class Publication:
    """A verified checkpoint under a name, with licences, training command and metrics.

    The metrics are as in the manifest: "protocol" says how they were measured, each of "rows" holds
    numbers by name; None if nothing was measured. `base_model` is the Hugging Face repository of
    the weights that the training started from, which the backbone's name does not determine.
    """

    name: str
    weights: WeightFile
    licences: Licences
    command: str
    metrics: Mapping[str, Any] | None = None
    base_model: str = ""

    @property
    def derived_from(self) -> str:
        """The registered model whose config the weights carry under another name, or ""."""
        origin = self.weights.config.name
        return origin if origin != self.name and origin in REGISTERED else ""

    @property
    def dataset(self) -> str:
        """The dataset of the labels; "" for custom images or a custom hierarchy."""
        config = self.weights.config
        custom = config.name in REGISTERED and self.weights.hierarchy != get_hierarchy(
            REGISTERED[config.name].hierarchy
        )
        return "" if custom or config.dataset in OWN_IMAGES else config.dataset

    def entry(self, source: Mapping[str, str], file: str = WEIGHTS_FILE) -> dict[str, Any]:
        """Return the manifest entry for the checkpoint `file` at `source`."""
        metrics = {} if self.metrics is None else {"metrics": dict(self.metrics)}
        return {
            "status": "released",
            "licences": asdict(self.licences),
            "command": self.command,
            "file": file,
            "sources": [dict(source)],
            **self.weights.to_dict(),
            **metrics,
        }
