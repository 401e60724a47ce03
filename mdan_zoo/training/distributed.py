"""Processes: process group, set-up of Accelerate, and graceful shutdown on SIGTERM."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DataLoaderConfiguration, broadcast_object_list

from mdan_zoo.errors import InputError, TrainingError
from mdan_zoo.training.config import TrainingConfig

Value = TypeVar("Value")

_PATIENCE = timedelta(hours=6)
"""Timeout of waiting for the main process, which checks and tests alone; torch's is 10 minutes."""

_GRACE_SECONDS = 30  # usual time between SIGTERM and SIGKILL on clusters
_LOWEST_PRIORITY = 19
_CPU_INFO = Path("/proc/cpuinfo")
_BF16_FLAGS = ("avx512_bf16", "amx_bf16", "bf16")  # the last is that of ARM
_LOGGER = logging.getLogger("mdan_zoo.training")


def processes() -> PartialState:
    """Return the state of the process group."""
    # Without a GPU, the processes of torchrun connect only with cpu=True.
    return PartialState(cpu=not torch.cuda.is_available(), timeout=_PATIENCE)


def is_main_process() -> bool:
    """Return whether this is the main process, the one that writes files."""
    return bool(processes().is_main_process)


def in_main_process(work: Callable[[], Value]) -> Value:
    """Call `work` in the main process; the others wait for its value, or raise `TrainingError`."""
    if not is_main_process():
        value, failure = broadcast_object_list([None, ""])
        if failure:
            raise TrainingError(f"the main process failed: {failure}")
        return cast(Value, value)
    done: list[Any] = [None, "it was terminated"]
    try:
        value = work()
        done = [value, ""]
        return value
    except Exception as error:
        done[1] = str(error)
        raise
    finally:
        broadcast_object_list(done)


def disconnect() -> None:
    """Destroy the process group, whose threads occasionally abort a finished process."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def check_precision(config: TrainingConfig) -> None:
    """Raise `InputError` for fp16 on a CPU, which Accelerate would silently ignore."""
    if config.precision == "fp16" and processes().device.type == "cpu":
        raise InputError("fp16 needs a GPU; on a CPU use bf16 or float32")


def warn_slow_precision(config: TrainingConfig) -> None:
    """Log a warning for bf16 on a CPU without instructions for it, where known (Linux)."""
    if config.precision != "bf16" or processes().device.type != "cpu" or not _CPU_INFO.exists():
        return
    flags = set(_CPU_INFO.read_text().split())
    if is_main_process() and flags.isdisjoint(_BF16_FLAGS):
        _LOGGER.warning(
            "this CPU has no bf16 instructions (%s), so training with precision bf16 is slower "
            "than without",
            ", ".join(_BF16_FLAGS),
        )


def make_accelerator(config: TrainingConfig, folder: Path | None) -> Accelerator:
    """Return the accelerator; `InputError` if this machine does not support the configuration."""
    check_precision(config)
    processes()  # first, for its timeout
    try:
        accelerator = Accelerator(
            cpu=not torch.cuda.is_available(),
            mixed_precision=config.precision,
            gradient_accumulation_steps=config.accumulate,
            dataloader_config=DataLoaderConfiguration(split_batches=True),
            log_with="tensorboard" if config.tensorboard else None,
            project_dir=folder,
        )
    except ValueError as error:
        raise InputError(
            f"this process cannot train with precision={config.precision!r}: {error}"
        ) from error
    if config.tensorboard:
        accelerator.init_trackers("tensorboard")
    return accelerator


@contextmanager
def sigterm() -> Iterator[threading.Event]:
    """Yield an event that SIGTERM sets, so that training stops between two steps."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event  # signals reach the main thread only
        return
    before = signal.signal(signal.SIGTERM, lambda number, frame: event.set())
    try:
        yield event
    finally:
        signal.signal(signal.SIGTERM, before)


def init_worker(worker: int, *, low_priority: bool) -> None:
    """Initialise a DataLoader worker, which then exits some time after SIGTERM.

    The training process needs its images to finish the step. A worker that ignored the signal
    completely could block the exit of Python, which waits for the workers that remain. With low
    priority, it yields to a training step on a CPU, whose threads all wait for an interrupted one.
    """
    signal.signal(signal.SIGTERM, lambda number, frame: signal.alarm(_GRACE_SECONDS))
    if low_priority and hasattr(os, "nice"):
        os.nice(_LOWEST_PRIORITY)
