"""Exceptions raised by mdan_zoo, all derived from `MdanZooError`.

Messages show the given value and what is expected. Exceptions also derive from the matching
built-in class, such as `ValueError` for an invalid value or `LookupError` for an unknown name.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

_SCHEME = r"[a-z][a-z\d+.-]{1,30}:/+"  # one letter is a drive of Windows


class MdanZooError(Exception):
    """Base class of all mdan_zoo exceptions. The messages contain no secrets of URLs."""

    def __str__(self) -> str:
        return mask_urls(super().__str__())


class HierarchyError(MdanZooError, ValueError):
    """A hierarchy is malformed, or does not match the model or data."""


class UnknownNameError(MdanZooError, LookupError):
    """Unknown name of a model, hierarchy, level or class."""


class ImageError(MdanZooError, ValueError):
    """An image cannot be read or is not acceptable.

    Attributes:
        image: Name of the image, which need not be printable; None if the error is about several
            images.
        reason: Why it cannot be read.
    """

    def __init__(self, image: str | None, reason: str) -> None:
        super().__init__(image, reason)
        self.image = image
        self.reason = reason

    def __str__(self) -> str:
        name = "" if self.image is None else f"{printable(self.image)}: "
        return mask_urls(name + self.reason)


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


class TrainingDivergedError(TrainingError):
    """The loss or the weights are no longer finite, which all processes notice."""


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


def printable(name: str) -> str:
    """Return a name for a message: cut off if it is very long, escaped if it is not printable."""
    short = name if len(name) <= 500 else name[:500] + "..."
    return short if short and short.isprintable() else repr(short)


def without_secrets(url: str) -> str:
    """Return a URL of any scheme without user name, password, query and fragment.

    The scheme may follow other text, and pathlib may have changed "://" to ":/". A text without a
    URL is returned as it is.
    """
    start, *found = re.split(f"({_SCHEME})", url, maxsplit=1, flags=re.I)
    if not found:
        return url
    scheme, rest = found
    return start + scheme + re.sub("(^|//)[^/]*@", r"\1", re.split("[?#]", rest)[0])


def mask_urls(text: str) -> str:
    """Return a text with every URL, which ends at a space or a quote, as of `without_secrets`."""
    words = rf"{_SCHEME}[^\s'\"]*?(?=[:;,.)]*([\s'\"]|$))"
    return re.sub(words, lambda match: without_secrets(match[0]), text, flags=re.I)
