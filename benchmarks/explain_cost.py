"""Overhead of `explain` compared with `predict`.

    python benchmarks/explain_cost.py

Prediction and explanation of the same images alternate. Writes the median and quartiles of the
time for one image and for eight, and the ratio of the medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from top_down_cost import environment, positive, write_rows

import mdan_zoo

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "explain_cost_cpu.csv"
IMAGES = [ROOT / "examples" / "cat.jpg", ROOT / "examples" / "rocket.jpg"]
MODELS = ("mdan_oasis4", "flat_oasis4")


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(model: str, count: int, repeats: int) -> dict[str, Any]:
    """Return the result for one model and number of images."""
    predictor = mdan_zoo.Predictor(model, device="cpu")
    images = (IMAGES * count)[:count]
    steps: dict[str, Callable[[], object]] = {
        "predict": lambda: predictor.predict(images),
        "explain": lambda: mdan_zoo.explain(images, model=predictor),
    }
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(repeats + 1):
        for name, step in steps.items():
            spent = seconds(step)
            if turn:  # the first turn warms up
                taken[name].append(spent)
    row: dict[str, Any] = {"model": model, "images": count, "repeats": repeats}
    for name, values in taken.items():
        low, middle, high = statistics.quantiles(values, n=4)
        row |= {f"{name}_seconds": round(middle, 5), f"{name}_q1": round(low, 5)}
        row |= {f"{name}_q3": round(high, 5)}
    return row | {"ratio": round(row["explain_seconds"] / row["predict_seconds"], 3)}


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=positive, default=20)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    rows = []
    for model in MODELS:
        for count in (1, 8):
            rows.append(environment("cpu") | measure(model, count, options.repeats))
            print(rows[-1]["model"], rows[-1]["images"], "images: ratio", rows[-1]["ratio"])
    write_rows(options.output, rows)


if __name__ == "__main__":
    main()
