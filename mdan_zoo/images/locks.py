"""One thread at a time with an image that changes while it is read."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from PIL import Image

_guard = threading.Lock()
_in_use: dict[int, tuple[threading.Lock, int]] = {}  # by id: the lock, and who holds or awaits it


@contextlib.contextmanager
def reading(image: object) -> Iterator[None]:
    """Keep all others that read the same image waiting until this one is done.

    Files move on as they are read, and a PIL image decodes itself when it is first used. All other
    images stay as they are, and nobody waits.
    """
    if not isinstance(image, Image.Image) and not hasattr(image, "read"):
        yield
        return
    with _guard:
        lock, users = _in_use.get(id(image), (threading.Lock(), 0))
        _in_use[id(image)] = lock, users + 1
    try:
        with lock:
            yield
    finally:
        with _guard:
            lock, users = _in_use.pop(id(image))
            if users > 1:
                _in_use[id(image)] = lock, users - 1
