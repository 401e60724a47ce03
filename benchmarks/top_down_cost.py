"""Time and memory of MDAN's top-down branch relative to the backbone.

    python benchmarks/top_down_cost.py
    python benchmarks/top_down_cost.py --device cuda --dtype bfloat16 --channels-last

Three variants take steps in turn, so that other load on the machine affects all of them:

    naive  MDAN with the formulas of the paper as printed, in mdan_zoo/models/mdan/reference.py
    fast   MDAN as implemented in mdan_zoo
    bare   the backbone, global average pooling and one linear classifier

A step is the forward pass; in training, forward pass, loss and backward pass. The optimizer is
excluded because its cost only depends on the number of parameters. Weights and images are random.
Every variant runs in a separate process, so that running out of memory is reported as a row.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import dataclasses
import datetime
import io
import itertools
import multiprocessing
import os
import platform
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from mdan_zoo._util.files import write_atomically
from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.images.input_spec import STRIDE
from mdan_zoo.models.mdan import reference
from mdan_zoo.models.options import MDANOptions
from mdan_zoo.training.losses import cross_entropy, level_targets
from mdan_zoo.zoo.configs import MODELS
from mdan_zoo.zoo.factory import build_network, get_config

VARIANTS = ("naive", "fast", "bare")
TWO_AND_THREE_LEVELS = ("mdan_fi8", "mdan_webemo25")
MODES = ("forward", "training")
REPEATS = {"cpu": {"forward": 5, "training": 3}, "cuda": {"forward": 50, "training": 30}}
SMALLEST = (
    2 * STRIDE
)  # pixels; at half this size BatchNorm would get a single value, which is an error
os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # otherwise the profiler logs every use

OUT_OF_MEMORY = 3  # exit status of a worker that ran out of memory
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Case:
    """Settings shared by the variants of a comparison."""

    model: str
    levels: int
    size: int
    batch: int
    device: str
    threads: int
    dtype: str
    channels_last: bool
    compiled: bool
    mode: str


@dataclass(frozen=True)
class Measurements:
    """Peak tensor memory of a step, and the time of each repeat in seconds."""

    peak_bytes: int
    seconds: Sequence[float]


@dataclass(frozen=True)
class Result:
    """Summary of a variant; ratios are relative to the bare backbone.

    Values that could not be measured are None, and empty in the file.
    """

    variant: str
    status: str
    repeats: int
    seconds_median: float | None = None
    seconds_q1: float | None = None
    seconds_q3: float | None = None
    peak_bytes: int | None = None
    time_ratio: float | None = None
    memory_ratio: float | None = None
    images_per_second: float | None = None


class Stepper:
    """One variant of one case, in its worker process."""

    def __init__(self, case: Case, variant: str) -> None:
        torch.manual_seed(0)
        torch.set_num_threads(case.threads)
        self.case, self.variant = case, variant
        memory_format = torch.channels_last if case.channels_last else torch.contiguous_format
        config = get_config(case.model)
        if variant == "bare":
            config = dataclasses.replace(config, architecture="flat", options=None)
        self.network = build_network(config).train(case.mode == "training")
        self.network.to(case.device).to(memory_format=memory_format)
        self.forward = torch.compile(self._forward) if case.compiled else self._forward

        images = torch.randn(case.batch, 3, case.size, case.size)
        self.images = images.to(case.device, memory_format=memory_format)
        leaves = torch.ones(case.batch, self.network.hierarchy.sizes[-1]).softmax(dim=1)
        targets = level_targets(leaves, self.network.hierarchy)
        self.targets = [target.to(case.device) for target in targets]

    def peak_bytes(self) -> int:
        """Run a step and return its peak tensor memory, including gradients."""
        if self.case.device == "cpu":
            return peak_on_cpu(self.seconds)
        self.seconds()  # libraries allocate their persistent workspaces
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        self.seconds()
        return torch.cuda.max_memory_allocated() - before

    def seconds(self) -> float:
        """Run a step and return its time in seconds."""
        self._synchronize()
        start = time.perf_counter()
        if self.case.mode == "training":
            with self._autocast():
                loss = cross_entropy(self.forward(self.images), self.targets)
            torch.autograd.backward(loss)
        else:
            with torch.inference_mode(), self._autocast():
                self.forward(self.images)
        self._synchronize()
        seconds = time.perf_counter() - start
        self.network.zero_grad()
        return seconds

    def _synchronize(self) -> None:
        if self.case.device == "cuda":
            torch.cuda.synchronize()

    def _autocast(self) -> torch.autocast:
        dtype: torch.dtype = getattr(torch, self.case.dtype)
        return torch.autocast(self.case.device, dtype, enabled=dtype != torch.float32)

    def _forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return log P_O (N, K_l) of every level."""
        if self.variant == "naive":
            overall = reference.forward(self.network, self.network.backbone(images))[2]
            return tuple(level.log() for level in overall)
        log_overall: tuple[Tensor, ...] = self.network(images).log_probs["overall"]
        return log_overall


