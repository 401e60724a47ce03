"""The training loop, on Hugging Face Accelerate: one process or many, resumed exactly."""

from __future__ import annotations

import copy
import logging
import math
import sys
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from mdan_zoo._util.files import remove_leftovers
from mdan_zoo.errors import CheckpointError, InputError, TrainingError, TrainingStoppedError
from mdan_zoo.images.preprocessing import Preprocessing
from mdan_zoo.training.dataset import ImageDataset, Steps, number_from, with_plain_errors
from mdan_zoo.training.distributed import make_accelerator
from mdan_zoo.training.feature_cache import CachedViews
from mdan_zoo.training.losses import balancing_weights, level_targets
from mdan_zoo.training.machine import Machine
from mdan_zoo.training.optimizer import build_optimizer, rate_factor, set_mode
from mdan_zoo.training.recipe import Recipe
from mdan_zoo.training.shutdown import sigterm
from mdan_zoo.training.state import (
    changeable_fields,
    changes_since,
    epoch_line,
    fixed_fields,
    hash_of_start,
    load_state,
    save_log,
    save_state,
)
from mdan_zoo.training.step import TrainingStep
from mdan_zoo.training.workers import defer_sigterm, read_beside_cpu

if TYPE_CHECKING:
    from mdan_zoo.models import EmotionNetwork

_LOGGER = logging.getLogger("mdan_zoo.training")


@dataclass(frozen=True)
class TrainingSet:
    """What a network learns from.

    Attributes:
        dataset: The images, or cached maps of them.
        preprocessing: Makes the network's input of images.
        leaves: Distribution over the leaves of every image, (N, K_n).
        indices: Which of the images are trained on.
        fingerprint: Changes with the data; a training is not resumed on others.
    """

    dataset: ImageDataset | CachedViews
    preprocessing: Preprocessing
    leaves: Tensor
    indices: Sequence[int]
    fingerprint: str = ""

    def __post_init__(self) -> None:
        if len(self.indices) < 2:
            raise InputError(f"a training needs at least two images, not {len(self.indices)}")


