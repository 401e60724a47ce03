"""Training pipeline: prepare, train one network or one per fold, test, and report."""

from __future__ import annotations

import functools
import logging
import os
from pathlib import Path
from typing import Any

import torch

from mdan_zoo.datasets.splits import select, split_sha256
from mdan_zoo.errors import InputError
from mdan_zoo.evaluation import SampleSource, evaluate, write_report
from mdan_zoo.evaluation.leakage import save_trained_on
from mdan_zoo.inference.predictor import Predictor
from mdan_zoo.training.config import TrainingConfig
from mdan_zoo.training.dataset import check_images
from mdan_zoo.training.distributed import (
    check_precision,
    in_main_process,
    is_main_process,
    warn_slow_precision,
)
from mdan_zoo.training.feature_cache import remove_caches
from mdan_zoo.training.report import TEST_FOLDER, add_cross_validation, describe_run
from mdan_zoo.training.report import write_report as write_training_report
from mdan_zoo.training.run import WEIGHTS_FILE, Run, prepare
from mdan_zoo.training.splitting import keep_split, training_sets
from mdan_zoo.training.state import has_state
from mdan_zoo.training.trainer import Trainer
from mdan_zoo.weights.checkpoint import save_checkpoint

_LOGGER = logging.getLogger("mdan_zoo.training")


def train(config: TrainingConfig) -> Path:
    """Train a model and evaluate it on the test part of the split.

    With folds, one network is trained and evaluated per fold, then a final one on all images.
    Returns the path of the checkpoint. Errors are those of `prepare` and `Trainer.run`.
    """
    check_output(config.output, config.data)
    check_precision(config)
    warn_slow_precision(config)
    run = prepare(config)
    if not config.recipe.cached_views and not has_state(config.output):
        check_images(run.samples, run.files)  # `prepare` checks those whose maps are cached
    if run.split is not None:
        keep_split(run.split, config.output)
    sets = training_sets(run.samples, config.folder, run.split)
    output = config.output
    if len(sets) == 1:
        ((part, indices),) = sets.items()
        path = _train_one(run, indices, output, part)
    else:
        folds = [_train_one(run, sets[part], output / f"fold_{part}", part).parent for part in sets]
        path = _train_one(run, list(range(len(run.samples))), output)
        in_main_process(functools.partial(add_cross_validation, output, folds))
    in_main_process(functools.partial(remove_caches, output))  # those in config.cache are kept
    return path


def check_output(folder: Path, data: Path) -> None:
    """Raise `InputError` if the output folder is not writable, or is inside the data."""
    path = folder.resolve()
    if data.is_dir() and path.is_relative_to(data.resolve()):
        raise InputError(
            f"the output must be outside the data, not {folder} in {data}: later runs would read "
            "it as a class"
        )
    existing = next(place for place in (path, *path.parents) if place.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise InputError(
            f"the output must be a folder that is writable, not {folder}: {existing} is "
            + ("not writable" if existing.is_dir() else "a file")
        )


def _train_one(run: Run, indices: list[int], folder: Path, test_part: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    recipe = run.config.recipe.for_images(len(indices))
    if recipe.epochs > run.config.recipe.epochs and is_main_process():
        _LOGGER.warning(
            f"training for {recipe.epochs} epochs instead of {run.config.recipe.epochs}, because "
            f"{len(indices)} images need them for min_steps={recipe.min_steps}; use "
            f"--set epochs={run.config.recipe.epochs} for a shorter training"
        )
    trainer = Trainer(run, indices, recipe, folder)
    network = trainer.run()
    path = folder / WEIGHTS_FILE

    def write() -> None:
        save_checkpoint(path, network, run.model, dtype=getattr(torch, recipe.save_dtype))
        save_trained_on(
            path,
            [run.samples[index].image for index in indices],
            run.config.folder,
            init=run.init,
            dataset=run.dataset,
            others=[sample.image for sample in run.samples],
            files=run.files,
        )
        split = run.split
        report = {
            "model": run.model.name,
            "dataset": run.dataset,
            "images": len(indices),
            "split": "all" if split is None else split.method,
            "split_sha256": split_sha256(run.samples, [indices]) if split is None else split.sha256,
            **describe_run(trainer, path),
        }
        write_training_report(folder, report)  # before the test, which may fail
        if test_part:
            report["test"] = _test(run, folder, test_part)
            write_training_report(folder, report)

    in_main_process(write)
    return path


def _test(run: Run, folder: Path, part: str) -> dict[str, Any]:
    split = run.split
    assert split is not None, "only a split has parts"
    samples = [run.samples[index] for index in select(split, run.samples, run.config.folder, part)]
    source = SampleSource(run.dataset, run.config.folder, split.method, split.sha256, part)
    predictor = Predictor(checkpoint=folder / WEIGHTS_FILE)
    evaluation = evaluate(predictor, samples, source=source, files=run.files)
    write_report(evaluation, folder / TEST_FOLDER)
    if evaluation.trained_on:
        _LOGGER.warning(
            f"the initial weights were trained on {evaluation.trained_on} of the {len(samples)} "
            "test images; pass their split with --split FILE to keep the test images separate"
        )
    levels = run.hierarchy.level_names
    accuracy = {level: evaluation.score("accuracy", level).value for level in levels}
    return {"images": len(samples), "trained_on": evaluation.trained_on, "accuracy": accuracy}
