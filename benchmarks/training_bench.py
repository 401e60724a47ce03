"""Measurements for `training_throughput.py`: the trainer, its data loader and its loop."""

from __future__ import annotations

import copy
import dataclasses
import functools
import gc
import itertools
import math
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from accelerate.utils import send_to_device
from top_down_cost import is_out_of_memory
from torch import Tensor
from torch.utils.data import default_collate

from mdan_zoo.backbones.pyramid import build_backbone
from mdan_zoo.datasets.sample import Sample
from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.images.load import ImageOptions
from mdan_zoo.models.base import EmotionOutput
from mdan_zoo.models.config import ModelConfig
from mdan_zoo.models.mdan import reference
from mdan_zoo.models.mdan.network import MDAN
from mdan_zoo.training.config import TrainingConfig
from mdan_zoo.training.dataset import ImageDataset, Steps
from mdan_zoo.training.feature_cache import PyramidCache, compute_pyramids
from mdan_zoo.training.recipe import Recipe, load_recipe
from mdan_zoo.training.run import Run
from mdan_zoo.training.trainer import Trainer
from mdan_zoo.zoo.factory import build_network, get_config

if TYPE_CHECKING:
    from mdan_zoo.models.base import EmotionModel

TINY_RATE = 1e-9  # avoids divergence of random weights

T = TypeVar("T", bound=Trainer)


@dataclass(frozen=True)
class Job:
    """One measurement. The last three fields are empty if no images are read."""

    model: str
    backbone: str
    network: str
    size: int
    batch: int
    device: str
    threads: int
    precision: str
    channels_last: bool
    compiled: bool
    measured: str
    images: str = ""
    decoding: str = ""
    workers: int | None = None


@dataclass(frozen=True)
class Turn:
    """Result of one run of a job.

    Attributes:
        seconds: Mean step time.
        step_seconds: Step time without data loading, mean of before and after; "training" only.
        waiting_seconds: Mean waiting time for images per step; "training" only.
        peak_bytes: Peak size of all tensors; GPU only.
    """

    seconds: float
    step_seconds: float | None = None
    waiting_seconds: float | None = None
    peak_bytes: int | None = None


class NaiveMDAN(MDAN):
    """MDAN with the formulas of the paper as printed."""

    def forward(self, images: Tensor, return_maps: bool = False) -> EmotionOutput:
        """Predict as `MDAN.forward` does, without maps."""
        pyramid = list(self.backbone(images))
        local, global_, overall, *_ = reference.forward(self, pyramid)
        log_local, log_global, log_overall = (
            # A probability that underflows in float32 would make the loss infinite.
            tuple(level.clamp_min(torch.finfo(level.dtype).tiny).log() for level in levels)
            for levels in (local, global_, overall)
        )
        features = pyramid[3].mean(dim=(2, 3))
        log_probs = {"overall": log_overall, "local": log_local, "global": log_global}
        return EmotionOutput(log_probs, features)


class StepTrainer(Trainer):
    """Training loop only: the loader repeats one batch on the device."""

    def loader(self, steps: Steps) -> Generator[Any, None, None]:
        """Yield the first batch for every step."""
        keys = next(iter(steps))
        batch = default_collate([self.dataset[key] for key in keys])
        on_device = send_to_device(batch, self.accelerator.device)
        yield from itertools.repeat(on_device, len(steps))


class WaitingTrainer(Trainer):
    """The trainer, with the waiting time for images recorded."""

    def loader(self, steps: Steps) -> Generator[Any, None, None]:
        """Yield the batches of the loader."""
        self.waits: list[float] = []
        with closing(super().loader(steps)) as loader:
            start = time.perf_counter()
            for batch in loader:
                self.waits.append(time.perf_counter() - start)
                yield batch
                start = time.perf_counter()

    def seconds_waited(self) -> float:
        """Return the average over the second epoch."""
        count = self.steps().per_epoch
        return fmean(self.waits[count : 2 * count])


class InputTrainer(Trainer):
    """Data loader only: batches are discarded."""

    def seconds_per_batch(self) -> float:
        """Return the average over the second epoch."""
        steps = self.steps()
        count = steps.per_epoch
        ends = [time.perf_counter() for _ in self.loader(steps)]
        return (ends[2 * count - 1] - ends[count - 1]) / count


