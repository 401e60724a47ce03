"""Figures and per-class results of the model card of mdan_fi8_lite0.

    python benchmarks/card_figures.py FOLDER

FOLDER, such as RUNS/mdan_fi8_lite0_seed0/test/FI, has the test results of a network that
`validate_fi.py` trained without the validation images. Writes the confusion matrix and the
reliability diagram, before and after temperature scaling, to `docs/images/`, and
`fi_validation_classes.csv`: precision, recall, F1 and the number of predictions of every emotion,
by true emotion.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from validate_fi import RESULTS, TREE, Floats, rounded, scaled, write

from mdan_zoo.evaluation.figures import draw_confusion, draw_reliability
from mdan_zoo.evaluation.metrics import confusion
from mdan_zoo.evaluation.probabilities import Probabilities
from mdan_zoo.training.recipe import load_recipe

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MODEL = "mdan_fi8_lite0"
IMAGES = Path(__file__).parents[1] / "docs" / "images"


def overall(stored: Any, temperature: float) -> tuple[Floats, ...]:
    """Return P_O of every level with the logits divided by a temperature.

    P_L has a softmax at every level; P_G has one over the emotions, and sums at the polarity.
    """
    alpha, by_leaf = float(stored["alpha"]), scaled(stored["global_emotion"], temperature)
    levels = []
    for level, name in enumerate(TREE.level_names):
        by_global = by_leaf @ np.array(TREE.membership(level)).T
        local = scaled(stored[f"local_{name}"], temperature)
        levels.append(alpha * local + (1 - alpha) * by_global)
    return tuple(levels)


def class_rows(counts: Floats) -> list[dict[str, Any]]:
    """Return precision, recall, F1 and the predictions of every class, given counts (K, K)."""
    names = TREE.levels[1]
    rows = []
    for k, name in enumerate(names):
        right, given, predicted = counts[k, k], counts[k].sum(), counts[:, k].sum()
        scores = {
            "precision": right / max(predicted, 1),
            "recall": right / max(given, 1),
            "f1": 2 * right / max(given + predicted, 1),
        }
        row = {"class": name, "images": int(given)}
        row |= {measure: rounded(score) for measure, score in scores.items()}
        rows.append(row | dict(zip(names, map(int, counts[k]), strict=True)))
    return rows


def save(figure: Figure, name: str) -> None:
    """Write a figure as a PNG file of few colours."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=100, facecolor="white")
    image = Image.open(buffer).convert("RGB").quantize(64)
    image.save(IMAGES / f"{MODEL}_{name}.png", optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("folder", metavar="FOLDER", type=Path)
    options = parser.parse_args()

    temperature = load_recipe(MODEL).temperature
    assert temperature is not None
    stored = np.load(options.folder / "probabilities.npz")
    labels = np.stack([stored[f"labels_{name}"] for name in TREE.level_names], axis=1)
    branches = {
        "overall": overall(stored, 1),
        f"with temperature {temperature:g}": overall(stored, temperature),
    }
    data = Probabilities(TREE, None, tuple(stored["images"]), labels, branches)  # type: ignore[arg-type]

    (counts,) = confusion(data.outcomes("overall", 1), np.ones((1, len(labels))))
    write(RESULTS / "fi_validation_classes.csv", class_rows(counts))
    save(draw_confusion(counts.astype(np.int64), TREE, 1), "confusion")
    figure = draw_reliability(data)
    figure.legends[0].get_texts()[0].set_text("as trained")
    save(figure, "reliability")


if __name__ == "__main__":
    main()
