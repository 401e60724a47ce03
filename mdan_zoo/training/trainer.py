"""Training loop, on Hugging Face Accelerate, with exact resume."""

from __future__ import annotations

import copy
import functools
import logging
import math
import os
import sys
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from mdan_zoo._util.files import remove_leftovers
from mdan_zoo._util.progress import progress_bar
from mdan_zoo.errors import (
    CheckpointError,
    ImageError,
    InputError,
    TrainingDivergedError,
    TrainingStoppedError,
)
from mdan_zoo.images.preprocessing import Preprocessing
from mdan_zoo.training.dataset import ImageDataset, Steps, collate, number_from
from mdan_zoo.training.distributed import init_worker, make_accelerator, sigterm
from mdan_zoo.training.losses import (
    TrainingStep,
    balancing_weights,
    image_weights,
    rating_targets,
    with_loss_weights,
)
from mdan_zoo.training.optimizer import build_optimizer, set_mode, set_rates
from mdan_zoo.training.recipe import Recipe
from mdan_zoo.training.run import Run
from mdan_zoo.training.state import hash_of_start, load_state, save_state

if TYPE_CHECKING:
    from mdan_zoo.models.base import EmotionModel

_LOGGER = logging.getLogger("mdan_zoo.training")
_MAX_WORKERS = 8


