"""The metrics of the cross-validation on OASIS."""

from __future__ import annotations

import math
import statistics
import sys
from pathlib import Path

import pytest
import torch
from oasis_folder import write_oasis

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from oasis_metrics import evaluate, pearson

from mdan_zoo.datasets.readers.oasis import read_oasis
from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.training.losses import level_targets


def test_metrics_of_known_predictions(tmp_path):
    samples = read_oasis(write_oasis(tmp_path / "oasis"))[::2]  # one of each theme
    tree = get_hierarchy("circumplex4")
    leaves = torch.tensor([sample.labels[-1] for sample in samples])
    fine = torch.nn.functional.one_hot(leaves, 4).float()
    fine[0] = torch.tensor([0.0, 0.0, 1.0, 0.0])  # the excited beach is taken for a serene one
    metrics = evaluate(level_targets(fine, tree), samples, tree).to_dict()
    assert metrics["polarity_accuracy"] == 1
    assert metrics["quadrant_accuracy"] == pytest.approx(5 / 6)
    arousal = [dict(sample.ratings)["arousal"] for sample in samples]
    expected = statistics.correlation([0, 0, 0, 1, 0, 1], arousal)
    assert metrics["arousal_r"] == pytest.approx(expected)


def test_the_correlation_with_a_constant_is_undefined():
    assert math.isnan(pearson(torch.ones(3), torch.tensor([1.0, 2.0, 4.0])))
