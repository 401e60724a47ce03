"""What defines a model: frozen dataclasses that can be written down and read back. No torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mdan_zoo.errors import InputError
from mdan_zoo.images.input_spec import InputSpec
from mdan_zoo.models.mdan.options import MDANOptions


@dataclass(frozen=True)
class ModelConfig:
    """One model of the zoo.

    Attributes:
        name: The model's name.
        hierarchy: Name of its emotion tree; see `mdan_zoo.get_hierarchy`.
        dataset: The data set whose labels it learns.
        backbone: Name of a timm model with maps at strides 4, 8, 16 and 32.
        architecture: "mdan", or "flat" for the backbone with one linear classifier.
        options: How the MDAN is built; a flat network only takes the dropout.
        input: How an image becomes the network's input.
    """

    name: str
    hierarchy: str
    dataset: str
    backbone: str = "resnet101"
    architecture: Literal["mdan", "flat"] = "mdan"
    options: MDANOptions = MDANOptions()  # noqa: RUF009 - frozen
    input: InputSpec = InputSpec()  # noqa: RUF009 - frozen

    def __post_init__(self) -> None:
        texts = (self.name, self.hierarchy, self.dataset, self.backbone)
        if not all(isinstance(text, str) for text in texts):
            raise InputError(f"name, hierarchy, dataset and backbone must be texts, not {texts}")
        if self.architecture not in ("mdan", "flat"):
            raise InputError(f"architecture must be 'mdan' or 'flat', not {self.architecture!r}")

    def to_dict(self) -> dict[str, Any]:
        """Return the config as plain dicts, lists, strings and numbers."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelConfig:
        """Read what `to_dict` wrote.

        Raises:
            InputError: A field is missing, unknown or has an impossible value.
        """
        try:
            fields = dict(values)
            fields["options"] = MDANOptions(**_with_tuples(fields["options"]))
            fields["input"] = InputSpec(**_with_tuples(fields["input"]))
            return cls(**fields)
        except (TypeError, KeyError, AttributeError) as error:
            raise InputError(f"not a model config: {error}") from error


def _with_tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
