"""Model configs: frozen dataclasses that define a model and can be stored as JSON. No torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mdan_zoo.errors import InputError, UnknownNameError
from mdan_zoo.images.input_spec import InputSpec
from mdan_zoo.models.dimensions import Dimension
from mdan_zoo.models.options import ArchitectureOptions, with_tuples
from mdan_zoo.models.registry import get_options_class


@dataclass(frozen=True)
class ModelConfig:
    """Definition of a model.

    Attributes:
        name: Name of the model.
        hierarchy: Name of its emotion hierarchy; see `mdan_zoo.get_hierarchy`.
        dataset: The dataset whose labels it is trained on.
        backbone: Name of a timm model with feature maps at strides 4, 8, 16 and 32, or for some
            architectures of any timm model and ":embedding"; see `build_backbone`.
        architecture: Name of a registered architecture; see `mdan_zoo.models.registry`.
        options: Options of that architecture; by default its default options.
        input: How images are preprocessed.
        dimensions: Continuous outputs in addition to the classes.

    Raises:
        InputError: A field has the wrong type, or the options are those of another architecture or
            do not suit the size of the images.
        UnknownNameError: No architecture has that name.
    """

    name: str
    hierarchy: str
    dataset: str
    backbone: str = "resnet101"
    architecture: str = "mdan"
    options: ArchitectureOptions = None  # type: ignore[assignment]  # replaced in __post_init__
    input: InputSpec = InputSpec()  # noqa: RUF009 - frozen
    dimensions: tuple[Dimension, ...] = ()

    def __post_init__(self) -> None:
        texts = (self.name, self.hierarchy, self.dataset, self.backbone)
        if not all(isinstance(text, str) for text in texts):
            raise InputError(f"name, hierarchy, dataset and backbone must be strings, not {texts}")
        kind = get_options_class(self.architecture)
        if self.options is None:
            object.__setattr__(self, "options", kind())
        if not isinstance(self.options, kind):
            raise InputError(
                f"the options of architecture {self.architecture!r} must be {kind.__name__}, not "
                f"{self.options!r}"
            )
        self.options.check_crop(self.input.crop)

        names = [dimension.name for dimension in self.dimensions]
        if len(set(names)) < len(names):
            raise InputError(f"dimensions must have different names, not {', '.join(names)}")

    def to_dict(self) -> dict[str, Any]:
        """Return the config as plain dicts, tuples, strings and numbers.

        Fields that version 0.1 did not have are left out at their defaults, so that checkpoints
        without them stay the same.
        """
        values = dataclasses.asdict(self)
        if not self.dimensions:
            del values["dimensions"]
        if self.input.resize_mode == "crop":
            del values["input"]["resize_mode"]
        for name in self.options.added:
            if getattr(self.options, name) == getattr(type(self.options), name):
                del values["options"][name]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelConfig:
        """Create a config from the result of `to_dict`, also after a round trip through JSON.

        Raises:
            InputError: A field is missing, unknown or invalid.
        """
        try:
            kind = get_options_class(values.get("architecture", "mdan"))
            options = kind.from_dict(values["options"])
            spec = InputSpec(**with_tuples(values["input"]))
            dimensions = tuple(Dimension(**given) for given in values.get("dimensions", ()))
            parsed = {"options": options, "input": spec, "dimensions": dimensions}
            return cls(**{**values, **parsed})
        except (TypeError, KeyError, AttributeError, UnknownNameError) as error:
            raise InputError(f"not a model config: {error}") from error
