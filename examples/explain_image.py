"""Predict the emotion that an image evokes, locate the highest attention, and plot the maps.

python examples/explain_image.py [IMAGE]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import mdan_zoo
from mdan_zoo.plots import plot


def main() -> None:
    image = sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_name("cat.jpg")
    explanation = mdan_zoo.explain(image)
    print(explanation.prediction)
    for level in explanation.levels:
        attention = explanation.on_image(level.name)  # (height, width); NaN where not seen
        y, x = np.unravel_index(np.nanargmax(attention), attention.shape)
        print(f"{level.name}: most attention at x={x}, y={y} of {explanation.image.size}")
    plot(explanation, "explained.png")
    print("written: explained.png")


if __name__ == "__main__":
    main()