def peak_on_cpu(work: Callable[[], object]) -> int:
    """Call a function and return the peak size of its tensors in bytes."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    recorder: Any = profiler.profiler
    events = [event for event in recorder.kineto_results.events() if event.name() == "[memory]"]
    events.sort(key=lambda event: int(event.start_ns()))
    return max(itertools.accumulate(int(event.nbytes()) for event in events))  # negative: freed


def serve(case: Case, variant: str, connection: Connection) -> None:
    """Answer requests until the connection closes: first the peak memory, then step times."""
    with contextlib.suppress(OSError):  # if memory runs out, kill this process only
        Path("/proc/self/oom_score_adj").write_text("1000")
    try:
        stepper = Stepper(case, variant)
        with contextlib.suppress(EOFError):
            connection.recv()
            connection.send(stepper.peak_bytes())
            while True:
                connection.recv()
                connection.send(stepper.seconds())
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        sys.exit(OUT_OF_MEMORY)


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an error means out of memory; torch has a class for it only on GPUs."""
    refused = isinstance(error, (MemoryError, torch.OutOfMemoryError))
    return refused or "can't allocate memory" in str(error)


class Worker:
    """A variant in a worker process; workers initialise concurrently."""

    def __init__(self, case: Case, variant: str) -> None:
        spawn = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
        self.connection, theirs = spawn.Pipe()
        self.process = spawn.Process(target=serve, args=(case, variant, theirs), daemon=True)
        self.process.start()
        theirs.close()  # so that the connection closes with the process

    def ask(self) -> Any:
        """Return the next answer of the process; see `serve`.

        Raises:
            MemoryError: The process ran out of memory, on the CPU or the GPU.
            RuntimeError: The process ended for another reason, which it printed.
        """
        try:
            self.connection.send("next")
            return self.connection.recv()
        except (EOFError, ConnectionError):
            self.process.join()
            status = self.process.exitcode
            if status in (OUT_OF_MEMORY, -signal.SIGKILL):
                raise MemoryError from None
            raise RuntimeError(f"a worker ended with exit status {status}") from None

    def close(self) -> None:
        """End the process."""
        self.connection.close()
        self.process.join()


def measure(case: Case, repeats: int) -> dict[str, Measurements]:
    """Run the variants in turn; a variant that runs out of memory is dropped.

    The first step of each measures its peak memory and is not timed.
    """
    answers: dict[str, list[Any]] = {variant: [] for variant in VARIANTS}
    with contextlib.ExitStack() as stack:
        workers = {
            variant: stack.enter_context(contextlib.closing(Worker(case, variant)))
            for variant in VARIANTS
        }
        for _ in range(1 + repeats):
            for variant, worker in list(workers.items()):
                try:
                    answers[variant].append(worker.ask())
                except MemoryError:
                    del workers[variant]
    return {variant: Measurements(answers[variant][0], answers[variant][1:]) for variant in workers}


