"""How a machine runs a training: what may change its speed and memory, not what it aims at."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from mdan_zoo.errors import InputError

_PRECISIONS = ("no", "bf16", "fp16")
_MOST_WORKERS = 8


@dataclass(frozen=True)
class Machine:
    """How a machine runs a training.

    Attributes:
        precision: "no" computes in float32; "bf16" and "fp16" under autocast, fp16 with a scaled
            loss.
        accumulate: Each step is computed in so many parts, which needs as much less memory.
        channels_last: Whether maps are kept in that layout, which convolutions on GPUs prefer.
        compile: Whether the network goes through `torch.compile`.
        workers: Processes that read images, for each GPU; None takes as many as there are cores,
            and 8 at most.
        cache: Folder where images are kept at the size that is needed; see `ImageDataset`.
        tensorboard: Whether the log is also written for TensorBoard.
    """

    precision: str = "no"
    accumulate: int = 1
    channels_last: bool = False
    compile: bool = False
    workers: int | None = None
    cache: Path | None = None
    tensorboard: bool = False

    def __post_init__(self) -> None:
        if self.precision not in _PRECISIONS:
            known = ", ".join(_PRECISIONS)
            raise InputError(f"precision must be one of {known}, not {self.precision!r}")
        if self.accumulate < 1:
            raise InputError(f"accumulate must be at least 1, not {self.accumulate}")
        if self.workers is not None and self.workers < 0:
            raise InputError(f"workers must not be negative, not {self.workers}")

    @property
    def worker_count(self) -> int:
        """The number of reading processes."""
        if self.workers is not None:
            return self.workers
        return min(_MOST_WORKERS, os.cpu_count() or 1)
