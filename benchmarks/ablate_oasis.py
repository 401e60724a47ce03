"""Ablation study of mdan_oasis4 on OASIS: revert one choice at a time and cross-validate.

    python benchmarks/ablate_oasis.py --data FOLDER --backbone-weights FILE

The folds are grouped by theme, as in cross_validate_oasis.py, but use the seeds on which the recipe
was selected, so that no choice depends on the splits of the reported results. Writes one row per
variant and branch: means over seeds, and standard deviations over seeds and over single folds. The
file is updated after every variant; `--variants` runs only some and keeps the rows of the others.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cross_validate_oasis as validation
import torch
from cross_validate_oasis import FOLDS, Job, Levels, rows_of, summarise, train_network
from top_down_cost import RESULTS, environment, write_rows

from mdan_zoo._util.allocator import keep_freed_memory
from mdan_zoo.datasets.splits import grouped_folds
from mdan_zoo.training import Run
from mdan_zoo.training.feature_cache import PyramidCache
from mdan_zoo.training.losses import sample_targets
from mdan_zoo.training.recipe import Recipe, load_recipe

MODEL = "mdan_oasis4"


@dataclass(frozen=True)
class Variant:
    """One change to the recipe.

    Attributes:
        name: Name in the results.
        changes: Recipe fields in the form of `mdan-zoo train --set`.
        options: Options of the network.
        views: Number of cached views to use; 2 are the plain image and its mirror image.
    """

    name: str
    changes: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    views: int | None = None

    def recipe(self, seed: int) -> Recipe:
        """Return the variant's recipe."""
        return dataclasses.replace(load_recipe(MODEL, self.changes), seed=seed)

    def data(self, prepared: Run) -> Run:
        """Return the data with the variant's network, targets and views."""
        options = dataclasses.replace(prepared.model.options, **self.options)
        config = dataclasses.replace(prepared.model, options=options)
        source = prepared.data
        assert isinstance(source, PyramidCache), "the recipe has views"
        c2, c3, c4, c5 = (maps[: self.views] for maps in source.maps)
        return dataclasses.replace(
            prepared,
            model=config,
            targets=sample_targets(prepared.samples, prepared.hierarchy, self.recipe(0)),
            data=dataclasses.replace(source, maps=(c2, c3, c4, c5)),
        )


VARIANTS = (
    Variant("the recipe"),
    Variant("loss on P_O alone", ("overall_weight=1", "local_weight=0", "global_weight=0")),
    Variant("maps not normalised", options={"normalise_pyramid": False}),
    Variant("hard labels", ("label_std_scale=0",)),
    Variant("plain L-CAM", options={"lcam": "plain"}),
    Variant("D = 256", options={"dim": 256}),
    Variant("no average of weights", ("ema_decay=0",)),
    Variant("no random crops", views=2),
)


def train_fold(variant: Variant, job: Job) -> dict[str, Levels]:
    """Train on all folds but one; return the probabilities for that fold, by branch."""
    torch.set_num_threads(1)
    keep_freed_memory()
    folds = validation.FOLDS_OF[job.seed]
    training = [i for number, fold in enumerate(folds) if number != job.fold for i in fold]
    data = variant.data(validation.PREPARED)
    return train_network(data, variant.recipe(job.seed), training, folds[job.fold])


def cross_validate(variant: Variant, seeds: Sequence[int], workers: int) -> Iterator[Any]:
    """Yield the rows of a variant, for every branch, seed and fold."""
    jobs = [Job(MODEL, seed, fold) for seed in seeds for fold in range(FOLDS)]
    fork = multiprocessing.get_context("fork")  # shares the maps
    with ProcessPoolExecutor(workers, mp_context=fork) as pool:
        results = list(pool.map(train_fold, [variant] * len(jobs), jobs))
    for number, seed in enumerate(seeds):
        yield from rows_of(MODEL, seed, results[number * FOLDS : (number + 1) * FOLDS])


def main() -> None:
    """Cross-validate every variant; the file is updated after each."""
    names = [variant.name for variant in VARIANTS]
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        description=str(__doc__),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--backbone-weights", type=Path)
    parser.add_argument("--variants", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--output", type=Path, default=RESULTS / "oasis_ablation.csv")
    arguments = parser.parse_args()

    validation.PREPARED = validation.prepare_maps(
        load_recipe(MODEL), arguments.data, arguments.backbone_weights
    )
    samples = validation.PREPARED.samples
    for seed in arguments.seeds:
        validation.FOLDS_OF[seed] = grouped_folds(samples, FOLDS, seed)
    done: dict[str, list[dict[str, Any]]] = {}
    if arguments.output.exists():
        with arguments.output.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                done.setdefault(row["variant"], []).append(row)
    about = {**environment("cpu"), "seeds": " ".join(map(str, arguments.seeds))}
    for variant in VARIANTS:
        if variant.name not in arguments.variants:
            continue
        rows = list(cross_validate(variant, arguments.seeds, arguments.workers))
        done[variant.name] = [{**about, "variant": variant.name, **row} for row in summarise(rows)]
        print(*done[variant.name], sep="\n", flush=True)
        write_rows(arguments.output, [row for name in names for row in done.get(name, [])])


if __name__ == "__main__":
    main()
