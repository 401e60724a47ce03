"""Tables and figures of the models trained on FI."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import fi_tables

from mdan_zoo.hierarchy.builtin import get_hierarchy

TREE = get_hierarchy("mikels8")


def test_a_single_seed_has_no_standard_deviation(monkeypatch):
    row = {"model": "mdan_fi8_lite0", "branch": "overall", "seeds": "1", "emotion_accuracy": "0.65"}
    monkeypatch.setattr(fi_tables, "summary", lambda: [row | {"emotion_accuracy_sd_seeds": ""}])
    assert "| **`mdan_fi8_lite0`** | 0.650 | - |" in fi_tables.metrics()
    assert "\n\nOne seed, so " in fi_tables.metrics()
    several = row | {"emotion_accuracy_sd_seeds": "0.004", "seeds": "3"}
    control = {"model": "majority class", "branch": "overall", "seeds": "1"}
    monkeypatch.setattr(fi_tables, "summary", lambda: [control, several])
    assert "| majority class | - | - |" in fi_tables.metrics()
    assert "| **`mdan_fi8_lite0`** | 0.650 ± 0.004 | - |" in fi_tables.metrics()
    assert fi_tables.metrics().endswith("standard deviation over 3 seeds.")


def test_confusions_are_sorted_and_counted_by_polarity(monkeypatch):
    rows = [
        {"class": name, "images": "9", "precision": "1", "recall": "1", "f1": "1"}
        | dict.fromkeys(TREE.levels[1], "0")
        for name in TREE.levels[1]
    ]
    rows[0] |= {"amusement": "4", "awe": "2", "fear": "3"}
    rows[7] |= {"fear": "5"}
    monkeypatch.setattr(fi_tables, "read", lambda name: rows)
    text = fi_tables.confusions(shown=2)
    assert text.splitlines()[:2] == [
        "* sadness predicted as fear: 5 of 9",
        "* amusement predicted as fear: 3 of 9",
    ]
    assert "\n7 of all 10 errors are" in text
    assert "| amusement | 9 | 1.00 | 1.00 | 1.00 | fear (3) |" in fi_tables.classes()


def test_generalisation_has_a_line_per_model_and_dataset():
    def row(model, dataset, measure, value):
        ends = {"value": value, "low": value - 0.1, "high": value + 0.1}
        about = {"model": model, "trained_on": "OASIS", "dataset": dataset, "images": "2619"}
        return about | {"measure": measure} | {name: str(end) for name, end in ends.items()}

    rows = [
        row("a", "FI", "polarity_accuracy", 0.7),
        row("a", "FI", "emotion_accuracy", 0.5),
        row("a", "OASIS", "polarity_accuracy", 0.8),
    ]
    assert fi_tables.generalisation_of(rows).splitlines() == [
        "|  | trained on | tested on | images | emotion accuracy | polarity accuracy |",
        "| --- | --- | --- | --- | --- | --- |",
        "| `a` | OASIS | FI | 2,619 | 0.500 (0.400 to 0.600) | 0.700 (0.600 to 0.800) |",
        "| `a` | OASIS | OASIS | 2,619 | - | 0.800 (0.700 to 0.900) |",
    ]
    assert fi_tables.generalisation_of([]) == "Not measured."


def test_probabilities_of_the_card_are_those_of_the_released_model():
    pytest.importorskip("sklearn", reason="the benchmarks need scikit-learn")
    pytest.importorskip("matplotlib", reason="figures need matplotlib")
    from card_figures import class_rows, overall

    generator = np.random.default_rng(0)
    logits = {name: generator.normal(size=(5, k)) for name, k in (("polarity", 2), ("emotion", 8))}
    by_leaf = softmax(generator.normal(size=(5, 8)))
    stored = {f"local_{name}": softmax(values) for name, values in logits.items()}
    stored |= {"alpha": np.array(0.7), "global_emotion": by_leaf}
    scaled = by_leaf**2 / (by_leaf**2).sum(axis=1, keepdims=True)
    for level, name in enumerate(TREE.level_names):
        expected = (
            0.7 * softmax(logits[name] / 0.5) + 0.3 * scaled @ np.array(TREE.membership(level)).T
        )
        np.testing.assert_allclose(overall(stored, 0.5)[level], expected)

    counts = np.zeros((8, 8))
    counts[0, :2] = 6, 2
    counts[1, :2] = 3, 1
    first = class_rows(counts)[0]
    assert (first["precision"], first["recall"], first["f1"]) == (0.6667, 0.75, 0.7059)
    assert (first["images"], first["amusement"], first["awe"]) == (8, 6, 2)


def softmax(logits):
    powers = np.exp(logits)
    return powers / powers.sum(axis=1, keepdims=True)
