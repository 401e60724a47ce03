"""Options of architectures: frozen dataclasses that can be stored. No torch.

Every architecture has its own class, so that a config cannot hold an option without an effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from mdan_zoo._util.numbers import is_number
from mdan_zoo.errors import InputError


@dataclass(frozen=True)
class ArchitectureOptions:
    """Base class of the options of an architecture.

    Attributes:
        ignored: Fields of stored configs that are ignored, because an earlier version wrote them.
    """

    ignored: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ArchitectureOptions:
        """Create options from a mapping, such as a stored config has; lists become tuples.

        Raises:
            InputError: A value is invalid.
            TypeError: A field is unknown.
        """
        fields = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in dict(values).items()
            if name not in cls.ignored
        }
        return cls(**fields)


@dataclass(frozen=True)
class FlatOptions(ArchitectureOptions):
    """Options of the flat classifier.

    Attributes:
        dropout: Dropout probability of the classifier's inputs during training.
    """

    # Version 0.1 stored all options of MDAN, of which a flat classifier used the dropout alone.
    ignored: ClassVar[frozenset[str]] = frozenset(
        {"dim", "alpha", "heads", "lcam", "normalise_pyramid"}
    )

    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_dropout(self.dropout)


def check_dropout(dropout: float) -> None:
    """Raise `InputError` unless `dropout` is a number in [0, 1)."""
    if not is_number(dropout) or not 0.0 <= dropout < 1.0:
        raise InputError(f"dropout must be at least 0 and below 1, not {dropout!r}")