class Trainer:
    """Trains one network on some of a run's samples.

    Args:
        run: The prepared training run, or one of its stages; see `mdan_zoo.training.stages`.
        indices: Indices of the training samples.
        recipe: The recipe; by default that of the run.
        folder: Folder of the log and the state, which is saved after every epoch; None saves
            nothing.
        network: The network, which is trained in place; by default a new one.
    """

    def __init__(
        self,
        run: Run,
        indices: Sequence[int],
        recipe: Recipe | None = None,
        folder: Path | None = None,
        network: EmotionModel | None = None,
    ) -> None:
        if len(indices) < 2:
            raise InputError(f"training needs at least two images, not {len(indices)}")
        recipe = recipe or run.config.recipe
        self.network = network or run.network(recipe.seed)
        self.recipe = with_loss_weights(recipe, self.network)
        self.training = run
        self.config = run.config
        self.indices = list(indices)
        self.dataset = run.data.for_recipe(recipe)
        self.preprocessing = Preprocessing(run.model.input)
        self.folder = folder
        self.accelerator = make_accelerator(self.config, folder)
        self.optimizer = build_optimizer(self.network, self.recipe)
        self._start = hash_of_start(run.backbone_state, run.model.input)
        if self.recipe.init_bias_from_priors:
            # Count a class without images as half an image, since log 0 would make the loss NaN.
            leaves = run.targets[-1][self.indices]
            leaves = leaves[leaves.sum(dim=1) > 0]
            if len(leaves):
                self.network.set_priors(leaves.mean(dim=0).clamp(min=0.5 / len(self.indices)))
        self._ratings = rating_targets(run.learned, self.network.dimensions)
        self.average = copy.deepcopy(self.network).eval() if self.recipe.ema_decay else None
        self.step = 0  # number of completed steps, of all stages
        self._stage = ""
        if recipe.stages:
            ends, level = [0, *recipe.stage_ends], self.network.hierarchy.level_names[-1]
            self._stage = f" (stage {run.stage + 1} of {len(ends) - 1}, {level})"
            self.step = ends[run.stage] * self.steps().per_epoch
        self._first_step = self.step
        self.history: list[dict[str, float]] = []  # one row per epoch
        self.changes: list[dict[str, Any]] = []  # of the recipe on resume
        self._epoch_losses: list[float] = []
        self._timed_from = (0, 0.0)  # a step, and its start time
        self._kept_step: int | None = None  # step of the saved state

    def run(self) -> EmotionModel:
        """Train to the end of the recipe, resuming from the state in the folder, if any.

        Return the network, or the moving average of its weights, in evaluation mode.

        Raises:
            TrainingDivergedError: Loss or weights are no longer finite.
            TrainingError: The state cannot be written.
            TrainingStoppedError: SIGTERM was received; the state has been saved.
            CheckpointError: The folder's state belongs to another recipe or dataset.
        """
        accelerator, recipe = self.accelerator, self.recipe
        model, optimizer = self._distribute()
        self._resume()
        set_mode(self.network, recipe)
        steps = self.steps()
        targets, weights = self._targets()
        ratings = self._ratings.to(accelerator.device)
        total = recipe.epochs * steps.per_epoch
        scale: Any = {"initial": self.step, "unit_scale": steps.step_size}  # shown as images
        shown = accelerator.is_main_process
        with (
            closing(self.loader(steps)) as loader,  # ends the workers on errors, too
            sigterm() as stop,
            progress_bar(f"training{self._stage}", total=total, shown=shown, **scale) as bar,
        ):
            self._timed_from = (self.step, time.perf_counter())
            for number, (inputs, images) in enumerate(loader):
                # Dropout depends on step and process only.
                part = (number % self.config.accumulate, accelerator.process_index)
                torch.manual_seed(number_from(recipe.seed, self.step, *part))
                set_rates(self.optimizer, recipe, self.step, steps.per_epoch)
                levels = [level[images] for level in targets]
                picked = None if weights is None else weights[images]
                with accelerator.accumulate(model):
                    value = model(inputs, levels, picked, ratings[images])
                    stopping = self._note(value, stop)
                    accelerator.backward(value)
                    if accelerator.sync_gradients and recipe.max_grad_norm:
                        accelerator.clip_grad_norm_(model.parameters(), recipe.max_grad_norm)
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
                if ends_epoch or stopping:
                    self._check_weights(inputs, levels)
                    self._save()
                    self._timed_from = (self.step, time.perf_counter())
                if stopping:
                    raise TrainingStoppedError(
                        f"stopped after step {self.step} of {total}; run the same command to resume"
                    )
        return (self.average or self.network).eval()

    def _distribute(self) -> tuple[Any, Any]:
        # Accelerate has one value per process; the environment or another trainer may have set it.
        self.accelerator.gradient_accumulation_steps = self.config.accumulate
        if self.config.channels_last:
            self.network.to(memory_format=torch.channels_last)
        if self.average is not None:
            self.average.to(self.accelerator.device)
        given = self._ratings[self.indices]
        std = (given - given.nanmean(dim=0)).square().nanmean(dim=0).sqrt()
        std = torch.where(std > 0, std, 1)  # of a single rating, or of none
        step: Any = TrainingStep(self.network, self.preprocessing, self.recipe, std)
        if self.config.compile:
            step = torch.compile(step)
        prepared: tuple[Any, Any] = self.accelerator.prepare(step, self.optimizer)
        return prepared

    def steps(self) -> Steps:
        """Return the remaining steps."""
        weights, shares = None, None
        if self.recipe.balance == "sampling":
            weights = balancing_weights(self.training.targets[-1][self.indices])
        if self.recipe.dataset_weights:
            shares = self.training.sampling_shares(self.indices)
        parts, processes = self.config.accumulate, self.accelerator.num_processes
        stage = self.training.stage
        return Steps(self.indices, self.recipe, parts, processes, self.step, weights, shares, stage)

    def loader(self, steps: Steps) -> Generator[Any, None, None]:
        """Yield the batches of this process; closing the generator ends the workers."""
        on_gpu = self.accelerator.device.type == "cuda"
        workers = self.config.workers
        if workers is None:
            workers = min(_MAX_WORKERS, os.cpu_count() or 1)
        loader: Any = DataLoader(
            self.dataset,
            batch_sampler=steps,
            collate_fn=collate,
            num_workers=workers if isinstance(self.dataset, ImageDataset) else 0,
            pin_memory=on_gpu,
            worker_init_fn=functools.partial(init_worker, low_priority=not on_gpu),
        )
        for batch in self.accelerator.prepare(loader):
            if isinstance(batch, ImageError):
                raise batch
            yield batch

    def _targets(self) -> tuple[tuple[Tensor, ...], Tensor | None]:
        """Return the targets of every level, (N, K_l), and the weights of the images."""
        targets, device = self.training.targets, self.accelerator.device
        own = [level[self.indices] for level in targets]
        found, weights = image_weights(own, self.recipe.balance == "loss"), None
        if found is not None:
            weights = torch.ones(len(targets[0]))
            weights[self.indices] = found
            weights = weights.to(device)
        return tuple(level.to(device) for level in targets), weights

    def _note(self, value: Tensor, stop: threading.Event) -> bool:
        """Record a loss; return whether any process received SIGTERM."""
        mine = torch.stack([value.detach().float(), value.new_tensor(float(stop.is_set())).float()])
        mean, stopping = self.accelerator.reduce(mine, reduction="mean").tolist()
        if not math.isfinite(mean):
            raise self._explosion(f"the loss became {mean} in step {self.step + 1}")
        self._epoch_losses.append(mean)
        return bool(stopping > 0)

    @torch.no_grad()
    def _check_weights(self, inputs: Any, targets: list[Tensor]) -> None:
        """Raise an error if the last update ruined the weights, before the state is replaced.

        Finite weights may still overflow, so the loss of the last batch is computed again, in
        evaluation mode.
        """
        values = []
        networks = [self.network] if self.average is None else [self.network, self.average]
        for network in networks:
            step = TrainingStep(network, self.preprocessing, self.recipe).eval()
            with self.accelerator.autocast():
                value = step(inputs, targets, None).float()
            finite = all(tensor.isfinite().all() for tensor in network.state_dict().values())
            values.append(value if finite else value * math.nan)
        set_mode(self.network, self.recipe)
        mean = self.accelerator.reduce(torch.stack(values).mean(), reduction="mean").item()
        if not math.isfinite(mean):
            raise self._explosion(f"the update in step {self.step} ruined the weights")

    def _explosion(self, what: str) -> TrainingDivergedError:
        advice = "A lower learning rate may help"
        if self._kept_step is not None:
            kept = f"The state after step {self._kept_step} is kept"
            advice = f"{kept}; resume from it with a lower learning rate"
        return TrainingDivergedError(f"{what}. {advice}")

    @torch.no_grad()
    def _update_average(self) -> None:
        if self.average is None:
            return
        # A lower decay at the start quickly discards the initial weights.
        step = self.step - self._first_step
        decay = min(self.recipe.ema_decay, (1 + step) / (10 + step))
        current = self.network.state_dict()
        for name, kept in self.average.state_dict().items():
            if kept.is_floating_point():
                kept.lerp_(current[name], 1 - decay)
            else:
                kept.copy_(current[name])

    def _end_epoch(self, steps: Steps) -> None:
        first, started = self._timed_from
        rate = steps.step_size * (self.step - first) / (time.perf_counter() - started)
        epoch = self.step // steps.per_epoch
        loss = sum(self._epoch_losses) / len(self._epoch_losses)
        lr = self.optimizer.param_groups[0]["lr"]
        row = {"epoch": float(epoch), "loss": loss, "learning_rate": lr, "images_per_second": rate}
        if self.recipe.stages:
            row["stage"] = self.training.stage + 1.0
        self.history.append(row)
        self._epoch_losses = []
        if self.config.tensorboard:
            self.accelerator.log(row, step=epoch)
        if not sys.stderr.isatty():  # the bar of a terminal would be torn
            left = (self.recipe.epochs - epoch) * steps.per_epoch * steps.step_size / rate
            self._print(
                f"epoch {epoch} of {self.recipe.epochs}{self._stage}: loss {loss:.4f}, "
                f"{rate:.1f} images/s, {tqdm.format_interval(left)} left"
            )

    def _print(self, text: str) -> None:
        if self.folder is not None and self.accelerator.is_main_process:
            print(text, file=sys.stderr, flush=True)

    def _identity(self) -> dict[str, Any]:
        dimensions = [str(dimension) for dimension in self.network.dimensions]
        options = self.training.model.options
        return {
            "data": self.training.fingerprint,
            "split": self.indices,
            "backbone to start from": self._start,
            "step size": self.steps().step_size,  # the state counts steps
            # Older states lack these fields.
            **({"dimensions": dimensions} if dimensions else {}),
            **({"options": str(options)} if self.config.options else {}),
        }

    def _parts(self) -> dict[str, Any]:
        """Return the objects with a state dict, and None for those that are not used."""
        own = {name: getattr(self, name) for name in ("network", "average", "optimizer")}
        return {**own, "scaler": self.accelerator.scaler}

    def _save(self) -> None:
        if self.folder is None:
            return
        if self.accelerator.is_main_process:
            state = {
                "step": self.step,
                "history": self.history,
                "epoch_losses": self._epoch_losses,
                "changes": self.changes,
                **{name: part and part.state_dict() for name, part in self._parts().items()},
            }
            save_state(self.folder, self.recipe, self._identity(), state)
        self._kept_step = self.step
        self.accelerator.wait_for_everyone()

    def _resume(self) -> None:
        if self.folder is None:
            return
        if self.accelerator.is_main_process:
            remove_leftovers(self.folder)
        state = load_state(self.folder, self.recipe, self._identity())
        if state is None:
            return
        steps, self._kept_step = self.steps(), state["step"]
        if state["step"] > steps.end:  # the state is that of a later stage, which loads it
            self.step = steps.end
            return
        self.history, self.changes = state["history"], state["changes"]
        left = self.recipe.epochs * steps.per_epoch - state["step"]
        if state["step"] > self.step:  # else it is that of the stage before
            self._load(state)
            where = f"after step {self.step}, {left} steps left" if left else "which is complete"
            self._print(f"resuming the training in {self.folder}, {where}")
        change = state["change"]
        if not change:
            return
        if not left:
            raise CheckpointError(
                f"the training in {self.folder} is complete, with another recipe: "
                f"{change['from']}. Choose another output folder"
            )
        self.changes.append({"step": self.step, **change})
        if self.accelerator.is_main_process:
            _LOGGER.warning("resuming from step %d with another recipe: %s", self.step, change)

    def _load(self, state: dict[str, Any]) -> None:
        rates = [group["rate"] for group in self.optimizer.param_groups]
        for name, part in self._parts().items():
            if part is not None and state[name] is not None:
                part.load_state_dict(state[name])
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["rate"] = rate
        self.step = state["step"]
        self._epoch_losses = state["epoch_losses"]
