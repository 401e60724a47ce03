"""Number of fine-tuning steps needed with few images: the recipe field `min_steps`, on OASIS.

    python benchmarks/fine_tuning_steps.py --data FOLDER

Fine-tunes mdan_oasis4 on 10 images of each category of OASIS (animal, person, object, scenery), as
`mdan-zoo train --init` does, and tests it on 25 other images of each, for several seeds. The
images, though not the categories, were part of the training data of mdan_oasis4, so the accuracies
are only meaningful for comparing numbers of steps. Writes one row per number of steps: means and
standard deviations over seeds, and the mean training time.
"""

from __future__ import annotations

import argparse
import dataclasses
import random
import shutil
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from top_down_cost import RESULTS, environment, positive, write_rows

from mdan_zoo import Hierarchy
from mdan_zoo._util.allocator import keep_freed_memory
from mdan_zoo.datasets.readers.oasis import read_norms, read_oasis
from mdan_zoo.training import TrainingConfig, train
from mdan_zoo.training.recipe import fine_tuning_recipe
from mdan_zoo.training.report import read_report

INIT = "mdan_oasis4"
TREE = Hierarchy.from_nested({"living": ["animal", "person"], "lifeless": ["object", "scenery"]})


def categories(data: Path) -> dict[str, list[Path]]:
    """Return the images of every category, as listed in the table of ratings."""
    category = {row["theme"]: row["category"].lower() for row in read_norms(data)}
    found: dict[str, list[Path]] = defaultdict(list)
    for sample in read_oasis(data):
        found[category[sample.image.stem]].append(sample.image)
    return found


def write_images(found: dict[str, list[Path]], counts: dict[str, int], seed: int, to: Path) -> None:
    """Copy randomly drawn images of every category to the folders train and test."""
    for leaf in TREE.leaves:
        drawn = random.Random(seed).sample(sorted(found[leaf]), sum(counts.values()))
        for part, count in counts.items():
            (to / part / leaf).mkdir(parents=True)
            for _ in range(count):
                shutil.copy(drawn.pop(), to / part / leaf)


def measure(images: Path, min_steps: int, seed: int) -> dict[str, float]:
    """Train once; return the epochs, the time and the accuracy of every level."""
    recipe = dataclasses.replace(fine_tuning_recipe(INIT), seed=seed, min_steps=min_steps)
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "run"
        start = time.perf_counter()
        train(TrainingConfig(recipe, images, output, hierarchy=TREE))
        seconds = time.perf_counter() - start
        report = read_report(output)
    accuracy = {f"{level}_accuracy": v for level, v in report["test"]["accuracy"].items()}
    return {"epochs": len(report["history"]), "seconds": seconds, **accuracy}


def summarise(turns: list[dict[str, float]]) -> dict[str, Any]:
    """Return the means over seeds, and the standard deviations of accuracies."""
    row: dict[str, Any] = {}
    for name in turns[0]:
        values = [turn[name] for turn in turns]
        row[name] = round(statistics.mean(values), 4)
        if name.endswith("accuracy"):
            row[f"{name}_sd_seeds"] = round(statistics.stdev(values), 4)
    return row


def main(argv: list[str] | None = None) -> None:
    """Run all measurements and write the results at the end."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        description=str(__doc__),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="OASIS folder")
    parser.add_argument("--steps", type=int, nargs="+", default=[0, 50, 100, 200], metavar="N")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N")
    parser.add_argument("--trained", type=positive, default=10, help="training images per category")
    parser.add_argument("--tested", type=positive, default=25, help="test images per category")
    parser.add_argument("--output", type=Path, default=RESULTS / "fine_tuning_steps.csv")
    arguments = parser.parse_args(argv)
    if len(arguments.seeds) < 2:
        parser.error("--seeds must be two or more: a spread is wanted")
    keep_freed_memory()
    found = categories(arguments.data)
    counts = {"train": arguments.trained, "test": arguments.tested}
    turns: dict[int, list[dict[str, float]]] = defaultdict(list)
    for seed in arguments.seeds:
        with tempfile.TemporaryDirectory() as folder:
            images = Path(folder) / "images"
            write_images(found, counts, seed, images)
            for min_steps in arguments.steps:
                turns[min_steps].append(measure(images, min_steps, seed))
    about = {**environment("cpu"), "seeds": " ".join(map(str, arguments.seeds)), **counts}
    rows = [{**about, "min_steps": steps, **summarise(done)} for steps, done in turns.items()]
    write_rows(arguments.output, rows)
    print(f"written to {arguments.output}")


if __name__ == "__main__":
    main()
