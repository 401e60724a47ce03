"""What defines a model: frozen dataclasses that can be written down and read back. No torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mdan_zoo.errors import InputError
from mdan_zoo.models.options import STRIDE, MDANOptions, is_number

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

MAX_RESIZE = 4096
"""Pixels of the shorter side; more would make every picture larger than cameras do."""


@dataclass(frozen=True)
class InputSpec:
    """How a picture becomes the network's input. It belongs to the weights.

    Attributes:
        resize: The shorter side is resized to this many pixels, the aspect is kept. At most
            `MAX_RESIZE`.
        crop: Side of the centred square that is then cut out, in pixels; a multiple of 32.
        mean: Subtracted from each channel (red, green, blue), on a scale of 0 to 1.
        std: Each channel is then divided by this.
        interpolation: "bilinear" or "bicubic", both antialiased.
    """

    resize: int = 512
    crop: int = 448
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"

    def __post_init__(self) -> None:
        for name, values in (("mean", self.mean), ("std", self.std)):
            three = isinstance(values, (tuple, list)) and len(values) == 3
            if not three or not all(map(is_number, values)):
                raise InputError(f"{name} must be three finite numbers, not {values!r}")
        if min(self.std) <= 0:
            raise InputError(f"std must be above 0, not {self.std}")
        if type(self.crop) is not int or self.crop < STRIDE or self.crop % STRIDE:
            raise InputError(f"crop must be a multiple of {STRIDE}, not {self.crop!r}")
        if type(self.resize) is not int or not self.crop <= self.resize <= MAX_RESIZE:
            raise InputError(
                f"resize must be a number of pixels from the crop of {self.crop} to {MAX_RESIZE}, "
                f"not {self.resize!r}"
            )
        if self.interpolation not in ("bilinear", "bicubic"):
            raise InputError(
                f"interpolation must be 'bilinear' or 'bicubic', not {self.interpolation!r}"
            )


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
        input: How a picture becomes the network's input.
    """

    name: str
    hierarchy: str
    dataset: str
    backbone: str = "resnet101"
    architecture: Literal["mdan", "flat"] = "mdan"
    options: MDANOptions = MDANOptions()  # noqa: RUF009 - frozen
    input: InputSpec = InputSpec()

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
