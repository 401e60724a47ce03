"""Progress display: a bar on a terminal, a line per minute in the log of a job, and silence."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

_SECONDS = 60.0
SILENCE_SECONDS = 5.0


class _Lines(tqdm):  # type: ignore[type-arg]
    """Lines with the number of items, the rate and the time left; the first after a delay."""

    def __init__(self, **options: Any) -> None:
        line = "{desc}: {n_fmt} of {total_fmt} {unit}s, {rate_fmt}, {remaining} left"
        options |= {"delay": _SECONDS, "mininterval": _SECONDS, "maxinterval": _SECONDS}
        super().__init__(miniters=1, bar_format=line, **options)

    @staticmethod
    def status_printer(file: Any) -> Callable[[str], None]:
        """Return a function that prints a line."""
        return lambda text: print(text, file=file, flush=True)

    def close(self) -> None:
        """End without the characters that complete a bar."""
        self.sp = None
        super().close()


def progress_bar(
    desc: str, *, total: int, unit: str = "image", shown: bool = True, **options: Any
) -> tqdm[Any]:
    """Return a bar of tqdm, on stderr; `options` are those of tqdm."""
    kind: type[tqdm[Any]] = tqdm if sys.stderr.isatty() else _Lines
    return kind(desc=desc, total=total, unit=unit, disable=not shown, **options)


@contextmanager
def silence_logged(
    logger: logging.Logger, name: str, received: Callable[[], int]
) -> Iterator[None]:
    """Log one message if a number does not change for `SILENCE_SECONDS` during the block."""
    done = threading.Event()

    def watch(before: int) -> None:
        while not done.wait(SILENCE_SECONDS):
            if before == (before := received()):
                logger.warning("%s: nothing received for %g s; waiting", name, SILENCE_SECONDS)
                return

    threading.Thread(target=watch, args=(received(),), name="mdan_zoo silence", daemon=True).start()
    try:
        yield
    finally:
        done.set()
