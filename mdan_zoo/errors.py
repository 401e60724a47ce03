"""Exceptions raised by mdan_zoo, all derived from `MdanZooError`.

Messages show the given value and what is expected. Exceptions also derive from the matching
built-in class, such as `ValueError` for an invalid value or `LookupError` for an unknown name.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


class MdanZooError(Exception):
    """Base class of all mdan_zoo exceptions."""


class HierarchyError(MdanZooError, ValueError):
    """A hierarchy is malformed, or does not match the model or data."""


class UnknownNameError(MdanZooError, LookupError):
    """Unknown name of a model, hierarchy, level or class."""


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
    """A tensor, option or argument has an invalid value."""


class DeviceError(MdanZooError, RuntimeError):
    """The requested device is not available on this machine."""


class CheckpointError(MdanZooError, ValueError):
    """A checkpoint is damaged or belongs to another model."""


class WeightsUnavailableError(MdanZooError, RuntimeError):
    """A model has no released weights."""


class ManifestError(MdanZooError, ValueError):
    """The weights manifest cannot be read or is malformed."""


class PublishingError(MdanZooError, RuntimeError):
    """A model cannot be published to the given destination."""


class TrainingError(MdanZooError, RuntimeError):
    """Training cannot continue."""


class TrainingStoppedError(TrainingError):
    """Training was interrupted and can be resumed from its saved state."""


class DatasetError(MdanZooError, ValueError):
    """A dataset folder or its annotations do not have the expected format."""


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Return a suggestion for a misspelled name, to end an error message.

    Args:
        name: The given name.
        known: All valid names.

    Returns:
        "did you mean 'a' or 'b'?" with the closest names, or a list of the valid names if none
        is close.
    """
    names = list(known)
    near = difflib.get_close_matches(str(name), names, n=3, cutoff=0.6)
    if near:
        return "did you mean " + " or ".join(repr(n) for n in near) + "?"
    shown = ", ".join(names[:20])
    return f"available: {shown}" + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def without_secrets(url: str) -> str:
    """Return a URL for a message, without user name, password, query and fragment."""
    return re.sub("//[^/]*@", "//", re.split("[?#]", url)[0])
