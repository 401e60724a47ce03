"""Time and memory of every architecture relative to the flat network, on one CPU thread.

    python benchmarks/architecture_cost.py

All networks have the backbone, input and hierarchy of `mdan_fi8_lite0`, and the options of the
registered model on that backbone. They take steps in turn. A training step is normalisation,
forward pass, loss, backward pass and AdamW; a prediction is normalisation and forward pass. Weights
and images are random. Time is CPU time of the process, which other processes on the machine affect
less than elapsed time.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from top_down_cost import RESULTS, environment, peak_on_cpu, positive, quartiles, write_rows

from mdan_zoo.images.preprocessing import Preprocessing
from mdan_zoo.models.config import ModelConfig
from mdan_zoo.models.operations import multiply_accumulates
from mdan_zoo.training.losses import TrainingStep, level_targets
from mdan_zoo.training.optimizer import build_optimizer, set_mode
from mdan_zoo.training.recipe import Recipe
from mdan_zoo.zoo.configs import REGISTERED
from mdan_zoo.zoo.factory import build_network

MODES = ("training", "prediction")
CONTROL = "flat"


class Stepper:
    """One architecture, with a batch of random images."""

    def __init__(self, config: ModelConfig, batch: int) -> None:
        torch.manual_seed(0)
        self.network = build_network(config)
        frozen = 4 if self.network.frozen_backbone else 0
        self.recipe = Recipe(config.name, optimizer="adamw", frozen_stages=frozen)
        self.optimizer = build_optimizer(self.network, self.recipe)
        self.loss = TrainingStep(self.network, Preprocessing(config.input), self.recipe)
        size, classes = config.input.crop, self.network.hierarchy.sizes[-1]
        self.images = torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8)
        leaves = torch.ones(batch, classes).softmax(dim=1)
        self.targets = list(level_targets(leaves, self.network.hierarchy))

    def training(self) -> None:
        """Take a training step."""
        set_mode(self.network, self.recipe)
        self.loss(self.images, self.targets, None).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def prediction(self) -> None:
        """Predict the batch."""
        self.network.eval()
        with torch.inference_mode():
            self.network(self.loss.preprocessing.normalise(self.images))


def config_of(architecture: str, backbone: str | None, size: int | None) -> ModelConfig:
    """Return the config of an architecture on the backbone of `mdan_fi8_lite0`, or another."""
    flat = REGISTERED["flat_fi8_lite0"]
    other = dataclasses.replace(flat, architecture=architecture, options=None)
    config = REGISTERED.get(f"{architecture}_fi8_lite0", other)
    side = size or config.input.crop
    spec = dataclasses.replace(config.input, resize=side, crop=side)
    return dataclasses.replace(config, backbone=backbone or config.backbone, input=spec)


def cpu_seconds(work: Callable[[], None]) -> float:
    """Call a function and return its CPU time."""
    start = time.process_time()
    work()
    return time.process_time() - start


def measure(steppers: dict[str, Stepper], mode: str, repeats: int) -> list[dict[str, Any]]:
    """Return a row for every architecture; `time_ratio` is relative to the control's same turn."""
    work = {name: getattr(stepper, mode) for name, stepper in steppers.items()}
    for step in work.values():
        step()  # libraries and the optimizer allocate memory that they keep
    peaks = {name: peak_on_cpu(step) for name, step in work.items()}
    turns = [{name: cpu_seconds(step) for name, step in work.items()} for _ in range(repeats)]
    rows = []
    for name, stepper in steppers.items():
        ratios = [turn[name] / turn[CONTROL] for turn in turns]
        q1, median, q3 = (round(value, 3) for value in quartiles(ratios))
        size = stepper.images.shape[-1]
        rows.append(
            {
                "architecture": name,
                "mode": mode,
                "parameters": sum(p.numel() for p in stepper.network.parameters()),
                "multiply_accumulates": multiply_accumulates(stepper.network, size),
                "repeats": repeats,
                "seconds_median": round(quartiles([turn[name] for turn in turns])[1], 4),
                "time_ratio": median,
                "time_ratio_q1": q1,
                "time_ratio_q3": q3,
                "peak_bytes": peaks[name],
                "memory_ratio": round(peaks[name] / peaks[CONTROL], 3),
            }
        )
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    """Measure every architecture and write the rows."""
    description = str(__doc__).partition("\n")[0]
    parser = argparse.ArgumentParser(allow_abbrev=False, description=description)
    parser.add_argument("--backbone", help="default: that of mdan_fi8_lite0")
    parser.add_argument("--size", type=positive, help="default: that of mdan_fi8_lite0")
    parser.add_argument("--batch", type=positive, default=16, metavar="N")
    parser.add_argument("--repeats", type=positive, default=5, metavar="N")
    parser.add_argument("--output", type=Path, default=RESULTS / "architecture_cost.csv")
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    names = sorted({config.architecture for config in REGISTERED.values()})
    configs = {name: config_of(name, given.backbone, given.size) for name in names}
    steppers = {name: Stepper(config, given.batch) for name, config in configs.items()}
    control = configs[CONTROL]
    about = {
        **environment("cpu"),
        "backbone": control.backbone,
        "size": control.input.crop,
        "batch": given.batch,
        "threads": 1,
    }
    rows = []
    for mode in MODES:
        rows += [{**about, **row} for row in measure(steppers, mode, given.repeats)]
        write_rows(given.output, rows)
    print(f"written to {given.output}")


if __name__ == "__main__":
    main()
