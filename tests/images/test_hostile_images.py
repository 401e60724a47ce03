"""Objects that are no images and misbehave when looked at: each is one error, and no more."""

from __future__ import annotations

import os

import numpy as np
import pytest
from image_helpers import refusal

from mdan_zoo.errors import printable
from mdan_zoo.images.naming import describe


class Unprintable:
    def __repr__(self):
        raise RuntimeError("no repr")


class RaisingProperties:
    @property
    def shape(self):
        raise RuntimeError("no shape")

    @property
    def name(self):
        raise RuntimeError("no name")


class OddShape:
    shape = 7


class RaisingPath(os.PathLike):
    def __fspath__(self):
        raise RuntimeError("no path")


class NoPath(os.PathLike):
    def __fspath__(self):
        return 7


class RaisingText(str):
    """A str whose methods raise; what it is as plain text can still be told."""

    def raises(self, *_):
        raise RuntimeError("no text")

    __str__ = __repr__ = __len__ = __getitem__ = lower = startswith = isprintable = raises


class UnprintableError(Exception):
    def __str__(self):
        raise RuntimeError("no message")


class RaisingFile:
    name = "a\nb"

    def __init__(self, error):
        self.error = error

    def read(self, size):
        raise self.error


class RaisingArray:
    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("x" * 1_000_000)


class RaisingClass:
    @property
    def __class__(self):
        raise RuntimeError("no class")


# Made in the tests, since pytest looks at its parameters itself.
HOSTILE = {
    "repr": Unprintable,
    "properties": RaisingProperties,
    "shape": OddShape,
    "path": RaisingPath,
    "no path": NoPath,
    "text": lambda: RaisingText("absent.png"),
    "unprintable error": lambda: RaisingFile(UnprintableError()),
    "empty error": lambda: RaisingFile(RuntimeError()),
    "odd error": lambda: RaisingFile(OSError(5, Unprintable())),
    "array": RaisingArray,
    "class": RaisingClass,
    "dtype": lambda: np.zeros(3, [(f"a field with a long name {i}", int) for i in range(1000)]),
    "long name": lambda: "x" * 1_000_000,
    "long odd name": lambda: "\U0010ffff" * 1_000_000,
    "long class name": type("A" * 1_000_000, (), {}),
    "line break": lambda: "a\nb",
    "null": lambda: "a\0b",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_objects_are_one_short_error(kind):
    image = HOSTILE[kind]()
    message = refusal(image)
    name = describe(image)
    assert type(name) is str
    assert message.startswith(f"{printable(name)}: ")
    assert printable(name).isprintable()
    assert len(name) < 5000
    assert len(message) < 10_000


def test_what_can_be_told_is_reported():
    assert describe(RaisingProperties()) == "RaisingProperties object"
    assert describe(RaisingText("absent.png")) == "absent.png"
    assert describe(RaisingFile(OSError())) == "a\nb"
    assert refusal(RaisingFile(OSError(5, "broken"))) == r"'a\nb': broken"
    assert refusal(RaisingFile(UnprintableError())) == r"'a\nb': UnprintableError"


@pytest.mark.slow
def test_a_stream_goes_on_after_hostile_objects(predictor, photos):
    hostile = [make() for make in HOSTILE.values()]
    predictions = list(predictor.stream([photos[0], *hostile, photos[0]], batch_size=3))
    assert [p.error is None for p in predictions] == [True, *[False] * len(hostile), True]
    assert [p.image for p in predictions[1:-1]] == [describe(image) for image in hostile]
    assert all(str(p).isprintable() for p in predictions)
    assert predictions[0].path == predictions[-1].path