class Bench:
    """Runs jobs and holds their shared state.

    Args:
        images: Files by name of the set.
        cache: Folder for images at the size needed for training.
        steps: Minimum steps per epoch; increased with the number of workers.
    """

    def __init__(self, images: Mapping[str, Sequence[Path]], cache: Path, steps: int) -> None:
        self.images = images
        self.cache = cache
        self.steps = steps
        self.build = functools.lru_cache(build)
        self.dataset = functools.lru_cache(self._dataset)

    def turn(self, job: Job) -> Turn | None:
        """Measure a job once; return None if it runs out of memory."""
        try:
            if job.measured == "input":
                return Turn(self._trainer(InputTrainer, job).seconds_per_batch())
            if job.measured == "step":
                return self._run(StepTrainer, job)
            before = self._run(StepTrainer, job)
            both = self._run(WaitingTrainer, job)
            after = self._run(StepTrainer, job)
            alone = (before.seconds + after.seconds) / 2
            return dataclasses.replace(both, step_seconds=alone)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            return None
        finally:
            clear_memory()

    def _run(self, kind: type[Trainer], job: Job) -> Turn:
        clear_memory()
        on_gpu = job.device == "cuda"
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        trainer = self._trainer(kind, job)
        trainer.run()
        return Turn(
            job.batch / trainer.history[1]["images_per_second"],
            waiting_seconds=trainer.seconds_waited() if kind is WaitingTrainer else None,
            peak_bytes=torch.cuda.max_memory_allocated() if on_gpu else None,
        )

    def _trainer(self, kind: type[T], job: Job) -> T:
        config, recipe = config_of(job), recipe_of(job, epochs=2 if kind is StepTrainer else 3)
        network = copy.deepcopy(self.build(config, job.network))
        # A job that reads no images takes its one batch from any set.
        name = job.images or min(self.images)
        # Steps on cached maps are so short that few of them measure the machine's moods.
        steps = self.steps * 10 if job.decoding == "views" else self.steps
        count = max(steps, job.workers or 0) * job.batch
        samples = self._samples(name)
        sizes = network.hierarchy.sizes
        run = Run(
            config=TrainingConfig(
                recipe,
                Path("data"),
                Path("output"),
                precision=job.precision,
                channels_last=job.channels_last,
                compile=job.compiled,
                workers=job.workers or 0,
            ),
            hierarchy=network.hierarchy,
            samples=samples,
            sources=(),
            model=config,
            data=self.dataset(config, name, job.decoding),
            targets=tuple(torch.full((len(samples), size), 1 / size) for size in sizes),
            backbone_state={},
        )
        indices = [number % len(samples) for number in range(count)]
        return kind(run, indices, network=network)

    def _samples(self, name: str) -> list[Sample]:
        return [Sample(file, (0,), (1.0,), "") for file in self.images[name]]

    def _dataset(
        self, config: ModelConfig, name: str, decoding: str
    ) -> ImageDataset | PyramidCache:
        samples = self._samples(name)
        recipe = load_recipe(config.name)
        if decoding == "views":
            backbone = copy.deepcopy(self.build(config, "fast").backbone)
            return compute_pyramids(backbone, samples, config.input, recipe, self.cache)
        dataset = ImageDataset(samples, config.input, recipe)
        if decoding == "full":
            dataset.options = ImageOptions()
        if decoding == "cache":
            dataset.cache = self.cache
            for index in range(len(dataset)):
                dataset.load(index)  # fills the cache
        return dataset


def clear_memory() -> None:
    """Free the memory of trainers, including GPU memory."""
    gc.collect()
    torch.cuda.empty_cache()


def config_of(job: Job) -> ModelConfig:
    """Return the model's config with the job's backbone and crop, resized in proportion."""
    config = get_config(job.model)
    resize = math.ceil(job.size * config.input.resize / config.input.crop)
    spec = dataclasses.replace(config.input, crop=job.size, resize=resize)
    return dataclasses.replace(config, backbone=job.backbone, input=spec)


def recipe_of(job: Job, epochs: int) -> Recipe:
    """Return the recipe of the model, with random crops unless cached views are measured.

    The second epoch is measured. In the first, workers start and the network is compiled. The third
    keeps the workers busy until the end of the second.
    """
    recipe = load_recipe(job.model)
    return dataclasses.replace(
        recipe,
        init="",
        cached_views=recipe.cached_views if job.decoding == "views" else 0,
        epochs=epochs,
        batch_size=job.batch,
        lr=TINY_RATE,
        backbone_lr=min(TINY_RATE, recipe.backbone_lr),
    )


def build(config: ModelConfig, network: str) -> EmotionModel:
    """Return a network with random weights."""
    torch.manual_seed(0)
    if network == "fast":
        return build_network(config)
    backbone, channels = build_backbone(config.backbone, config.input.crop)
    return NaiveMDAN(backbone, channels, get_hierarchy(config.hierarchy), config.options)
