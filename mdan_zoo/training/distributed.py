"""Distributed training: process group and set-up of Accelerate."""

from __future__ import annotations

from collections.abc import Callable
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


def processes() -> PartialState:
    """Return the state of the process group."""
    # Without a GPU, the processes of torchrun connect only with cpu=True.
    return PartialState(cpu=not torch.cuda.is_available(), timeout=_PATIENCE)


def is_main_process() -> bool:
    """Return whether this is the main process, the one that writes files."""
    return bool(processes().is_main_process)


def in_main_process(work: Callable[[], Value]) -> Value:
    """Call `work` in the main process only; the others wait and get its return value.

    Raises:
        TrainingError: In the other processes, if `work` failed in the main one.
    """
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
    """Destroy the process group at the end of a program.

    Its threads otherwise occasionally abort a finished process.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def check_precision(config: TrainingConfig) -> None:
    """Raise `InputError` for fp16 on a CPU, which Accelerate would silently ignore."""
    if config.precision == "fp16" and processes().device.type == "cpu":
        raise InputError("fp16 needs a GPU; on a CPU use bf16 or float32")


def make_accelerator(config: TrainingConfig, folder: Path | None) -> Accelerator:
    """Return the accelerator of a training run.

    Raises:
        InputError: This machine does not support the configuration.
    """
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
