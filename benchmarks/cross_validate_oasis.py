"""Cross-validation of mdan_oasis4 and its baselines on OASIS, grouped by theme.

    python benchmarks/cross_validate_oasis.py --data FOLDER --backbone-weights FILE

Every seed has its own split of the themes into five folds and its own initialisation. No image is
predicted by a network that was trained on its theme. Baselines: the majority class; logistic
regression to the quadrants and ridge regression to the mean ratings, both on the pooled C5 of the
frozen backbone with regularisation selected within the training folds; and flat_oasis4, the same
backbone with one linear classifier, trained with the same recipe. Writes one row per model, branch,
seed and fold (and for the pooled folds of each seed) as CSV, and a second CSV with means and
standard deviations.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import multiprocessing
import statistics
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from oasis_metrics import evaluate
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from mdan_zoo.backbones.pyramid import stages_after
from mdan_zoo.datasets.readers.oasis import AROUSAL_THRESHOLD, VALENCE_THRESHOLD
from mdan_zoo.datasets.splits import grouped_folds, split_sha256
from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.models.base import EmotionOutput
from mdan_zoo.training import Run, TrainingConfig, prepare
from mdan_zoo.training.feature_cache import PyramidCache
from mdan_zoo.training.losses import level_targets
from mdan_zoo.training.recipe import Recipe, load_recipe
from mdan_zoo.training.trainer import Trainer
from mdan_zoo.zoo.factory import get_config

if TYPE_CHECKING:
    from mdan_zoo.models.base import EmotionModel

FOLDS = 5
RESULTS = Path(__file__).parent / "results"
MEASURES = ("polarity_accuracy", "quadrant_accuracy", "valence_r", "arousal_r")

Levels = tuple[Tensor, ...]


@dataclass(frozen=True)
class Job:
    """One training of one model on all folds but one."""

    model: str
    seed: int
    fold: int


PREPARED: Run  # set before the workers are forked, so that they share the maps
RECIPES: dict[str, Recipe] = {}
FOLDS_OF: dict[int, list[list[int]]] = {}


def run(job: Job) -> tuple[Job, dict[str, Levels]]:
    """Train one model and return its probabilities for the held-out fold, by branch."""
    torch.set_num_threads(1)
    folds = FOLDS_OF[job.seed]
    held_out = folds[job.fold]
    training = [i for number, fold in enumerate(folds) if number != job.fold for i in fold]
    trainers = {
        "majority class": majority,
        "frozen features + logistic regression": logistic,
        "frozen features + ridge regression": ridge,
        "flat_oasis4": network,
        "mdan_oasis4": network,
    }
    return job, trainers[job.model](job, training, held_out)


def majority(job: Job, training: Sequence[int], held_out: Sequence[int]) -> dict[str, Levels]:
    """Predict the frequencies of the training images."""
    del job
    leaves = torch.tensor([PREPARED.samples[i].labels[-1] for i in training])
    shares = torch.bincount(leaves, minlength=4) / len(leaves)
    return {"overall": sum_up(shares.expand(len(held_out), -1))}


def logistic(job: Job, training: Sequence[int], held_out: Sequence[int]) -> dict[str, Levels]:
    """Predict with logistic regression on pooled features, using plain views only."""
    del job
    features = pooled_features()
    labels = [PREPARED.samples[i].labels[-1] for i in training]
    groups = [PREPARED.samples[i].group for i in training]
    search = GridSearchCV(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)),
        {"logisticregression__C": [0.001, 0.003, 0.01, 0.03, 0.1]},
        cv=GroupKFold(4),
        scoring="neg_log_loss",
    )
    search.fit(features[list(training)], labels, groups=groups)
    return {"overall": sum_up(torch.tensor(search.predict_proba(features[list(held_out)])))}


def ridge(job: Job, training: Sequence[int], held_out: Sequence[int]) -> dict[str, Levels]:
    """Predict with ridge regression to valence and arousal, assuming normal errors."""
    del job
    features = pooled_features()
    ratings = torch.tensor([[value for _, value in s.ratings] for s in PREPARED.samples]).double()
    groups = [PREPARED.samples[i].group for i in training]
    search = GridSearchCV(
        make_pipeline(StandardScaler(), Ridge()),
        {"ridge__alpha": [100.0, 300.0, 1000.0, 3000.0, 10000.0]},
        cv=GroupKFold(4),
        scoring="neg_mean_squared_error",
    )
    search.fit(features[list(training)], ratings[list(training)].numpy(), groups=groups)
    error = (-search.best_score_) ** 0.5
    predicted = torch.tensor(search.predict(features[list(held_out)]))
    thresholds = torch.tensor([VALENCE_THRESHOLD, AROUSAL_THRESHOLD])
    valence, arousal = torch.special.ndtr((predicted - thresholds) / error).T
    quadrants = {
        "excited": valence * arousal,
        "serene": valence * (1 - arousal),
        "distressed": (1 - valence) * arousal,
        "gloomy": (1 - valence) * (1 - arousal),
    }
    leaves = get_hierarchy("circumplex4").leaves
    return {"overall": sum_up(torch.stack([quadrants[leaf] for leaf in leaves], dim=1))}


@torch.inference_mode()
def pooled_features() -> np.ndarray[Any, Any]:
    """Return the pooled C5 of the frozen backbone for the plain view of every image, (N, C)."""
    last_stage = stages_after(PREPARED.network(seed=0).backbone.eval(), 3)
    batches = cached_maps().maps[2][0].split(64)
    return torch.cat([last_stage(maps.float()).mean(dim=(2, 3)) for maps in batches]).numpy()


def cached_maps() -> PyramidCache:
    assert isinstance(PREPARED.data, PyramidCache), "both recipes have views"
    return PREPARED.data


def network(job: Job, training: Sequence[int], held_out: Sequence[int]) -> dict[str, Levels]:
    """Train a network by its recipe and predict the plain views of the held-out fold."""
    data = dataclasses.replace(PREPARED, model=get_config(job.model))
    recipe = dataclasses.replace(RECIPES[job.model], seed=job.seed)
    return train_network(data, recipe, training, held_out)


def train_network(
    data: Run, recipe: Recipe, training: Sequence[int], held_out: Sequence[int]
) -> dict[str, Levels]:
    """Train a network; return the probabilities of the plain views of other images."""
    trained = Trainer(data, list(training), recipe).run()
    outputs = list(classify(trained, held_out))
    names = outputs[0].log_probs if trained.alpha is not None else ["overall"]
    branches = {name: [output.probs[name] for output in outputs] for name in names}
    return {
        branch: tuple(torch.cat(level) for level in zip(*batches, strict=True))
        for branch, batches in branches.items()
    }


@torch.inference_mode()
def classify(trained: EmotionModel, images: Sequence[int]) -> Iterator[EmotionOutput]:
    """Classify the plain views of images; C5 is computed by the trained last stage."""
    for batch in torch.split(torch.tensor(images), 64):
        maps = [stage[0, batch].float() if stage.numel() else stage for stage in cached_maps().maps]
        maps[3] = stages_after(trained.backbone, 3)(maps[2])
        yield trained.classify(maps)


def sum_up(leaves: Tensor) -> Levels:
    """Return the probabilities of both levels."""
    return level_targets(leaves, get_hierarchy("circumplex4"))


def rows_of(model: str, seed: int, by_fold: list[dict[str, Levels]]) -> Iterator[dict[str, object]]:
    """Yield the rows of one model and seed: every fold, then all of them pooled."""
    folds = FOLDS_OF[seed]
    for branch in by_fold[0]:
        parts = [(str(n), fold, by_fold[n][branch]) for n, fold in enumerate(folds)]
        pooled = tuple(torch.cat(level) for level in zip(*(p for _, _, p in parts), strict=True))
        everything = [index for fold in folds for index in fold]
        for name, indices, probabilities in [*parts, ("pooled", everything, pooled)]:
            samples = [PREPARED.samples[index] for index in indices]
            metrics = evaluate(probabilities, samples, get_hierarchy("circumplex4")).to_dict()
            row = {key: rounded(value) for key, value in metrics.items()}
            if model == "majority class":  # constant within a fold: no correlation is defined
                row["valence_r"] = row["arousal_r"] = ""
            yield {"model": model, "branch": branch, "seed": seed, "fold": name, **row}


def summarise(rows: Sequence[dict[str, object]]) -> Iterator[dict[str, object]]:
    """Yield the mean over seeds of the pooled folds, and the deviation over seeds and folds."""
    for model, branch in dict.fromkeys((row["model"], row["branch"]) for row in rows):
        mine = [row for row in rows if (row["model"], row["branch"]) == (model, branch)]
        summary: dict[str, object] = {"model": model, "branch": branch}
        for measure in MEASURES:
            pooled = [row[measure] for row in mine if row["fold"] == "pooled"]
            single = [row[measure] for row in mine if row["fold"] != "pooled"]
            summary[measure] = statistic(statistics.mean, pooled)
            summary[f"{measure}_sd_seeds"] = statistic(statistics.stdev, pooled)
            summary[f"{measure}_sd_folds"] = statistic(statistics.stdev, single)
        yield summary


def statistic(function: Callable[[list[float]], float], values: Sequence[object]) -> float | str:
    """Apply a statistic to values; undefined ones give an empty cell."""
    return "" if "" in values else rounded(function([float(str(value)) for value in values]))


def rounded(value: float) -> float:
    return round(value, 6)


def prepare_maps(recipe: Recipe, data: Path, backbone_weights: Path | None) -> Run:
    """Prepare the run; the mapping of the cached maps outlives their file."""
    with tempfile.TemporaryDirectory() as folder:
        return prepare(
            TrainingConfig(recipe, data, Path(folder), backbone_weights=backbone_weights)
        )


def write(path: Path, rows: Iterable[dict[str, object]]) -> None:
    rows = list(rows)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    global PREPARED
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--backbone-weights", type=Path)
    # The recipes were selected on the splits of seeds 0, 1 and 2.
    parser.add_argument("--seeds", type=int, nargs="+", default=[3, 4, 5])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--set", dest="changes", action="append", default=[])
    parser.add_argument("--output", type=Path, default=RESULTS / "oasis_cross_validation")
    arguments = parser.parse_args()

    for name in ("mdan_oasis4", "flat_oasis4"):
        RECIPES[name] = load_recipe(name, arguments.changes)
    PREPARED = prepare_maps(RECIPES["mdan_oasis4"], arguments.data, arguments.backbone_weights)
    models = (
        "majority class",
        "frozen features + logistic regression",
        "frozen features + ridge regression",
        "flat_oasis4",
        "mdan_oasis4",
    )
    for seed in arguments.seeds:
        FOLDS_OF[seed] = grouped_folds(PREPARED.samples, FOLDS, seed)
        print(f"seed {seed}: split {split_sha256(PREPARED.samples, FOLDS_OF[seed])}", flush=True)
    jobs = [Job(m, seed, fold) for seed in arguments.seeds for m in models for fold in range(FOLDS)]
    results: dict[tuple[str, int], list[dict[str, Levels]]] = {}
    rows: list[dict[str, object]] = []
    fork = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(arguments.workers, mp_context=fork) as pool:
        for job, probabilities in pool.map(run, jobs):
            by_fold = results.setdefault((job.model, job.seed), [])
            by_fold.append(probabilities)
            if len(by_fold) == FOLDS:
                new = list(rows_of(job.model, job.seed, by_fold))
                print(*(row for row in new if row["fold"] == "pooled"), sep="\n", flush=True)
                rows.extend(new)
    rows.sort(key=lambda row: models.index(str(row["model"])))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    write(arguments.output.with_suffix(".csv"), rows)
    write(arguments.output.with_name(arguments.output.name + "_summary.csv"), summarise(rows))


if __name__ == "__main__":
    main()