def summarise(measured: Mapping[str, Measurements], batch: int) -> Iterator[Result]:
    """Yield the summary of every variant."""
    bare = measured.get("bare")
    for variant in VARIANTS:
        mine = measured.get(variant)
        if mine is None:
            yield Result(variant, "out of memory", repeats=0)
            continue
        q1, median, q3 = quartiles(mine.seconds)
        yield Result(
            variant,
            "measured",
            repeats=len(mine.seconds),
            seconds_median=round(median, 6),
            seconds_q1=round(q1, 6),
            seconds_q3=round(q3, 6),
            peak_bytes=mine.peak_bytes,
            time_ratio=round(median / quartiles(bare.seconds)[1], 3) if bare else None,
            memory_ratio=round(mine.peak_bytes / bare.peak_bytes, 3) if bare else None,
            images_per_second=round(batch / median, 3),
        )


def quartiles(values: Sequence[float]) -> list[float]:
    """Return the lower quartile, the median and the upper quartile."""
    shares = torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)
    return [float(q) for q in torch.tensor(values, dtype=torch.float64).quantile(shares)]


def environment(device: str) -> dict[str, str]:
    """Return the columns that describe the machine and library versions."""
    return {
        "date": datetime.date.today().isoformat(),
        "machine": torch.cuda.get_device_name() if device == "cuda" else cpu_name(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "timm": timm.__version__,
    }


def cpu_name() -> str:
    """Return the name of the processor and its number of cores."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores"


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the rows as CSV, atomically."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text.getvalue().encode())


def table_line(case: Case, result: Result) -> str:
    """Return one line of the printed table."""
    values = (result.seconds_median, result.peak_bytes, result.time_ratio, result.memory_ratio)
    columns = "".join(f"{'-' if value is None else value:>13}" for value in values)
    what = f"{case.model:15} {case.mode:8} {case.batch:5}  {result.variant:5}"
    return f"{what}{columns}  {result.status}"


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=str(__doc__), formatter_class=layout
    )
    # The naive implementation has no options beyond the paper.
    by_the_paper = [
        name
        for name, config in MODELS.items()
        if config.architecture == "mdan" and config.options == MDANOptions()
    ]
    parser.add_argument("--models", nargs="+", choices=by_the_paper, default=TWO_AND_THREE_LEVELS)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--batches", nargs="+", type=positive, default=[1, 8], metavar="N")
    parser.add_argument("--size", type=positive, default=448, help="image size in pixels")
    parser.add_argument("--repeats", type=positive, metavar="N", help="timed steps per variant")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=positive, default=torch.get_num_threads(), metavar="N")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--compile", action="store_true", help="use torch.compile (GPU only)")
    parser.add_argument("--output", type=Path, help="CSV file")
    arguments = parser.parse_args(argv)
    if (size := arguments.size) % STRIDE or size < SMALLEST:
        parser.error(f"--size must be a multiple of {STRIDE} from {SMALLEST} on, not {size}")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch finds no GPU here")
    if arguments.device == "cpu" and arguments.compile:
        parser.error("--compile goes with --device cuda")
    return arguments


def positive(text: str) -> int:
    """Parse a positive integer option."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 on, not {text!r}")
    return int(text)


def cases(arguments: argparse.Namespace) -> Iterator[Case]:
    """Yield the cases to measure."""
    order = (arguments.modes, arguments.batches, arguments.models)
    for mode, batch, model in itertools.product(*order):
        yield Case(
            model=model,
            levels=get_hierarchy(get_config(model).hierarchy).depth,
            size=arguments.size,
            batch=batch,
            device=arguments.device,
            threads=arguments.threads,
            dtype=arguments.dtype,
            channels_last=arguments.channels_last,
            compiled=arguments.compile,
            mode=mode,
        )


def main(argv: Sequence[str] | None = None) -> None:
    """Measure every case; the file is updated after each."""
    arguments = parse(argv)
    path = arguments.output or RESULTS / f"top_down_cost_{arguments.device}.csv"
    about = environment(arguments.device)
    rows: list[dict[str, Any]] = []
    print("model           mode     batch  variant  seconds        bytes   time ratio memory ratio")
    for case in cases(arguments):
        repeats = arguments.repeats or REPEATS[case.device][case.mode]
        for result in summarise(measure(case, repeats), case.batch):
            rows.append({**about, **dataclasses.asdict(case), **dataclasses.asdict(result)})
            print(table_line(case, result), flush=True)
        write_rows(path, rows)
    print(f"written to {path}")


if __name__ == "__main__":
    main()
