"""Speed-up from keeping freed memory for reuse.

    python benchmarks/freed_memory.py --data FOLDER

Two modes alternate, each run in a separate process:

    returned   the C library returns large blocks to the system (the default)
    kept       after `keep_freed_memory()`, as in `mdan-zoo predict`, `evaluate` and `train`

`predict` runs `Predictor.stream` with the default model on a folder of images; `train` runs
training steps of mdan_oasis4 with all weights trained, on a single fixed batch. CPU only, with
glibc.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import resource
import statistics
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from top_down_cost import RESULTS, environment, positive, quartiles, write_rows
from torch.nn.functional import nll_loss

from mdan_zoo import Predictor, create_model
from mdan_zoo._util.allocator import keep_freed_memory
from mdan_zoo.images.load import find_images
from mdan_zoo.zoo.configs import DEFAULT_MODEL
from mdan_zoo.zoo.factory import get_config

WAYS = ("returned", "kept")
STEPS = 8


@dataclass(frozen=True)
class Job:
    """One workload."""

    mode: str
    model: str
    batch: int
    threads: int


@dataclass(frozen=True)
class Turn:
    """Result of one run: throughput and peak memory of the process."""

    images_per_second: float
    resident_bytes: int


@dataclass(frozen=True)
class Result:
    """Summary of the runs of a job in one mode; `rate_ratio` is relative to `returned`."""

    memory: str
    repeats: int
    images_per_second: float
    images_per_second_q1: float
    images_per_second_q3: float
    rate_ratio: float
    resident_bytes: int


def turn(job: Job, way: str, images: Sequence[Path]) -> Turn:
    """Run a job once in a new process."""
    torch.set_num_threads(job.threads)
    if way == "kept":
        keep_freed_memory()
    rate = predict(job, images) if job.mode == "predict" else train(job)
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Turn(rate, resident)


def predict(job: Job, images: Sequence[Path]) -> float:
    """Return images per second, after one warm-up batch."""
    predictor = Predictor(job.model)
    stream = predictor.stream(images, batch_size=job.batch)
    for _ in islice(stream, job.batch):
        pass
    start = time.perf_counter()
    count = sum(prediction.error is None for prediction in stream)
    return count / (time.perf_counter() - start)


def train(job: Job) -> float:
    """Return images per second, after two warm-up steps."""
    torch.manual_seed(0)
    network = create_model(job.model).train()
    side = get_config(job.model).input.crop
    inputs = torch.randn(job.batch, 3, side, side)
    labels = torch.zeros(job.batch, dtype=torch.long)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-9)
    for step in range(2 + STEPS):
        if step == 2:
            start = time.perf_counter()
        optimizer.zero_grad()
        output = network(inputs)
        levels = (*output.log_probs["local"], *output.log_probs["global"])
        loss = sum(nll_loss(level, labels) for level in levels)
        loss.backward()
        optimizer.step()
    return STEPS * job.batch / (time.perf_counter() - start)


def summarise(turns: dict[str, list[Turn]]) -> Iterator[Result]:
    """Yield the summaries of both modes."""
    returned = statistics.median(turn.images_per_second for turn in turns["returned"])
    for way, taken in turns.items():
        q1, median, q3 = quartiles([turn.images_per_second for turn in taken])
        yield Result(
            way,
            len(taken),
            images_per_second=round(median, 2),
            images_per_second_q1=round(q1, 2),
            images_per_second_q3=round(q3, 2),
            rate_ratio=round(median / returned, 3),
            resident_bytes=max(turn.resident_bytes for turn in taken),
        )


def main(argv: Sequence[str] | None = None) -> None:
    """Measure every job; the file is updated after each."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        description=str(__doc__),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="image folder")
    parser.add_argument(
        "--images", type=positive, default=200, metavar="N", help="maximum number of images"
    )
    parser.add_argument("--batches", type=positive, nargs="+", default=[1, 8, 32], metavar="N")
    parser.add_argument("--repeats", type=positive, default=5, metavar="N", help="number of runs")
    parser.add_argument("--threads", type=positive, default=torch.get_num_threads(), metavar="N")
    parser.add_argument("--output", type=Path, default=RESULTS / "freed_memory_cpu.csv")
    arguments = parser.parse_args(argv)
    images = find_images(arguments.data)[: arguments.images]
    if len(images) <= max(arguments.batches):
        parser.error(f"--data has {len(images)} images, not more than one batch")

    jobs = [Job("predict", DEFAULT_MODEL, batch, arguments.threads) for batch in arguments.batches]
    jobs.append(Job("train", "mdan_oasis4", 16, arguments.threads))
    about, rows = environment("cpu"), list[dict[str, Any]]()
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as pool:
        for job in jobs:
            turns: dict[str, list[Turn]] = {way: [] for way in WAYS}
            for _ in range(arguments.repeats):
                for way in WAYS:
                    turns[way].append(pool.submit(turn, job, way, images).result())
            for result in summarise(turns):
                rows.append({**about, **dataclasses.asdict(job), **dataclasses.asdict(result)})
                rate, ratio = result.images_per_second, result.rate_ratio
                what = f"{job.mode:8} batch {job.batch:3}  {result.memory:8}"
                print(f"{what} {rate:7.1f}/s  x {ratio:.2f}", flush=True)
            write_rows(arguments.output, rows)
    print(f"written to {arguments.output}")


if __name__ == "__main__":
    main()
