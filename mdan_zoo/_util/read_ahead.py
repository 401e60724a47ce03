"""Read-ahead: worker threads compute batches in order, a bounded number ahead of the consumer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Value = TypeVar("Value")


def batches_ahead(
    function: Callable[[Item], Value], items: Iterable[Item], *, batch_size: int, workers: int
) -> Generator[list[Value], None, None]:
    """Yield `function(item)` for all items, in order and in batches, computed by threads.

    While the consumer uses a batch, the threads compute the next one. `items` is iterated in the
    calling thread, at most two batches ahead. If it raises, its error follows the values of the
    previous items. The threads end with the generator, even if it is closed early.

    Args:
        function: Called in a worker thread; its errors are raised in place of the batch.
        items: Possibly infinite.
        batch_size: Length of every batch except the last.
        workers: Number of threads.
    """
    failures: list[Exception] = []
    pending: deque[Future[Value]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="mdan_zoo")
    try:
        for item in _until_failure(items, failures):
            pending.append(pool.submit(function, item))
            if len(pending) == 2 * batch_size:
                yield _take(pending, batch_size)
        while pending:
            yield _take(pending, min(batch_size, len(pending)))
    finally:
        pool.shutdown(cancel_futures=True)
    for failure in failures:
        raise failure


def _until_failure(items: Iterable[Item], failures: list[Exception]) -> Iterator[Item]:
    """Yield the items; an error ends the iteration and is appended to `failures`."""
    try:
        for item in items:  # noqa: UP028 - `yield from` would also close the caller's generator
            yield item
    except Exception as error:
        failures.append(error)


def _take(pending: deque[Future[Value]], count: int) -> list[Value]:
    return [pending.popleft().result() for _ in range(count)]
