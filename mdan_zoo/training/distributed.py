"""The processes that train together, and what Accelerate is told of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import (
    DataLoaderConfiguration,
    DistributedDataParallelKwargs,
    broadcast_object_list,
)

from mdan_zoo.errors import InputError, TrainingError
from mdan_zoo.training.machine import Machine
from mdan_zoo.training.recipe import Recipe

Value = TypeVar("Value")

_PATIENCE = timedelta(hours=6)
"""How long processes wait for the main one, which decodes and tests alone; torch has 10 minutes."""


def processes() -> PartialState:
    """Return what this process knows of the others."""
    # Without a GPU torchrun's processes meet only if they are told to use the CPU.
    return PartialState(cpu=not torch.cuda.is_available(), timeout=_PATIENCE)


def is_main_process() -> bool:
    """Tell whether this process is the one that writes, of the several that may train together."""
    return bool(processes().is_main_process)


def in_main_process(work: Callable[[], Value]) -> Value:
    """Do some work in the main process alone; the others wait, and get what it returned.

    Raises:
        TrainingError: In the others, where the work failed; the main process has its error.
    """
    if not is_main_process():
        value, failure = broadcast_object_list([None, ""])
        if failure:
            raise TrainingError(f"the main process could not go on: {failure}")
        return cast(Value, value)
    done: list[Any] = [None, "it was ended"]
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
    """End what connects the processes, at the end of a program that trained with several.

    Its threads otherwise run until Python is gone, and now and then abort a process that is done.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def check_precision(machine: Machine) -> None:
    """Raise `InputError` for a precision that Accelerate would leave out without a word."""
    if machine.precision == "fp16" and processes().device.type == "cpu":
        raise InputError("fp16 is for GPUs; a CPU trains in bf16, or without --precision")


def make_accelerator(recipe: Recipe, folder: Path | None, machine: Machine) -> Accelerator:
    """Return what distributes a training as the machine says.

    Raises:
        InputError: The machine cannot run it so.
    """
    # A loss that leaves a branch out leaves its classifiers without gradients.
    partial = not recipe.overall_weight and not (recipe.local_weight and recipe.global_weight)
    check_precision(machine)
    processes()  # first, for its patience
    try:
        accelerator = Accelerator(
            cpu=not torch.cuda.is_available(),
            mixed_precision=machine.precision,
            gradient_accumulation_steps=machine.accumulate,
            dataloader_config=DataLoaderConfiguration(split_batches=True),
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=partial)],
            log_with="tensorboard" if machine.tensorboard else None,
            project_dir=folder,
        )
    except ValueError as error:
        raise InputError(f"a training cannot run here as {machine}: {error}") from error
    if machine.tensorboard:
        accelerator.init_trackers("tensorboard")
    return accelerator
