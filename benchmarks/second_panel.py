"""Expected agreement of a second panel of raters with the OASIS labels.

    python benchmarks/second_panel.py --data FOLDER

The mean of about 100 ratings is a noisy estimate. Given the published means, standard deviations
and numbers of ratings, the mean of a second panel of the same size is normally distributed around
the first, with twice its squared standard error. The average probability that both means are on
the same side of the threshold is the expected accuracy of the second panel, an upper bound for a
network. Writes the result as CSV.
"""

from __future__ import annotations

import argparse
import csv
import math
from pathlib import Path
from statistics import NormalDist

from mdan_zoo.datasets.readers.oasis import AROUSAL_THRESHOLD, VALENCE_THRESHOLD, read_norms

RESULTS = Path(__file__).parent / "results"


def same_side(row: dict[str, str], rating: str, threshold: float) -> float:
    """Return the probability that both means are on the same side of a threshold."""
    mean, deviation, count = (float(row[f"{rating}_{name}"]) for name in ("mean", "sd", "n"))
    return NormalDist().cdf(abs(mean - threshold) / (deviation * math.sqrt(2 / count)))


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with the OASIS table")
    parser.add_argument("--output", type=Path, default=RESULTS / "oasis_second_panel.csv")
    arguments = parser.parse_args()
    rows = read_norms(arguments.data)
    polarity = [same_side(row, "valence", VALENCE_THRESHOLD) for row in rows]
    arousal = [same_side(row, "arousal", AROUSAL_THRESHOLD) for row in rows]
    quadrant = [p * a for p, a in zip(polarity, arousal, strict=True)]
    with arguments.output.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["images", "polarity_accuracy", "quadrant_accuracy"])
        writer.writerow([len(rows), *(f"{sum(p) / len(p):.4f}" for p in (polarity, quadrant))])


if __name__ == "__main__":
    main()
