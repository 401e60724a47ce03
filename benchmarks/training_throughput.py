"""Training throughput and the cost of data loading.

    python benchmarks/training_throughput.py --data FOLDER
    python benchmarks/training_throughput.py --data FOLDER --device cuda

Three measurements use the recipe, data loader and loop of `mdan-zoo train`:

    input     data loader only: decode, crop, mirror, collate, move to the device
    step      training loop only, with one batch that is already on the device
    training  both together

The loss to input is 1 - training / step, in images per second. The share of the time that the loop
waits for images is also reported; it is less sensitive to other load on the machine. Every epoch
uses new random crops, except for `views`, which uses cached feature maps as the recipes of
mdan_oasis4 and flat_oasis4 do. `step` is measured for MDAN as implemented in mdan_zoo (`fast`) and
with the formulas of the paper as printed (`naive`, mdan_zoo/models/mdan/reference.py). Weights are
random and hardly change. Compared jobs alternate, so that other load affects all of them. The file
is updated after every run.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import math
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import PIL
import torch
from top_down_cost import RESULTS, SMALLEST, environment, positive, quartiles, write_rows
from training_bench import Bench, Job, Turn
from training_images import read_size, write_images

from mdan_zoo._util.allocator import keep_freed_memory
from mdan_zoo.images.input_spec import STRIDE
from mdan_zoo.models.options import MDANOptions
from mdan_zoo.training.recipe import load_recipe
from mdan_zoo.zoo.configs import MODELS
from mdan_zoo.zoo.factory import get_config

DECODING = ("full", "draft", "cache", "views")
DEFAULTS: dict[str, dict[str, Any]] = {
    "cpu": {
        "models": ["mdan_oasis4"],
        "input_of": ["mdan_oasis4"],
        "decoding": DECODING,
        "workers": [0, 1, 2],
        "precision": "no",
        "channels_last": False,
        "naive": False,
        "compile": False,
    },
    "cuda": {
        "models": ["mdan_webemo25", "mdan_fi8"],
        "input_of": ["mdan_fi8"],
        "decoding": ["draft", "cache"],
        "workers": [8],
        "precision": "bf16",
        "channels_last": True,
        "naive": True,
        "compile": False,
    },
}

Turns = dict[Job, list[Turn | None]]
"""The turns that each job has had; None where memory was refused, after which it has no more."""


@dataclass(frozen=True)
class Result:
    """Summary of a job; values that could not be measured are None, and empty in the file."""

    status: str
    repeats: int
    seconds_median: float | None = None
    seconds_q1: float | None = None
    seconds_q3: float | None = None
    images_per_second: float | None = None
    peak_bytes: int | None = None
    loss_to_input_percent: float | None = None
    waiting_percent: float | None = None


def steps(arguments: argparse.Namespace, model: str) -> list[Job]:
    """Return the jobs for the step of a model: fast, and naive if requested."""
    fast = fast_step(arguments, model)
    naive = dataclasses.replace(fast, network="naive")
    return [fast, naive] if arguments.naive and is_by_the_paper(model) else [fast]


def fast_step(arguments: argparse.Namespace, model: str) -> Job:
    """Return the job for the fast step of a model."""
    config = get_config(model)
    return Job(
        model=model,
        backbone=arguments.backbone or config.backbone,
        network="fast",
        size=arguments.size or config.input.crop,
        batch=arguments.batch or load_recipe(model).batch_size,
        device=arguments.device,
        threads=arguments.threads,
        precision=arguments.precision,
        channels_last=arguments.channels_last,
        compiled=False,
        measured="step",
    )


def groups(arguments: argparse.Namespace, images: Sequence[str]) -> Iterator[list[Job]]:
    """Yield groups of alternating jobs: steps first, then input."""
    both = {model: steps(arguments, model) for model in arguments.models}
    yield from both.values()
    if arguments.compile:  # every run compiles for a minute or more, so run the fast jobs first
        for jobs in itertools.zip_longest(*both.values()):
            yield from ([dataclasses.replace(job, compiled=True)] for job in filter(None, jobs))
    for model in arguments.input_of:
        ways = ways_to_read(arguments, model)
        what = itertools.product(images, ways, ("input", "training"))
        step = fast_step(arguments, model)
        yield [
            dataclasses.replace(
                step, images=name, decoding=decoding, workers=workers, measured=measured
            )
            for name, (decoding, workers), measured in what
        ]


def ways_to_read(arguments: argparse.Namespace, model: str) -> list[tuple[str, int]]:
    """Return all combinations of decoding and workers; cached views use no workers."""
    ways = [way for way in arguments.decoding if way != "views"]
    read = list(itertools.product(ways, arguments.workers))
    cached = "views" in arguments.decoding and load_recipe(model).cached_views
    return [*read, ("views", 0)] if cached else read


def is_by_the_paper(model: str) -> bool:
    """Return whether a model has no options beyond the paper."""
    config = get_config(model)
    return config.architecture == "mdan" and config.options == MDANOptions()


def take_turns(
    bench: Bench, group: Sequence[Job], turns: Turns, repeats: int, deadline: float
) -> Iterator[Job]:
    """Run the jobs of a group in turn until the time limit; yield each result."""
    torch.compiler.reset()  # or one graph would be made to serve several models
    for _, job in itertools.product(range(repeats), group):
        if time.monotonic() > deadline:
            return
        if None not in turns[job]:
            turns[job].append(bench.turn(job))
            yield job


def summarise(job: Job, turns: Sequence[Turn | None]) -> Result:
    """Return the summary of a job so far."""
    measured = [turn for turn in turns if turn is not None]
    if len(measured) < len(turns):
        return Result("out of memory", repeats=0)
    q1, median, q3 = quartiles([turn.seconds for turn in measured])
    losses = [100 * (1 - t.step_seconds / t.seconds) for t in measured if t.step_seconds]
    waiting = [
        100 * t.waiting_seconds / t.seconds for t in measured if t.waiting_seconds is not None
    ]
    return Result(
        "measured",
        repeats=len(measured),
        seconds_median=round(median, 6),
        seconds_q1=round(q1, 6),
        seconds_q3=round(q3, 6),
        images_per_second=round(job.batch / median, 3),
        peak_bytes=max((t.peak_bytes for t in measured if t.peak_bytes), default=None),
        loss_to_input_percent=round(quartiles(losses)[1], 2) if losses else None,
        waiting_percent=round(quartiles(waiting)[1], 2) if waiting else None,
    )


def line(job: Job, result: Result) -> str:
    """Return one line of the printed table."""
    compiled = "compiled" if job.compiled else "eager"
    workers = "" if job.workers is None else f"{job.workers} workers"
    what = f"{job.model:14}{job.network:6}{compiled:9}{job.measured:9}"
    rate = "" if result.images_per_second is None else f"{result.images_per_second:.1f}/s"
    loss = result.loss_to_input_percent
    lost = "" if loss is None else f"{loss:.1f} % lost, {result.waiting_percent:.1f} % waited"
    return f"{what}{job.images:34}{job.decoding:6}{workers:11}{rate:>10} {lost:28}{result.status}"


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        description=str(__doc__),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    models: dict[str, Any] = {"nargs": "*", "choices": list(MODELS), "metavar": "NAME"}
    flag = argparse.BooleanOptionalAction
    add = parser.add_argument_group("what").add_argument
    add("--models", **models, help="models for measuring the step")
    add("--naive", action=flag, help="also measure the naive implementation")
    add("--compile", action=flag, help="also measure compiled steps")
    add("--input-of", **models, help="models for measuring input and training")
    add("--decoding", nargs="+", choices=DECODING)
    add("--workers", nargs="+", type=int, metavar="N", help="data loading processes")
    add = parser.add_argument_group("with what").add_argument
    add("--data", type=Path, metavar="FOLDER", help="image folder (default: synthetic images)")
    sizes = "sizes to resize images to; own keeps the original size (default: 1024x768)"
    add("--image-sizes", nargs="+", type=read_size, default=[(1024, 768)], help=sizes)
    add(
        "--images",
        type=positive,
        default=256,
        metavar="N",
        help="maximum number of images per size",
    )
    add("--backbone", metavar="NAME", help="timm backbone (default: that of the model)")
    add("--size", type=positive, help="crop size in pixels (default: that of the model)")
    add("--batch", type=positive, metavar="N", help="batch size (default: that of the recipe)")
    add = parser.add_argument_group("how").add_argument
    add("--device", choices=["cpu", "cuda"], default="cpu")
    add("--precision", choices=["no", "bf16", "fp16"])
    add("--channels-last", action=flag)
    add("--threads", type=positive, default=torch.get_num_threads(), metavar="N")
    add("--steps", type=positive, default=5, metavar="N", help="minimum timed steps per run")
    add("--repeats", type=positive, default=3, metavar="N", help="number of runs")
    add("--limit", type=positive, metavar="SECONDS", help="start no run after this time")
    add("--output", type=Path, help="CSV file")
    arguments = parser.parse_args(argv)
    for name, value in DEFAULTS[arguments.device].items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    check(parser, arguments)
    return arguments


def check(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Reject unsupported combinations."""
    if (size := arguments.size) and (size % STRIDE or size < SMALLEST):
        parser.error(f"--size must be a multiple of {STRIDE} from {SMALLEST} on, not {size}")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch finds no GPU here")
    if arguments.device == "cpu" and torch.cuda.is_available():
        parser.error("--device cpu: training takes the GPU; hide it with CUDA_VISIBLE_DEVICES=''")
    if arguments.data is None and None in arguments.image_sizes:
        parser.error("--image-sizes own goes with --data")


def main(argv: Sequence[str] | None = None) -> None:
    """Measure every job; the file is updated after every run."""
    arguments = parse(argv)
    start = time.monotonic()
    deadline = start + (arguments.limit or math.inf)
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    path = arguments.output or RESULTS / f"training_throughput_{arguments.device}.csv"
    about = {**environment(arguments.device), "pillow": PIL.__version__}
    turns: Turns = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        images = write_images(arguments.data, arguments.image_sizes, arguments.images, Path(folder))
        cache = Path(folder) / "cache"
        cache.mkdir()
        bench = Bench(images, cache, arguments.steps)
        for group in groups(arguments, list(images)):
            for job in take_turns(bench, group, turns, arguments.repeats, deadline):
                results = {job: summarise(job, turns[job]) for job in turns}
                rows = [
                    {**about, **dataclasses.asdict(job), **dataclasses.asdict(result)}
                    for job, result in results.items()
                ]
                write_rows(path, rows)
                print(f"{time.monotonic() - start:4.0f} s  {line(job, results[job])}", flush=True)
    if time.monotonic() > deadline:
        print(f"stopped at the limit of {arguments.limit} seconds")
    print(f"written to {path}")


if __name__ == "__main__":
    main()
