"""Number validation."""

from __future__ import annotations

import math


def is_number(value: object) -> bool:
    """Return whether a value is a finite real number; False for bool."""
    return type(value) is int or (type(value) is float and math.isfinite(value))
