"""Time of verifying a checkpoint compared with loading it.

    python benchmarks/weight_loading.py

mdan_zoo verifies size and SHA-256 of a checkpoint at every load. Three variants alternate, so that
other load on the machine affects all of them:

    load       safetensors reads every tensor and copies it into a network
    verify     `mdan_zoo.weights.fetch.verify_file`
    both       one after the other, as `create_model(..., pretrained=True)` does

The file is in the file system cache, as it is after a download or an earlier load. Reading from
disk takes longer, and verification then leaves the file in the cache for loading.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import ssl
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file, save_file
from top_down_cost import RESULTS, environment, positive, quartiles, write_rows
from torch import Tensor

from mdan_zoo.weights.fetch import verify_file
from mdan_zoo.weights.manifest import Licences, ManifestEntry

TENSORS = 100


@dataclass(frozen=True)
class Result:
    """Summary of a variant; `time_ratio` is relative to `load`."""

    variant: str
    megabytes: int
    threads: int
    repeats: int
    seconds_median: float
    seconds_q1: float
    seconds_q3: float
    time_ratio: float
    megabytes_per_second: float


def write_weights(path: Path, megabytes: int) -> dict[str, Tensor]:
    """Write a file of random float32 tensors, and return tensors to load them into."""
    shape = (megabytes * 10**6 // TENSORS // 4,)
    save_file({f"tensor{i}": torch.randn(shape) for i in range(TENSORS)}, path)
    return {f"tensor{i}": torch.zeros(shape) for i in range(TENSORS)}


def entry_of(path: Path) -> ManifestEntry:
    """Return a manifest entry for a file."""
    return ManifestEntry(
        name="benchmark",
        status="released",
        parameters=0,
        licences=Licences(code="", weights="", data=""),
        command="",
        file=path.name,
        size=path.stat().st_size,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
    )


def load(path: Path, network: Mapping[str, Tensor]) -> None:
    """Copy every tensor of a file, as `load_state_dict` does."""
    for name, tensor in load_file(path).items():
        network[name].copy_(tensor)


def measure(variants: Mapping[str, Callable[[], None]], repeats: int) -> dict[str, list[float]]:
    """Run the variants in turn, after one warm-up run."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(1 + repeats):
        for name, work in variants.items():
            start = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - start)
    return {name: values[1:] for name, values in seconds.items()}


def summarise(measured: Mapping[str, Sequence[float]], megabytes: int) -> list[Result]:
    """Return the summary of every variant."""
    results = []
    for variant, seconds in measured.items():
        q1, median, q3 = quartiles(seconds)
        results.append(
            Result(
                variant,
                megabytes,
                torch.get_num_threads(),
                len(seconds),
                seconds_median=round(median, 4),
                seconds_q1=round(q1, 4),
                seconds_q3=round(q3, 4),
                time_ratio=round(median / quartiles(measured["load"])[1], 3),
                megabytes_per_second=round(megabytes / median, 1),
            )
        )
    return results


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print and write the file."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        description=str(__doc__),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--megabytes", type=positive, default=200, metavar="N")
    parser.add_argument("--repeats", type=positive, default=15, metavar="N")
    parser.add_argument("--threads", type=positive, default=torch.get_num_threads(), metavar="N")
    parser.add_argument("--output", type=Path, default=RESULTS / "weight_loading_cpu.csv")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        network = write_weights(path, arguments.megabytes)
        entry = entry_of(path)

        def verify_and_load() -> None:
            verify_file(path, entry)
            load(path, network)

        variants: dict[str, Callable[[], None]] = {
            "load": lambda: load(path, network),
            "verify": lambda: verify_file(path, entry),
            "both": verify_and_load,
        }
        results = summarise(measure(variants, arguments.repeats), arguments.megabytes)

    libraries = {"safetensors": safetensors.__version__, "openssl": ssl.OPENSSL_VERSION}
    about: dict[str, Any] = {**environment("cpu"), **libraries}
    for result in results:
        print(f"{result.variant:8}{result.seconds_median:9.3f} s{result.time_ratio:9.2f} x load")
    write_rows(arguments.output, [{**about, **dataclasses.asdict(result)} for result in results])
    print(f"written to {arguments.output}")


if __name__ == "__main__":
    main()
