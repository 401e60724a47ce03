"""Faithfulness of the attention and class activation maps: deletion and insertion curves.

    python benchmarks/faithfulness.py --data FOLDER

Deletion replaces the image step by step with the mean colour of the input normalisation, starting
at the highest values of the map; insertion reveals it step by step from a blurred image (Petsiuk,
Das & Saenko 2018, RISE). Both track the probability of the class predicted for the full image, P_O
at the level of the map. For a faithful map this probability falls quickly in deletion (small area
under the curve) and rises quickly in insertion (large area).

The maps are the attention M of L-CAM and the class activation map of the predicted class at every
level of `mdan_oasis4`, and the class activation map at the finest level of `flat_oasis4`. The
baselines are a random map of the same size, different for every image, and a map that decreases
with the distance from the centre. Intervals are 95 % bootstrap intervals of the mean over images;
differences to the baselines are paired by image.

Writes one row per model, level, curve and map, and a second CSV with the mean curves.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from top_down_cost import environment, positive, write_rows
from torch import Tensor
from torchvision.transforms.v2 import functional as pixels_of
from tqdm import tqdm

import mdan_zoo
from mdan_zoo.datasets.readers.oasis import read_oasis
from mdan_zoo.images.load import load_image
from mdan_zoo.inference.explanation import Explanation, explain
from mdan_zoo.inference.predictor import Predictor

MODELS = ("mdan_oasis4", "flat_oasis4")
CURVES = ("deletion", "insertion")
CONTROLS = ("random", "centre")
BLUR = 1 / 16  # standard deviation of the blur, as a fraction of the image size
RESAMPLES = 10_000
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Key:
    """Identifies a curve."""

    model: str
    level: str
    curve: str
    map: str


def candidates(explanation: Explanation, generator: torch.Generator) -> Iterator[tuple[str, Any]]:
    """Yield (level, {name: map (h, w)}) for every level that has maps."""
    for maps in explanation.levels:
        picked = {level.name: level.label for level in explanation.prediction.levels}[maps.name]
        class_map = torch.from_numpy(explanation.find_map(maps.name, picked))
        height, width = class_map.shape
        rows, columns = (torch.arange(n) - (n - 1) / 2 for n in (height, width))
        found = {
            "class": class_map,
            "random": torch.rand(height, width, generator=generator),
            "centre": -torch.hypot(rows[:, None], columns[None, :]),
        }
        if maps.attention is not None:
            found["attention"] = torch.from_numpy(maps.attention)
        yield maps.name, found


def orders(scores: Tensor, side: int, steps: int) -> Tensor:
    """Return the order in which pixels are selected, highest scores first.

    Args:
        scores: (h, w).
        side: S, the size of the network input.
        steps: T.

    Returns:
        bool (T + 1, 1, S, S): whether a pixel is selected after 0, ..., T steps.
    """
    full = F.interpolate(scores[None, None], (side, side), mode="bilinear", align_corners=False)
    rank = full.flatten().argsort(descending=True).argsort().reshape(1, 1, side, side)
    reached = torch.arange(steps + 1) * side * side // steps
    return rank < reached[:, None, None, None]


def curves_of(
    predictor: Predictor, image: Path, steps: int, generator: torch.Generator
) -> Iterator[tuple[Key, Tensor]]:
    """Yield the curves of one image: the probability after each step, (T + 1,)."""
    view = predictor.preprocessing.crop(load_image(image))
    side = view.shape[-1]
    sigma = BLUR * side
    kernel = 2 * round(2 * sigma) + 1
    blurred = pixels_of.gaussian_blur(view, [kernel, kernel], [sigma, sigma])
    mean = torch.tensor(predictor.config.input.mean)[:, None, None]
    grey = (mean * 255).round().to(torch.uint8).expand_as(view)
    explanation = explain(image, model=predictor)
    tree = predictor.hierarchy
    for level, maps in candidates(explanation, generator):
        position = tree.level_index(level)
        label = tree.index(level, explanation.prediction.levels[position].label)
        for name, scores in maps.items():
            reached = orders(scores, side, steps)
            views = {
                "deletion": torch.where(reached, grey, view),
                "insertion": torch.where(reached, view, blurred),
            }
            for curve, images in views.items():
                followed = probabilities(predictor, images, position)[:, label]
                yield Key(predictor.config.name, level, curve, name), followed


def probabilities(predictor: Predictor, views: Tensor, level: int) -> Tensor:
    """Return P_O of every class of a level, (N, K), for views uint8 (N, 3, S, S)."""
    batches = views.split(predictor.batch_size)
    return torch.cat([predictor.forward(batch).probs["overall"][level].cpu() for batch in batches])


def summarise(curves: Mapping[Key, Tensor], resamples: int) -> Iterator[dict[str, Any]]:
    """Yield a row per key, computed from its curves (images, T + 1)."""
    areas = {key: area(by_image) for key, by_image in curves.items()}
    count = len(next(iter(areas.values())))
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(count, (resamples, count), generator=generator)
    for key, values in areas.items():
        row: dict[str, Any] = {**vars(key), "images": count, **interval("area", values, drawn)}
        for control in CONTROLS:
            other = areas[Key(key.model, key.level, key.curve, control)]
            row.update(interval(f"minus_{control}", values - other, drawn))
        yield row


def area(curves: Tensor) -> Tensor:
    """Return the areas under curves (images, T + 1) over shares from 0 to 1."""
    return torch.trapezoid(curves.double(), dx=1 / (curves.shape[1] - 1))


def interval(name: str, values: Tensor, drawn: Tensor) -> dict[str, float]:
    """Return the mean over images and its bootstrap interval as columns."""
    means = values[drawn].mean(dim=1)
    low, high = means.quantile(torch.tensor([0.025, 0.975], dtype=means.dtype)).tolist()
    columns = {name: float(values.mean()), f"{name}_low": low, f"{name}_high": high}
    return {column: round(value, 5) for column, value in columns.items()}


def points(curves: Mapping[Key, Tensor]) -> Iterator[dict[str, Any]]:
    """Yield the mean curves as rows."""
    for key, by_image in curves.items():
        steps = by_image.shape[1] - 1
        for step, probability in enumerate(by_image.mean(dim=0).tolist()):
            share, shown = round(step / steps, 4), round(probability, 5)
            yield {**vars(key), "share": share, "probability": shown}


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        description=str(__doc__),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, help="OASIS folder")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--steps", type=positive, default=10, metavar="T")
    parser.add_argument(
        "--images",
        type=positive,
        metavar="N",
        help="number of images, evenly spaced (default: all)",
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--output", type=Path, default=RESULTS / "faithfulness.csv")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure every model on every image and write both files."""
    arguments = parse(argv)
    samples = read_oasis(arguments.data)
    count = min(arguments.images or len(samples), len(samples))
    images = [samples[i * len(samples) // count].image for i in range(count)]
    collected: dict[Key, list[Tensor]] = {}
    for model in arguments.models:
        predictor = Predictor(model, device=arguments.device)
        generator = torch.Generator().manual_seed(0)
        for image in tqdm(images, desc=model):
            for key, curve in curves_of(predictor, image, arguments.steps, generator):
                collected.setdefault(key, []).append(curve)
    curves = {key: torch.stack(by_image) for key, by_image in collected.items()}
    about = {**environment(arguments.device), "mdan_zoo": mdan_zoo.__version__}
    about |= {"device": arguments.device, "steps": arguments.steps}
    path: Path = arguments.output
    rows = [{**about, **row} for row in summarise(curves, RESAMPLES)]
    write_rows(path, rows)
    write_rows(path.with_name(f"{path.stem}_curves{path.suffix}"), list(points(curves)))
    for row in rows:
        limits = f"[{row['area_low']:.3f}, {row['area_high']:.3f}]"
        what = f"{row['model']:12} {row['level']:9} {row['curve']:10} {row['map']:10}"
        print(f"{what} {row['area']:.3f} {limits}  minus random {row['minus_random']:+.3f}")
    print(f"written to {path}")


if __name__ == "__main__":
    main()
