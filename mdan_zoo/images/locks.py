"""One thread at a time with a picture that changes while it is read."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from PIL import Image

_guard = threading.Lock()
_in_use: dict[int, tuple[threading.Lock, int]] = {}  # by id: the lock, and who holds or awaits it


@contextlib.contextmanager
def reading(picture: object) -> Iterator[None]:
    """Keep all others that read the same picture waiting until this one is done.

    Files move on as they are read, and a PIL image decodes itself when it is first used. All other
    pictures stay as they are, and nobody waits.
    """
    if not isinstance(picture, Image.Image) and not hasattr(picture, "read"):
        yield
        return
    with _guard:
        lock, users = _in_use.get(id(picture), (threading.Lock(), 0))
        _in_use[id(picture)] = lock, users + 1
    try:
        with lock:
            yield
    finally:
        with _guard:
            lock, users = _in_use.pop(id(picture))
            if users > 1:
                _in_use[id(picture)] = lock, users - 1
