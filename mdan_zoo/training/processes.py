"""The processes that train together, and what Accelerate is told of them."""

from __future__ import annotations

from pathlib import Path

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DataLoaderConfiguration, DistributedDataParallelKwargs

from mdan_zoo.errors import InputError
from mdan_zoo.training.machine import Machine
from mdan_zoo.training.recipe import Recipe


def processes() -> PartialState:
    """Return what this process knows of the others."""
    # Without a GPU torchrun's processes meet only if they are told to use the CPU.
    return PartialState(cpu=not torch.cuda.is_available())


def is_main_process() -> bool:
    """Tell whether this process is the one that writes, of the several that may train together."""
    return bool(processes().is_main_process)


def make_accelerator(recipe: Recipe, folder: Path | None, machine: Machine) -> Accelerator:
    """Return what distributes a training as the machine says.

    Raises:
        InputError: The machine cannot run it so.
    """
    # A loss that leaves a branch out leaves its classifiers without gradients.
    partial = not recipe.overall_weight and not (recipe.local_weight and recipe.global_weight)
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
