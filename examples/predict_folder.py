"""Write the probabilities of all emotions, for every image of a folder, as CSV.

python examples/predict_folder.py [FOLDER] > emotions.csv
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from mdan_zoo import Predictor
from mdan_zoo.images.load import find_images


def main() -> None:
    folder = sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent
    predictor = Predictor()
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(["path", *(name for names in predictor.hierarchy.levels for name in names)])
    for prediction in predictor.stream(find_images(folder)):
        if prediction.error is not None:
            print(f"{prediction.image}: {prediction.error}", file=sys.stderr)
            continue
        scores = [score for level in prediction.levels for score in level.scores.values()]
        table.writerow([prediction.image, *(f"{score:.4f}" for score in scores)])


if __name__ == "__main__":
    main()
