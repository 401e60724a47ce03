"""Training pipeline: prepare, train one network or one per fold, test, and report."""

from __future__ import annotations

import dataclasses
import functools
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from mdan_zoo.datasets.file_index import FileIndex
from mdan_zoo.datasets.splits import split_sha256
from mdan_zoo.errors import InputError
from mdan_zoo.evaluation import SampleSource, evaluate, write_report
from mdan_zoo.evaluation.leakage import save_trained_on
from mdan_zoo.inference.predictor import Predictor
from mdan_zoo.models.base import EmotionModel
from mdan_zoo.training.calibration import Calibration, fit_temperature, scale_classifiers
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
from mdan_zoo.training.splitting import Source, keep_splits, training_sets
from mdan_zoo.training.stages import train_stages
from mdan_zoo.training.state import has_state
from mdan_zoo.weights.checkpoint import save_checkpoint

_LOGGER = logging.getLogger("mdan_zoo.training")


def train(config: TrainingConfig, files: FileIndex | None = None) -> Path:
    """Train a model and evaluate it on the test part of the split.

    With folds, one network is trained and evaluated per fold, then a final one on all images.
    Returns the path of the checkpoint. `files` is an index of the image files that several runs
    share. Errors are those of `prepare` and `Trainer.run`.
    """
    for path in config.data.values() if isinstance(config.data, Mapping) else (config.data,):
        check_output(config.output, path)
    check_precision(config)
    warn_slow_precision(config)
    run = prepare(config, files)
    if not config.recipe.cached_views and not has_state(config.output):
        check_images(run.samples, run.files)  # `prepare` checks those whose maps are cached
    keep_splits(run.sources, config.output)
    sets = training_sets(run.sources)
    output = config.output
    if len(sets) == 1:
        ((part, indices),) = sets.items()
        path = _train_one(run, indices, output, part)
    else:
        folds = [_train_one(run, sets[part], output / f"fold_{part}", part).parent for part in sets]
        path = _train_one(run, sorted(set().union(*sets.values())), output)
        in_main_process(functools.partial(add_cross_validation, output, folds))
    if config.cache is None or config.cache.resolve() != output.resolve():
        in_main_process(functools.partial(remove_caches, output))
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
    count = len(indices)
    if run.config.recipe.dataset_weights:
        count = sum(images for images, _ in run.sampling_shares(indices))
    recipe = run.config.recipe.for_images(count)
    if recipe.epochs > run.config.recipe.epochs and is_main_process():
        _LOGGER.warning(
            f"training for {recipe.epochs} epochs instead of {run.config.recipe.epochs}, because "
            f"{count} images need them for min_steps={recipe.min_steps}; use "
            f"--set epochs={run.config.recipe.epochs} for a shorter training"
        )
    trainer, network = train_stages(run, indices, recipe, folder)
    tested = trainer.training  # of the last stage
    path = folder / WEIGHTS_FILE

    def write() -> None:
        dtype = getattr(torch, recipe.save_dtype)
        save_checkpoint(path, network, run.model, dtype=dtype)  # the images may be unreadable
        calibration = _calibrate(network, tested)
        save_checkpoint(path, network, run.model, dtype=dtype)
        save_trained_on(
            path,
            [run.samples[index].image for index in indices],
            {source.name: source.folder for source in run.sources},
            init=run.init,
            others=[sample.image for sample in run.samples],
            files=run.files,
        )
        splits = {source.name: _describe_split(source, indices) for source in run.sources}
        report = {
            "model": run.model.name,
            "dataset": run.dataset,
            "images": len(indices),
            **(splits[run.dataset] if len(splits) == 1 else {"splits": splits}),
            **describe_run(trainer, path),
            **({"calibration": dataclasses.asdict(calibration)} if calibration else {}),
        }
        write_training_report(folder, report)  # before the test, which may fail
        if test_part:
            report["test"] = _test(tested, folder, test_part)
            write_training_report(folder, report)

    in_main_process(write)
    return path


def _calibrate(network: EmotionModel, run: Run) -> Calibration | None:
    """Scale the classifiers by the recipe's temperature, or by one fitted on the parts val."""
    if run.config.recipe.temperature is not None:
        scale_classifiers(network, run.config.recipe.temperature)
        return None
    divided = [s for s in run.sources if s.split is not None and "val" in dict(s.split.parts)]
    samples = [run.samples[index] for source in divided for index in source.part("val")]
    calibration = fit_temperature(network, samples, run.model.input)
    if calibration is not None:
        scale_classifiers(network, calibration.temperature)
    return calibration


def _describe_split(source: Source, indices: Sequence[int]) -> dict[str, Any]:
    """Return method and hash of a dataset's split, and its number of the training images."""
    own = [index - source.first for index in indices if index in source.positions]
    method = "all" if source.split is None else source.split.method
    split = source.split
    sha256 = split_sha256(source.samples, [own]) if split is None else split.sha256
    return {"images": len(own), "split": method, "split_sha256": sha256}


def _test(run: Run, folder: Path, part: str) -> dict[str, Any]:
    """Test a checkpoint on a part of every split; return a summary, for several datasets each."""
    tested = [s for s in run.sources if s.split is not None and part in dict(s.split.parts)]
    if len(run.sources) == 1:
        return _test_on(tested[0], run, folder / WEIGHTS_FILE, part, folder / TEST_FOLDER)
    return {
        source.name: _test_on(
            source, run, folder / WEIGHTS_FILE, part, folder / TEST_FOLDER / source.name
        )
        for source in tested
    }


def _test_on(source: Source, run: Run, weights: Path, part: str, folder: Path) -> dict[str, Any]:
    split = source.split
    assert split is not None, "only a split has parts"
    samples = [run.samples[index] for index in source.part(part)]
    about = SampleSource(source.name, source.folder, split.method, split.sha256, part)
    evaluation = evaluate(Predictor(checkpoint=weights), samples, source=about, files=run.files)
    write_report(evaluation, folder)
    if evaluation.trained_on:
        _LOGGER.warning(
            f"{evaluation.trained_on} of the {len(samples)} test images were also used for "
            "training, either in this run (if several datasets share them) or for the "
            "initial weights; to keep the test images separate, pass the split of the initial "
            "weights with --split FILE"
        )
    accuracy = {
        score.level: score.value
        for score in evaluation.scores
        if (score.measure, score.branch) == ("accuracy", "overall")
    }
    return {"images": len(samples), "trained_on": evaluation.trained_on, "accuracy": accuracy}
