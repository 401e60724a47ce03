"""Predict every image of a folder and print the probabilities of all emotions as CSV.

python examples/predict_folder.py [FOLDER] > emotions.csv
"""

from __future__ import annotations

import sys
from pathlib import Path

from mdan_zoo import Predictor
from mdan_zoo.images.load import find_images
from mdan_zoo.inference.formats import FORMATS


def main() -> None:
    folder = sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent
    predictor = Predictor()
    csv = FORMATS["csv"]
    sys.stdout.write(csv.header(predictor.hierarchy, predictor.config.dimensions))
    for prediction in predictor.stream(find_images(folder)):
        sys.stdout.write(csv.line(prediction))


if __name__ == "__main__":
    main()
