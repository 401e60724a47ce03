"""Training report, `training.json`: recipe, history, command to repeat it, and test results."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shlex
import statistics
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mdan_zoo._util.files import write_atomically
from mdan_zoo.hierarchy.builtin import builtin_name
from mdan_zoo.training.recipe import (
    fine_tuning_recipe,
    is_weight_file,
    list_recipes,
    load_recipe,
)

if TYPE_CHECKING:
    from mdan_zoo.training.config import TrainingConfig
    from mdan_zoo.training.trainer import Trainer

REPORT_FILE = "training.json"
TEST_FOLDER = "test"
_LIBRARIES = ("accelerate", "safetensors", "timm", "torch", "torchvision")


def describe_run(trainer: Trainer, weights: Path) -> dict[str, Any]:
    """Return the part of the report on a completed training run and its checkpoint."""
    return {
        "weights_sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "initial_weights_sha256": trainer.training.initial_weights_sha256,
        "command": shlex.join(repeating_command(trainer.config)),
        "recipe": dataclasses.asdict(trainer.recipe),
        "history": trainer.history,
        "changes": trainer.changes,
        "machine": {
            "device": str(trainer.accelerator.device),
            "processes": trainer.accelerator.num_processes,
            "precision": trainer.config.precision,
            "accumulate": trainer.config.accumulate,
        },
        "libraries": {library: metadata.version(library) for library in _LIBRARIES},
    }


def repeating_command(config: TrainingConfig) -> list[str]:
    """Return the command that repeats a training run; [] if the recipe belongs to no model.

    FOLDER, FILE and DIR stand for the data, other files and the output. Options that do not affect
    the weights, such as the number of workers, are omitted.
    """
    recipe = config.recipe
    if recipe.model not in list_recipes():
        return []
    init = "FILE" if is_weight_file(recipe.init) else recipe.init
    command = ["mdan-zoo", "train"]
    if config.hierarchy is None:
        usual = load_recipe(recipe.model)
        command.append(recipe.model)
        if recipe.init != usual.init:
            command += ["--init", init] if init else ["--set", "init="]
    else:
        usual = fine_tuning_recipe(recipe.init, recipe=recipe.model)
        command += ["--init", init, "--recipe", recipe.model]
        command += ["--hierarchy", builtin_name(config.hierarchy, "FILE")]
    command += [*_each("--data", "FOLDER", config.data), "--output", "DIR"]
    command += ["--dataset", config.dataset] if config.dataset else []
    command += _each("--exclude", "FILE", config.exclude)
    command += _each("--split", "FILE", config.split)
    for name in ("backbone", "size", "resize_mode"):
        value = getattr(config, name)
        command += [f"--{name.replace('_', '-')}", str(value)] if value is not None else []
    for name, value in config.options.items():
        command += ["--option", f"{name}={as_text(value)}"]
    for dimension in config.dimensions:
        command += ["--dimension", str(dimension)]
    command += ["--teacher-predictions", "FILE"] * len(config.teacher_predictions)
    command += ["--backbone-weights", "FILE"] if config.backbone_weights is not None else []
    for name, value in dataclasses.asdict(recipe).items():
        if name != "init" and value != getattr(usual, name):
            command += ["--set", f"{name}={as_text(value)}"]
    command += ["--precision", config.precision] if config.precision != "no" else []
    command += ["--accumulate", str(config.accumulate)] if config.accumulate > 1 else []
    command += ["--channels-last"] if config.channels_last else []
    command += ["--compile"] if config.compile else []
    return command


def as_text(value: object) -> str:
    """Return a value as it is given on the command line."""
    if isinstance(value, (tuple, list)):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


def _each(option: str, value: str, given: Path | Mapping[str, Path] | None) -> list[str]:
    """Return an option that may be given for each of several datasets."""
    values = [f"{name}={value}" for name in given] if isinstance(given, Mapping) else [value]
    return [] if given is None else [word for value in values for word in (option, value)]


def add_cross_validation(folder: Path, folds: Sequence[Path]) -> None:
    """Add mean and standard deviation of the accuracies of the folds to the report in a folder."""
    tests = [read_report(fold)["test"] for fold in folds]
    summary = (
        _summary(tests)
        if "accuracy" in tests[0]
        else {name: _summary([test[name] for test in tests]) for name in tests[0]}
    )
    write_report(folder, {**read_report(folder), "cross_validation": summary})


def _summary(tests: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    accuracy = {}
    # In a fold, no image may have a label at the finest level.
    for level in [x for x in tests[0]["accuracy"] if all(x in t["accuracy"] for t in tests)]:
        values = [test["accuracy"][level] for test in tests]
        mean, sd = statistics.mean(values), statistics.stdev(values)
        accuracy[level] = {"folds": values, "mean": mean, "sd": sd}
    return {"accuracy": accuracy}


def summarise(folder: Path) -> str:
    """Return the test accuracies of a completed training run and the path of its report."""
    report, path = read_report(folder), folder / REPORT_FILE
    kind = "cross_validation" if "cross_validation" in report else "test"
    found = report.get(kind)
    if not found:
        return f"report: {path}"
    if kind == "test":
        path = folder / TEST_FOLDER / ("evaluation.md" if "accuracy" in found else "")
    values = [
        f"{about}{level} "
        + (f"{row:.3f}" if kind == "test" else f"{row['mean']:.3f} ± {row['sd']:.3f}")
        for about, test in _by_dataset(found)
        for level, row in test["accuracy"].items()
    ]
    return f"{kind.replace('_', '-')} accuracy: {', '.join(values)}; report: {path}"


def _by_dataset(found: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return test results by the name of the dataset, which is "" for a single one."""
    if "accuracy" in found:
        return [("", found)]
    return [(f"{dataset} ", test) for dataset, test in found.items()]


def read_report(folder: Path) -> dict[str, Any]:
    """Return the report in an output folder."""
    report: dict[str, Any] = json.loads((folder / REPORT_FILE).read_text(encoding="utf-8"))
    return report


def write_report(folder: Path, report: dict[str, Any]) -> None:
    """Write the report of an output folder."""
    write_atomically(folder / REPORT_FILE, (json.dumps(report, indent=2) + "\n").encode())
