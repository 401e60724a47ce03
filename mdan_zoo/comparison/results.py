"""Results of a comparison: metrics of every run, their summary, and the paired bootstrap."""

from __future__ import annotations

import dataclasses
import json
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mdan_zoo._util.files import write_atomically
from mdan_zoo.comparison.runs import Comparison, Member, describe_input, is_complete
from mdan_zoo.errors import InputError
from mdan_zoo.evaluation.metrics import LEVEL_MEASURES, Floats, paired_intervals
from mdan_zoo.evaluation.probabilities import Probabilities, load_probabilities
from mdan_zoo.evaluation.results import violations
from mdan_zoo.inference.devices import find_device
from mdan_zoo.inference.predictor import Predictor
from mdan_zoo.training.config import TrainingConfig
from mdan_zoo.training.report import REPORT_FILE, TEST_FOLDER, read_report
from mdan_zoo.training.run import WEIGHTS_FILE
from mdan_zoo.training.splitting import Source

MEASURES = ("accuracy", "balanced_accuracy", "macro_f1", "calibration_error")
RESAMPLES = 10_000
_SPEED_FILE = "speed.json"
_TIMED_IMAGES = 64


@dataclass(frozen=True)
class RunResult:
    """Test results of a run, on N images.

    Attributes:
        member: The system.
        seed: The seed.
        images: Names of the images.
        metrics: Value of every metric by level, and of "violation_rate" at level "".
        correct: 1 for images that are classified correctly, 0 for others, NaN for those without a
            label, by level; (N,) each.
        train_images_per_second: Median over the epochs.
        initial_weights: The file or model to start from, and its hash.
        changes: Changes of the recipe on resume; see the field of `training.json`.
    """

    member: Member
    seed: int
    images: tuple[str, ...]
    metrics: Mapping[tuple[str, str], float]
    correct: Mapping[str, Floats]
    train_images_per_second: float
    initial_weights: str
    changes: Sequence[Mapping[str, Any]]


def collect(comparison: Comparison, source: Source) -> dict[str, list[RunResult]]:
    """Return the results of all complete runs by the label of the system."""
    assert source.split is not None, "a comparison has a split"
    results: dict[str, list[RunResult]] = {}
    for member in comparison.members:
        for seed in range(comparison.seeds):
            config = comparison.config_of(member.system, seed)
            if is_complete(config, source.split.sha256):
                found = results.setdefault(member.system.text, [])
                found.append(_result(member, seed, config))
    tested = {result.images for found in results.values() for result in found}
    if len(tested) > 1:
        raise InputError("the runs were tested on different images; remove those of other images")
    return results


def _result(member: Member, seed: int, config: TrainingConfig) -> RunResult:
    folder, start = config.output, config.recipe.init or config.backbone_weights
    tests = sorted(folder.glob(f"fold_*/{TEST_FOLDER}")) or [folder / TEST_FOLDER]
    files = [test / "probabilities.npz" for test in tests]
    for path in files:
        if not path.is_file():
            raise InputError(
                f"{path} is missing; remove {folder / REPORT_FILE} and repeat the command to test "
                "its model again"
            )
    data = load_probabilities(files, member.hierarchy)
    report = read_report(folder)
    rates = [row["images_per_second"] for row in report["history"]]
    return RunResult(
        member,
        seed,
        data.images,
        dict(_metrics(data)),
        {name: _correct(data, level) for level, name in enumerate(data.labelled_levels)},
        statistics.median(rates),
        f"{Path(start).name} (sha256 {report['initial_weights_sha256']})" if start else "default",
        [change for test in tests for change in read_report(test.parent)["changes"]],
    )


def _metrics(data: Probabilities) -> Iterator[tuple[tuple[str, str], float]]:
    for level, name in enumerate(data.labelled_levels):
        outcomes = data.outcomes("overall", level)
        for measure in MEASURES:
            value = LEVEL_MEASURES[measure](outcomes, np.ones((1, len(outcomes.labels))))
            yield (name, measure), float(value[0])
    predicted = [data.of("overall", k).argmax(axis=1) for k in range(data.hierarchy.depth)]
    yield ("", "violation_rate"), float(violations(data, predicted).mean())


def _correct(data: Probabilities, level: int) -> Floats:
    correct = np.full(len(data.images), np.nan)
    correct[data.labelled(level)] = data.outcomes("overall", level).correct
    return correct


