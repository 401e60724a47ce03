"""Bootstrap intervals over groups of images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from mdan_zoo.evaluation.metrics import Floats

LEVEL = 0.95
"""Nominal coverage of the intervals."""

FEWEST_RESAMPLES = 100
"""With fewer, the interval would be determined by the few most extreme resamples."""

_ROWS_AT_ONCE = 50


def resample(groups: Sequence[str], resamples: int, seed: int) -> Iterator[Floats]:
    """Draw bootstrap resamples of whole groups, with replacement.

    Images of the same group are similar, so resampling single images would make the intervals too
    narrow.

    Args:
        groups: The group of every image, (N,).
        resamples: Number of resamples.
        seed: Random seed.

    Yields:
        The number of times each image was drawn, (b, N), for a few resamples at a time.
    """
    _, members = np.unique(np.asarray(groups), return_inverse=True)
    count = int(members.max()) + 1
    generator = np.random.default_rng(seed)
    for start in range(0, resamples, _ROWS_AT_ONCE):
        rows = [
            np.bincount(generator.integers(count, size=count), minlength=count)
            for _ in range(min(_ROWS_AT_ONCE, resamples - start))
        ]
        yield np.stack(rows)[:, members].astype(np.float64)


def interval(values: Floats) -> tuple[float, float]:
    """Return the percentile interval of the values of a metric on the resamples, (B,)."""
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)
