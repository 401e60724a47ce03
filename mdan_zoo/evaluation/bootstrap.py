"""Bootstrap intervals: how much a number would change with other images of the same kind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from mdan_zoo.evaluation.metrics import Floats

LEVEL = 0.95
"""The share of intervals that contain the true value, as far as the bootstrap holds."""

FEWEST_RESAMPLES = 100
"""With fewer, the ends of the interval would be the few most extreme resamples."""

_ROWS_AT_ONCE = 50


def resample(groups: Sequence[str], resamples: int, seed: int) -> Iterator[Floats]:
    """Draw images with replacement, as often as asked for.

    Whole groups are drawn. Images of one group resemble each other, and drawn one by one they
    would make the intervals too narrow.

    Args:
        groups: The group of every image, (N,).
        resamples: How many draws.
        seed: Another seed gives other draws.

    Yields:
        How often each image was drawn, (b, N), some draws at a time.
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
    """Return the percentile interval of a measure's values on the resamples, (B,)."""
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)