def rows_of(
    results: Mapping[str, Sequence[RunResult]], about: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return one row per system, seed and level; `about` is that of `summarise`."""
    return [
        {
            "system": label,
            "seed": result.seed,
            "level": level,
            **{measure: round(result.metrics[level, measure], 6) for measure in MEASURES},
            "violation_rate": round(result.metrics["", "violation_rate"], 6),
            "train_images_per_second": round(result.train_images_per_second, 2),
            "dataset": about["dataset"],
            "split_sha256": about["split_sha256"],
            "input": about["input"],
            "backbone": result.member.model.backbone,
            "recipe": about["recipe"],
        }
        for label, found in results.items()
        for result in found
        for level in result.correct
    ]


def summarise(
    comparison: Comparison, source: Source, results: Mapping[str, Sequence[RunResult]]
) -> dict[str, Any]:
    """Return the summary as JSON types: what was compared, and "systems" with their results.

    Means and standard deviations are over seeds, and intervals are 95 % bootstrap intervals over
    groups of test images, of differences that are paired by image and averaged over the seeds that
    both systems have.
    """
    assert source.split is not None, "a comparison has a split"
    control = control_of(comparison.members)
    by_name = {_name(sample.image, source.folder): sample.group for sample in source.samples}
    images = next(iter(results.values()))[0].images
    intervals = _intervals(results, control, [by_name[name] for name in images])
    config = comparison.config
    complete = {(label, result.seed) for label, found in results.items() for result in found}
    runs = [(m.system.text, n) for m in comparison.members for n in range(comparison.seeds)]
    return {
        "dataset": source.name,
        "split": source.split.method,
        "split_sha256": source.split.sha256,
        "images": len(images),
        "input": describe_input(comparison.members[0].model),
        "recipe": ", ".join([config.recipe.model, *comparison.changes]),
        "options": dict(config.options),
        "precision": "float32" if config.precision == "no" else config.precision,
        "accumulate": config.accumulate,
        "seeds": comparison.seeds,
        "not_complete": [
            f"{label}, seed {seed}" for label, seed in runs if (label, seed) not in complete
        ],
        "control": control,
        "resamples": RESAMPLES,
        "systems": [
            _summary(comparison, source, found, intervals.get(label, {}))
            for label, found in results.items()
        ],
    }


def _name(image: Path, folder: Path) -> str:
    """Return the name of an image in the results of an evaluation."""
    return (image.relative_to(folder) if image.is_relative_to(folder) else image).as_posix()


def control_of(members: Sequence[Member]) -> str:
    """Return the flat system, preferably one on the backbone of the comparison; "" if none."""
    flat = [m.system for m in members if m.model.architecture == "flat" and not m.recipe.stages]
    flat.sort(key=lambda system: system.has_own_backbone)
    return flat[0].text if flat else ""


def _intervals(
    results: Mapping[str, Sequence[RunResult]], control: str, groups: Sequence[str]
) -> dict[str, dict[str, dict[str, float]]]:
    """Return the difference in accuracy to the control by system and level, with its interval."""
    base = {result.seed: result for result in results.get(control, ())}
    differences = {}
    for label, found in results.items():
        pairs = [(result, base[result.seed]) for result in found if result.seed in base]
        for level in found[0].correct if pairs and label != control else ():
            gains = [mine.correct[level] - theirs.correct[level] for mine, theirs in pairs]
            differences[label, level] = np.mean(gains, axis=0)
    if not differences:
        return {}
    ends = paired_intervals(np.stack(list(differences.values())), groups, RESAMPLES)
    intervals: dict[str, dict[str, dict[str, float]]] = {}
    for ((label, level), values), (low, high) in zip(differences.items(), ends, strict=True):
        row = {"value": float(np.nanmean(values)), "low": low, "high": high}
        intervals.setdefault(label, {})[level] = row
    return intervals


def _summary(
    comparison: Comparison,
    source: Source,
    found: Sequence[RunResult],
    intervals: Mapping[str, Mapping[str, float]],
) -> dict[str, Any]:
    member, printed = found[0].member, found[0].member.system.printed(source.name)
    folder = comparison.config_of(member.system, found[0].seed).output

    def over_seeds(level: str, measure: str) -> dict[str, Any]:
        return _mean_and_sd([result.metrics[level, measure] for result in found])

    return {
        "system": member.system.text,
        "model": member.system.model,
        "architecture": member.model.architecture,
        "backbone": member.model.backbone,
        "options": dataclasses.asdict(member.model.options),
        "recipe": dataclasses.asdict(member.recipe),
        "initial_weights": found[0].initial_weights,
        "changes_on_resume": {str(r.seed): list(r.changes) for r in found if r.changes},
        "seeds": [result.seed for result in found],
        "parameters": member.parameters,
        "gmacs": member.gmacs,
        "train_images_per_second": statistics.mean(r.train_images_per_second for r in found),
        **_speed(folder, source),
        "violation_rate": over_seeds("", "violation_rate"),
        "paper": member.system.row,
        "levels": {
            level: {
                **{measure: over_seeds(level, measure) for measure in MEASURES},
                "difference": intervals.get(level),
                "as_printed_in_the_paper": printed.get(level, ""),
            }
            for level in found[0].correct
        },
    }


def _mean_and_sd(values: Sequence[float]) -> dict[str, Any]:
    sd = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.mean(values), "sd": sd, "by_seed": list(values)}


def _speed(folder: Path, source: Source) -> dict[str, Any]:
    """Return the predicted images per second, decoding included, and where they were measured.

    They are measured once for a run, device and number of threads.
    """
    path, device = folder / _SPEED_FILE, find_device(None)
    name = torch.cuda.get_device_name() if device.type == "cuda" else device.type
    threads = torch.get_num_threads()
    machine = f"{name}, {threads} thread{'s' if threads > 1 else ''}"
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if found.get("predict_machine") != machine:
        predictor = Predictor(checkpoint=folder / WEIGHTS_FILE, device=device)
        images = [sample.image for sample in source.samples[:_TIMED_IMAGES]]
        list(predictor.stream(images))  # the files are in memory, and all code has run, after this
        start = time.perf_counter()
        list(predictor.stream(images))
        speed = len(images) / (time.perf_counter() - start)
        found = {"predict_images_per_second": speed, "predict_machine": machine}
        write_atomically(path, json.dumps(found).encode())
    return dict(found)
