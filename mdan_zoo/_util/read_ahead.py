"""Read-ahead: worker threads compute batches in order, a bounded number ahead of the consumer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

Item = TypeVar("Item")
Value = TypeVar("Value")


def batches_ahead(
    function: Callable[[Item], Value], items: Iterable[Item], *, batch_size: int, workers: int
) -> Generator[list[Value], None, None]:
    """Yield `function(item)` for all items, in order and in batches, computed by threads.

    `items` may be infinite. It is iterated in the calling thread, at most two batches ahead; if it
    raises, its error follows the values of the previous items. An error of `function` is raised in
    place of its batch. The threads end with the generator, even if it is closed early. A single
    item of a list needs no thread, and when the main thread has ended there can be no pool.
    """
    if isinstance(items, (list, tuple)) and len(items) == 1:
        yield [function(items[0])]
        return
    failures: list[Exception] = []
    pending: deque[Callable[[], Value]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="mdan_zoo")
    try:
        for item in _until_failure(items, failures):
            try:
                pending.append(pool.submit(function, item).result)
            except RuntimeError:  # the main thread has ended
                pending.append(partial(function, item))
            if len(pending) == 2 * batch_size:
                yield [pending.popleft()() for _ in range(batch_size)]
        while pending:
            yield [pending.popleft()() for _ in range(min(batch_size, len(pending)))]
    finally:
        pool.shutdown(cancel_futures=True)
    for failure in failures:
        raise failure


def _until_failure(items: Iterable[Item], failures: list[Exception]) -> Iterator[Item]:
    try:
        for item in items:  # noqa: UP028 - `yield from` would also close the caller's generator
            yield item
    except Exception as error:
        failures.append(error)
