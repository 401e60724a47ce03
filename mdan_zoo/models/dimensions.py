"""Dimensions: continuous outputs in addition to the classes, such as valence. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from mdan_zoo._util.numbers import is_number
from mdan_zoo.errors import InputError


@dataclass(frozen=True)
class Dimension:
    """A continuous output of a model.

    Attributes:
        name: Name of the rating that it predicts, such as "valence".
        low: Lower end of the rating scale.
        high: Upper end of the rating scale.
    """

    name: str
    low: float
    high: float

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.isidentifier():
            raise InputError(f"the name of a dimension must be a word, not {self.name!r}")
        ends = (self.low, self.high)
        if not all(map(is_number, ends)) or self.low >= self.high:
            raise InputError(
                f"the scale of {self.name} must be two numbers, the lower one first, not {ends}"
            )

    def __str__(self) -> str:
        return f"{self.name}={self.low:g}:{self.high:g}"

    @classmethod
    def parse(cls, text: str) -> Dimension:
        """Create a dimension from a text such as "valence=1:7"; the inverse of `str`."""
        name, _, scale = text.partition("=")
        try:
            low, high = map(float, scale.split(":"))
        except ValueError as error:
            raise InputError(
                f"a dimension has the form NAME=LOW:HIGH, such as valence=1:7, not {text!r}"
            ) from error
        return cls(name, low, high)
