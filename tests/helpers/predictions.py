"""Predictions as numbers, to be compared."""

from __future__ import annotations

import itertools

import numpy as np


def flattened(prediction) -> np.ndarray:
    """All probabilities of all branches and levels as one vector."""
    assert prediction.error is None
    branches = [levels for _, levels in sorted(prediction.probabilities.items())]
    return np.concatenate([np.array(level) for levels in branches for level in levels])


def assert_close(predictions, expected, tolerance=1e-5):
    assert [p.image for p in predictions] == [e.image for e in expected]
    for p, e in zip(predictions, expected, strict=True):
        np.testing.assert_allclose(flattened(p), flattened(e), atol=tolerance)


def one_by_one(predictor, images) -> list:
    """Predict each image by itself."""
    predictions = [predictor.predict(image) for image in images]
    vectors = [flattened(p) for p in predictions]
    for a, b in itertools.combinations(vectors, 2):
        assert abs(a - b).max() > 0.01, "photos that look alike could be mixed up unnoticed"
    return predictions
