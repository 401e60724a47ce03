"""Values from text."""

from __future__ import annotations

from typing import Literal

import pytest

from mdan_zoo._util.values import convert
from mdan_zoo.errors import InputError


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        ("3", int, 3),
        (0.5, float, 0.5),
        ("1", float, 1.0),
        ("True", bool, True),
        ("none", float | None, None),
        ("2", int | None, 2),
        ("2,4,8", tuple[int, int, int], (2, 4, 8)),
        ((5,), tuple[int, ...], (5,)),
        ("off", Literal["plain", "off"], "off"),
    ],
)
def test_values_are_converted(value, kind, expected):
    found = convert("x", value, kind)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        ("2.5", int, "x must be a whole number, not '2.5'"),
        ("a", float | None, "x must be a number, not 'a'"),
        ("yes", bool, "x must be true or false, not 'yes'"),
        ("1,b", tuple[int, ...], "x must be whole numbers, such as 4,3,2, not '1,b'"),
    ],
)
def test_values_of_another_type_are_refused(value, kind, message):
    with pytest.raises(InputError, match=message):
        convert("x", value, kind)
