"""The errors that mdan_zoo raises on bad input, all derived from `MdanZooError`.

Every message shows what was given and what would be right. Where Python users expect a built-in
class (`ValueError` for a bad value, `LookupError` for an unknown name), the error derives from it
too.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MdanZooError(Exception):
    """Base class of every error that mdan_zoo raises on purpose."""


class HierarchyError(MdanZooError, ValueError):
    """A hierarchy is malformed, or does not fit where it was given."""


class UnknownNameError(MdanZooError, LookupError):
    """A model, hierarchy, level or class of that name does not exist."""


class ImageError(MdanZooError, ValueError):
    """An image cannot be read or is not acceptable.

    Attributes:
        image: Name of the image; None if the error is about several images.
        reason: Why it cannot be read.
    """

    def __init__(self, image: str | None, reason: str) -> None:
        super().__init__(image, reason)
        self.image = image
        self.reason = reason

    def __str__(self) -> str:
        return self.reason if self.image is None else f"{self.image}: {self.reason}"


class InputError(MdanZooError, ValueError):
    """A tensor, option or argument has a value that the library cannot work with."""


class DeviceError(MdanZooError, RuntimeError):
    """The device that was asked for does not exist on this machine."""


class CheckpointError(MdanZooError, ValueError):
    """A weight file is damaged or belongs to another model."""


class WeightsUnavailableError(MdanZooError, RuntimeError):
    """A model has no released weights."""


class ManifestError(MdanZooError, ValueError):
    """The weights manifest cannot be read or is malformed."""


class PublishingError(MdanZooError, RuntimeError):
    """Something cannot be published where it was asked to be."""


class TrainingError(MdanZooError, RuntimeError):
    """A training cannot go on."""


class TrainingStoppedError(TrainingError):
    """A training was told to stop, and can go on from its state."""


class DatasetError(MdanZooError, ValueError):
    """A data set folder or its annotations are not what the reader expects."""


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Return the end of an error message that helps with a mistyped name.

    Args:
        name: What was given.
        known: Every acceptable name.

    Returns:
        "did you mean 'a' or 'b'?" with the nearest known names, or the list of all known names
        where none is near.
    """
    names = list(known)
    near = difflib.get_close_matches(str(name), names, n=3, cutoff=0.6)
    if near:
        return "did you mean " + " or ".join(repr(n) for n in near) + "?"
    shown = ", ".join(names[:20])
    return f"known are: {shown}" + (f" and {len(names) - 20} more" if len(names) > 20 else "")
