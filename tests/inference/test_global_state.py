"""Predictors under other default dtypes and devices of torch."""

from __future__ import annotations

import pytest
import torch

import mdan_zoo
from mdan_zoo.inference.predictor import Predictor


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_default_dtype_of_torch_changes_nothing(checkpoint, photos, predictor, dtype):
    torch.set_default_dtype(dtype)
    try:
        other = Predictor(checkpoint=checkpoint, device="cpu")
        found = predictor.predict(photos), predictor.embed([]).dtype
        again = other.predict(photos), other.embed([]).dtype
        released = Predictor(device="cpu").predict(photos[0])
    finally:
        torch.set_default_dtype(torch.float32)
    assert found == again == (predictor.predict(photos), torch.float32)
    assert released == Predictor(device="cpu").predict(photos[0])


@pytest.mark.slow
def test_the_default_device_of_torch_changes_nothing(checkpoint, photos, predictor):
    expected = predictor.predict(photos), predictor.forward(photos).features
    with torch.device("meta"):
        other = Predictor(checkpoint=checkpoint, device="cpu")
        for one in (predictor, other):
            assert one.predict(photos) == expected[0]
            assert one.predict(photos[0]).to_dict() == predictor.predict(photos[0]).to_dict()
            assert one.forward(photos).features.equal(expected[1])
            assert mdan_zoo.explain(photos[0], model=one).levels[0].class_maps.any()
            assert one.embed([]).device.type == "cpu"
