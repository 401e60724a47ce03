"""Views at test time: accuracy and calibration on FI of predictions averaged over several views.

    python benchmarks/fi_views.py --data FOLDER

Evaluates the released models on the test part of their split of FI, as `mdan-zoo evaluate --views`
does. Writes one row per model and views; differences are to views="single", with 95 % bootstrap
intervals over groups of near-duplicates, paired by image.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mdan_zoo.datasets.splits import Split
from mdan_zoo.evaluation import evaluate, find_samples
from mdan_zoo.evaluation.metrics import interval, resample, weighted_mean
from mdan_zoo.evaluation.results import Evaluation
from mdan_zoo.inference.prediction import VIEWS
from mdan_zoo.inference.predictor import Predictor

ROOT = Path(__file__).parents[1]
SPLIT = ROOT / "mdan_zoo" / "datasets" / "split_files" / "fi17460.tsv"
MODELS = ("flat_fi8_lite0", "mdan_fi8_lite0")
RESAMPLES = 1000
MEASURES = {
    "emotion_accuracy": ("accuracy", "emotion"),
    "polarity_accuracy": ("accuracy", "polarity"),
    "negative_log_likelihood": ("negative_log_likelihood", "emotion"),
    "calibration_error": ("calibration_error", "emotion"),
}


def compare(views: Evaluation, single: Evaluation, groups: Sequence[str]) -> dict[str, Any]:
    """Return the metrics, and the difference in emotion accuracy with its interval."""
    row = {name: round(views.score(*key).value, 4) for name, key in MEASURES.items()}
    correct, before = (
        found.probabilities.outcomes("overall", 1).correct for found in (views, single)
    )
    draws = [weighted_mean(correct - before, w) for w in resample(groups, RESAMPLES, seed=0)]
    low, high = interval(np.concatenate(draws))
    values = (correct - before).mean(), low, high
    names = ("emotion_accuracy_difference", "difference_low", "difference_high")
    return row | {name: round(float(v), 4) for name, v in zip(names, values, strict=True)}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="FI folder")
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--views", nargs="+", choices=VIEWS, default=tuple(VIEWS)[1:])
    parser.add_argument("--split", type=Path, default=SPLIT, help="(default: %(default)s)")
    results = ROOT / "benchmarks" / "results"
    parser.add_argument("--output", type=Path, default=results / "fi_views.csv")
    options = parser.parse_args(arguments)

    rows: list[dict[str, Any]] = []
    singles: dict[str, Evaluation] = {}
    for views in dict.fromkeys(["single", *options.views]):
        for model in options.models:
            predictor = Predictor(model, device="cpu", views=views)
            split = Split.load(options.split)
            samples, source = find_samples("FI", options.data, predictor.hierarchy, split=split)
            found = evaluate(predictor, samples, source=source, resamples=100)
            if found.trained_on:
                raise SystemExit(f"{model} was trained on {found.trained_on} of the images")
            about = {"model": model, "views": views, "passes": VIEWS[views], "images": len(samples)}
            single = singles.setdefault(model, found)
            rows.append(about | compare(found, single, [sample.group for sample in samples]))
            with options.output.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)


if __name__ == "__main__":
    main()