class Trainer:
    """Trains the network that it is given, in place.

    Args:
        network: A network of this zoo, with its backbone's weights loaded.
        data: What to learn from.
        recipe: How.
        folder: Gets a state after every epoch, from which a later `Trainer` goes on, and a log.
            None keeps nothing. With several machines it must be one that all of them see.
        machine: How this machine runs it.

    Attributes:
        step: How many steps have been made.
        history: A row for each epoch, as the log has it.
        changes: Where the training went on with other rates: the step, and "from" and "to" what.
    """

    def __init__(
        self,
        network: EmotionNetwork,
        data: TrainingSet,
        recipe: Recipe,
        folder: Path | None = None,
        machine: Machine = Machine(),  # noqa: B008 - frozen
    ) -> None:
        self.network = network
        self.data = data
        self.recipe = recipe
        self.folder = folder
        self.machine = machine
        self.accelerator = make_accelerator(recipe, folder, machine)
        self.optimizer = build_optimizer(network, recipe)
        self._start = hash_of_start(network.backbone, data.preprocessing.spec)
        if recipe.init_bias_from_priors:
            self._start_at_base_rates()
        self.average = copy.deepcopy(network).eval() if recipe.ema_decay else None
        self.step = 0
        self.history: list[dict[str, float]] = []
        self.changes: list[dict[str, Any]] = []
        self._epoch_losses: list[float] = []
        self._timed_from = (0, 0.0)  # a step, and when it began
        self._kept_step: int | None = None  # of the state in the folder

    def run(self) -> EmotionNetwork:
        """Train to the recipe's end, from the folder's state if there is one.

        Returns:
            The network, or the average of its weights, on the device, in evaluation mode.

        Raises:
            TrainingError: Loss or weights are no longer finite, or the state cannot be written.
            TrainingStoppedError: SIGTERM came; the state has been written.
            CheckpointError: The folder's state belongs to another recipe or data set.
        """
        accelerator = self.accelerator
        model, optimizer = self._distribute()
        self._resume()
        set_mode(self.network, self.recipe)
        steps = self.steps()
        targets, weights = self._targets()
        total = self.recipe.epochs * steps.per_epoch
        with (
            closing(self.loader(steps)) as loader,  # or an error would keep the reading processes
            sigterm() as stop,
            self._progress_bar(total) as bar,
        ):
            self._timed_from = (self.step, time.perf_counter())
            for number, (inputs, images) in enumerate(loader):
                self._seed(number)
                self._set_rates(steps.per_epoch)
                with accelerator.accumulate(model):
                    picked = None if weights is None else weights[images]
                    value = model(inputs, [level[images] for level in targets], picked)
                    stopping = self._note(value, stop)
                    accelerator.backward(value)
                    if accelerator.sync_gradients and self.recipe.max_grad_norm:
                        accelerator.clip_grad_norm_(model.parameters(), self.recipe.max_grad_norm)
                    optimizer.step()
                    optimizer.zero_grad()
                if not accelerator.sync_gradients:
                    continue
                self._update_average()
                self.step += 1
                bar.update()
                ends_epoch = self.step % steps.per_epoch == 0
                if ends_epoch:
                    self._end_epoch(steps)
                    if bar.disable:
                        self._tell(epoch_line(self.history[-1], self.recipe.epochs))
                if ends_epoch or stopping:
                    self._check_weights(inputs, [level[images] for level in targets])
                    self._save()
                    self._timed_from = (self.step, time.perf_counter())
                if stopping:
                    raise TrainingStoppedError(
                        f"stopped after step {self.step} of {total}; the same command goes on"
                    )
        result = self.network if self.average is None else self.average
        return result.eval()

    # Set up

    def _distribute(self) -> tuple[Any, Any]:
        """Return the step and the optimizer as the machine and all its processes run them."""
        accelerator, machine = self.accelerator, self.machine
        # One number a process: the environment, or a trainer made meanwhile, may have changed it.
        accelerator.gradient_accumulation_steps = machine.accumulate
        layout = torch.channels_last if machine.channels_last else torch.preserve_format
        self.network.to(memory_format=layout)
        if self.average is not None:
            self.average.to(accelerator.device)
        step = TrainingStep(self.network, self.data.preprocessing, self.recipe)
        model, optimizer = accelerator.prepare(
            torch.compile(step) if machine.compile else step, self.optimizer
        )
        return model, optimizer

    @torch.no_grad()
    def _start_at_base_rates(self) -> None:
        # A class without an image counts as half an image: the logarithm of 0 makes the loss NaN.
        rarest = 0.5 / len(self.data.indices)
        frequencies = self.data.leaves[list(self.data.indices)].mean(dim=0).clamp(min=rarest)
        self.network.global_classifier.weight.zero_()
        self.network.global_classifier.bias.copy_(frequencies.log())

    def steps(self) -> Steps:
        """Return the steps that are left."""
        accelerator, machine, recipe = self.accelerator, self.machine, self.recipe
        leaves = self.data.leaves[list(self.data.indices)]
        steps = Steps(
            self.data.indices,
            recipe,
            parts=machine.accumulate,
            processes=accelerator.num_processes,
            start=self.step,
            weights=balancing_weights(leaves) if recipe.balance == "sampling" else None,
        )
        if not steps.step_size:
            raise InputError(
                f"a step of {min(recipe.batch_size, len(self.data.indices))} images cannot be "
                f"divided among {accelerator.num_processes} processes with {machine.accumulate} "
                "parts each; raise batch_size"
            )
        return steps

    def loader(self, steps: Steps) -> Generator[Any, None, None]:
        """Return what loads this process's part of every step; its close ends all reading."""
        accelerator, machine = self.accelerator, self.machine
        workers = 0 if isinstance(self.data.dataset, CachedViews) else machine.worker_count
        on_gpu = accelerator.device.type == "cuda"
        loader: Any = DataLoader(
            self.data.dataset,
            batch_sampler=steps,
            num_workers=workers,
            pin_memory=on_gpu,
            worker_init_fn=defer_sigterm if on_gpu else read_beside_cpu,
        )
        return with_plain_errors(accelerator.prepare(loader))

    def _targets(self) -> tuple[tuple[Tensor, ...], Tensor | None]:
        """Return what to learn at every level, (N, K_l), and the images' weights."""
        device = self.accelerator.device
        leaves = self.data.leaves
        targets = level_targets(leaves, self.network.hierarchy)
        weights = None
        if self.recipe.balance == "loss":
            weights = torch.ones(len(leaves))
            indices = list(self.data.indices)
            weights[indices] = balancing_weights(leaves[indices])
            weights = weights.to(device)
        return tuple(level.to(device) for level in targets), weights

    # During a step

    def _seed(self, part: int) -> None:
        """Let dropout depend on the step and the process, not on what was drawn before."""
        torch.manual_seed(
            number_from(
                self.recipe.seed,
                self.step,
                part % self.machine.accumulate,
                self.accelerator.process_index,
            )
        )

    def _set_rates(self, steps_per_epoch: int) -> None:
        factor = rate_factor(self.recipe, self.step, steps_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = group["rate"] * factor

    def _note(self, value: Tensor, stop: threading.Event) -> bool:
        """Add a loss to the epoch's; return whether any process was told to stop."""
        mine = torch.stack([value.detach().float(), value.new_tensor(float(stop.is_set())).float()])
        mean, stopping = self.accelerator.reduce(mine, reduction="mean").tolist()
        if not math.isfinite(mean):
            raise self._explosion(f"the loss became {mean} in step {self.step + 1}")
        self._epoch_losses.append(mean)
        return bool(stopping > 0)

    @torch.no_grad()
    def _check_weights(self, inputs: Any, targets: list[Tensor]) -> None:
        """Refuse weights that the last update ruined, before they replace a good state.

        They may be finite and still too large to compute with, so the last images go through the
        network once more, as it will be used.
        """
        values = []
        networks = [self.network] if self.average is None else [self.network, self.average]
        for network in networks:
            step = TrainingStep(network, self.data.preprocessing, self.recipe).eval()
            with self.accelerator.autocast():
                value = step(inputs, targets, None).float()
            finite = all(tensor.isfinite().all() for tensor in network.state_dict().values())
            values.append(value if finite else value * math.nan)
        set_mode(self.network, self.recipe)
        mean = self.accelerator.reduce(torch.stack(values).mean(), reduction="mean").item()
        if not math.isfinite(mean):
            raise self._explosion(f"the update in step {self.step} ruined the weights")

    def _explosion(self, what: str) -> TrainingError:
        if self._kept_step is None:
            return TrainingError(f"{what}. A lower learning rate may help")
        kept = f"The state after step {self._kept_step} is kept"
        return TrainingError(f"{what}. {kept}; go on from it with a lower learning rate")

    @torch.no_grad()
    def _update_average(self) -> None:
        if self.average is None:
            return
        # The start is forgotten quickly.
        decay = min(self.recipe.ema_decay, (1 + self.step) / (10 + self.step))
        current = self.network.state_dict()
        for name, kept in self.average.state_dict().items():
            if kept.is_floating_point():
                kept.lerp_(current[name], 1 - decay)
            else:
                kept.copy_(current[name])

    # After an epoch

    def _end_epoch(self, steps: Steps) -> None:
        first, started = self._timed_from
        seconds = time.perf_counter() - started
        row = {
            "epoch": float(self.step // steps.per_epoch),
            "loss": sum(self._epoch_losses) / len(self._epoch_losses),
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "images_per_second": steps.step_size * (self.step - first) / seconds,
        }
        self.history.append(row)
        self._epoch_losses = []
        if self.machine.tensorboard:
            self.accelerator.log(row, step=int(row["epoch"]))

    def _tell(self, text: str) -> None:
        """Print a line, also where there is no terminal for a bar, but a job's log."""
        if self.folder is not None and self.accelerator.is_main_process:
            print(text, file=sys.stderr, flush=True)

    def _progress_bar(self, total: int) -> Any:
        hidden = None if self.accelerator.is_main_process else True  # None: unless on a terminal
        return tqdm(total=total, initial=self.step, unit="step", disable=hidden)

    def _identity(self) -> dict[str, Any]:
        return {
            "recipe": fixed_fields(self.recipe),
            "data": self.data.fingerprint,
            "split": list(self.data.indices),
            "backbone to start from": self._start,
            "step size": self.steps().step_size,  # steps are counted, and make up an epoch
        }

    def _save(self) -> None:
        """Write state and log from the main process; all others wait for it."""
        if self.folder is None:
            return
        if self.accelerator.is_main_process:
            scaler = self.accelerator.scaler
            state = {
                "step": self.step,
                "history": self.history,
                "epoch_losses": self._epoch_losses,
                "rates": changeable_fields(self.recipe),
                "changes": self.changes,
                "network": self.network.state_dict(),
                "average": None if self.average is None else self.average.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": None if scaler is None else scaler.state_dict(),
            }
            save_state(self.folder, self._identity(), state)
            save_log(self.folder, self.history)
        self._kept_step = self.step
        self.accelerator.wait_for_everyone()

    def _resume(self) -> None:
        if self.folder is not None and self.accelerator.is_main_process:
            remove_leftovers(self.folder)
        state = None if self.folder is None else load_state(self.folder, self._identity())
        if state is None:
            return
        self.network.load_state_dict(state["network"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        rates = [group["rate"] for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(state["optimizer"])
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["rate"] = rate
        if self.accelerator.scaler is not None and state["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.step = self._kept_step = state["step"]
        self.history = state["history"]
        self._epoch_losses = state["epoch_losses"]
        self.changes = state["changes"]
        left = len(self.steps())
        where = f"after step {self.step}, {left} are left" if left else "which is over"
        self._tell(f"going on with the training in {self.folder}, {where}")
        change = changes_since(state["rates"], self.recipe)
        if not change:
            return
        if not left:
            raise CheckpointError(
                f"the training in {self.folder} is over; it had another recipe, with "
                f"{change['from']}. Give another output folder"
            )
        self.changes.append({"step": self.step, **change})
        if self.accelerator.is_main_process:
            _LOGGER.warning("going on from step %d with another recipe: %s", self.step, change)
