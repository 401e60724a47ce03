"""Curriculum training: the levels of the hierarchy are trained one after the other.

After Panda et al., Contemplating Visual Emotions: Understanding and Overcoming Dataset Bias, 2018.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from mdan_zoo.datasets.sample import Sample
from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.training.recipe import Recipe
from mdan_zoo.training.run import Run
from mdan_zoo.training.trainer import Trainer
from mdan_zoo.zoo.factory import build_network

if TYPE_CHECKING:
    from mdan_zoo.models.base import EmotionModel


def train_stages(
    run: Run, indices: Sequence[int], recipe: Recipe, folder: Path
) -> tuple[Trainer, EmotionModel]:
    """Train all stages of a recipe, or once if it has none; arguments and errors of `Trainer`.

    Returns:
        The trainer of the last stage, and its network.
    """
    network = None
    for stage in split_stages(run):
        start = None if network is None else next_network(stage, network, recipe.seed)
        trainer = Trainer(stage, indices, recipe, folder, start)
        network = trainer.run()
    assert network is not None, "there is at least one stage"
    return trainer, network


def split_stages(run: Run) -> Iterator[Run]:
    """Yield a run for each stage of the recipe, with the hierarchy down to its level."""
    if not run.config.recipe.stages:
        yield run
    for number, level in enumerate(run.config.recipe.stage_levels()):
        hierarchy = run.hierarchy.cut(level)
        stage = dataclasses.replace(
            run,
            hierarchy=hierarchy,
            samples=_cut(run.samples, run.hierarchy, hierarchy.depth),
            taught=_cut(run.taught, run.hierarchy, hierarchy.depth),
            targets=run.targets[: hierarchy.depth],
            stage=number,
        )
        vars(stage)["fingerprint"] = run.fingerprint  # of the whole labels: there is one state
        yield stage


def next_network(run: Run, previous: EmotionModel, seed: int) -> EmotionModel:
    """Return the network of a stage: new classifiers, and what else fits of the stage before."""
    torch.manual_seed(seed)
    network = build_network(run.model, run.hierarchy)
    state, classifiers = network.state_dict(), network.classifiers()
    for name, value in previous.state_dict().items():
        fits = name in state and state[name].shape == value.shape
        if fits and name.rpartition(".")[0] not in classifiers:
            state[name] = value
    network.load_state_dict(state)
    return network


def _cut(samples: Sequence[Sample], hierarchy: Hierarchy, depth: int) -> list[Sample]:
    """Return samples with their labels at the first levels of a hierarchy."""
    paths = [hierarchy.paths(level) for level in range(hierarchy.depth)]
    cut = []
    for sample in samples:
        if len(sample.labels) > depth:
            shares = [0.0] * hierarchy.sizes[depth - 1]
            for path, share in zip(paths[len(sample.labels) - 1], sample.distribution, strict=True):
                shares[path[depth - 1]] += share
            labels = sample.labels[:depth]
            sample = dataclasses.replace(sample, labels=labels, distribution=tuple(shares))
        cut.append(sample)
    return cut
