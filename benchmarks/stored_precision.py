"""Effect of storing released weights in float16 on the predictions.

    python benchmarks/stored_precision.py RUN ... --data FOLDER

Every RUN is the output folder of a finished `mdan-zoo train` run of a model with `ema_decay`: its
training state contains the float32 weights from which `model.safetensors` was rounded. Every image
of OASIS is predicted with both. Writes one row per run as CSV.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import torch

from mdan_zoo.datasets.readers.oasis import read_oasis
from mdan_zoo.inference.predictor import Predictor

RESULTS = Path(__file__).parent / "results"
COLUMNS = ("model", "images", "largest_difference", "mean_difference", "changed_paths")


def compare(run: Path, images: list[Path]) -> dict[str, object]:
    """Return the differences in leaf probabilities and the number of changed paths."""
    rounded = Predictor(checkpoint=run / "model.safetensors", device="cpu")
    exact = Predictor(checkpoint=run / "model.safetensors", device="cpu")
    state = torch.load(run / "training_state.pt", map_location="cpu", weights_only=True)
    exact.network.load_state_dict(state["average"], strict=True)
    pairs = list(zip(rounded.stream(images), exact.stream(images), strict=True))
    differences = torch.tensor(
        [
            [
                abs(a.levels[-1].scores[leaf] - b.levels[-1].scores[leaf])
                for leaf in a.levels[-1].scores
            ]
            for a, b in pairs
        ]
    )
    return {
        "model": rounded.name,
        "images": len(images),
        "largest_difference": f"{differences.max().item():.4f}",
        "mean_difference": f"{differences.mean().item():.5f}",
        "changed_paths": sum(a.path != b.path for a, b in pairs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--data", type=Path, required=True, help="OASIS folder")
    parser.add_argument("--output", type=Path, default=RESULTS / "oasis_stored_precision.csv")
    arguments = parser.parse_args()
    images = [sample.image for sample in read_oasis(arguments.data)]
    with arguments.output.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(compare(run, images) for run in arguments.runs)


if __name__ == "__main__":
    main()
