"""Prepared training run: dataset, split and initial weights."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mdan_zoo.backbones.pyramid import (
    build_backbone,
    pretrained_backbone,
)
from mdan_zoo.datasets.file_index import FileIndex
from mdan_zoo.datasets.registry import get_dataset, read_dataset
from mdan_zoo.datasets.sample import Sample
from mdan_zoo.errors import CheckpointError, InputError
from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.models.config import ModelConfig
from mdan_zoo.models.dimensions import Dimension
from mdan_zoo.training.backbone_weights import load_backbone_weights
from mdan_zoo.training.config import TrainingConfig
from mdan_zoo.training.dataset import ImageDataset, check_images
from mdan_zoo.training.distillation import mix_teacher_predictions
from mdan_zoo.training.distributed import is_main_process, processes
from mdan_zoo.training.feature_cache import PyramidCache, compute_pyramids
from mdan_zoo.training.losses import rating_targets, sample_targets
from mdan_zoo.training.model import describe_model, initial_weights_sha256, stages_to_cache
from mdan_zoo.training.splitting import Source, find_sources, training_sets
from mdan_zoo.training.state import has_state
from mdan_zoo.weights.checkpoint import read_identity
from mdan_zoo.zoo.configs import REGISTERED
from mdan_zoo.zoo.factory import build_network, load_network

if TYPE_CHECKING:
    from mdan_zoo.models.base import EmotionModel

WEIGHTS_FILE = "model.safetensors"
_LOGGER = logging.getLogger("mdan_zoo.training")


@dataclass(frozen=True)
class Run:
    """A training run that is ready to start.

    Attributes:
        samples: The images of all datasets.
        sources: The datasets, with their splits.
        model: Config of the model, with the normalisation that its initial weights need.
        data: The images, or the cached feature maps of the frozen stages.
        targets: Target distributions of all samples at every level, (N, K_l); 0 at levels finer
            than the label of a sample.
        backbone_state: Initial weights of the backbone.
        init: Checkpoint of the model to start from, if any.
        files: Index of the image files.
        taught: With teachers, the samples with labels and ratings mixed with their predictions.
        initial_weights_sha256: See `mdan_zoo.training.model.initial_weights_sha256`.
        stage: Which stage of the recipe this is; see `mdan_zoo.training.stages`.
    """

    config: TrainingConfig
    hierarchy: Hierarchy
    samples: list[Sample]
    sources: tuple[Source, ...]
    model: ModelConfig
    data: ImageDataset | PyramidCache
    targets: tuple[Tensor, ...]
    backbone_state: dict[str, Tensor]
    init: Path | None = None
    files: FileIndex = field(default_factory=FileIndex)
    taught: list[Sample] = field(default_factory=list)
    initial_weights_sha256: str = ""
    stage: int = 0

    @property
    def dataset(self) -> str:
        """Name of the dataset, or the names of several, joined by "+"."""
        return "+".join(source.name for source in self.sources)

    def sampling_shares(self, indices: Sequence[int]) -> list[tuple[int, Tensor]]:
        """Return how many images an epoch takes from every dataset, and their positions in indices.

        The numbers are proportional to the recipe's `dataset_weights`.
        """
        weights = self.config.recipe.weights_by_dataset()
        numbers = torch.tensor(indices)
        inside = {
            source.name: torch.nonzero(
                (numbers >= source.first) & (numbers < source.first + len(source.samples))
            ).flatten()
            for source in self.sources
        }
        unit = max(len(inside[name]) / weight for name, weight in weights.items())
        return [(round(unit * weight), inside[name]) for name, weight in weights.items()]

    def network(self, seed: int) -> EmotionModel:
        """Return a new network with the initial weights."""
        torch.manual_seed(seed)
        network = build_network(self.model, self.hierarchy)
        network.backbone.load_state_dict(self.backbone_state)
        if self.init is not None:
            load_model_file(network, self.init)
        return network

    @property
    def learned(self) -> list[Sample]:
        """The samples with the labels and ratings that training uses, but tests do not."""
        return self.taught or self.samples

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of the images' names, sizes and labels; the folder of the dataset may change."""
        digest = hashlib.sha256()
        for source in self.sources:
            base = os.path.commonpath([sample.image.parent for sample in source.samples])
            for sample in self.learned[source.first : source.first + len(source.samples)]:
                name = sample.image.relative_to(base).as_posix()
                about = (name, sample.image.stat().st_size, sample.labels, sample.distribution)
                # States without teachers are those of versions that did not hash ratings.
                taught = sample.ratings if self.taught else ()
                digest.update(repr((*about, *taught)).encode())
        return digest.hexdigest()


def prepare(config: TrainingConfig, files: FileIndex | None = None) -> Run:
    """Read the dataset, find its split and load the initial weights.

    `files` is an index of the image files that several runs share.

    Raises:
        DatasetError: The folder does not have the layout of the dataset, or the split does not fit.
        CheckpointError: A checkpoint to start from does not fit.
        WeightsUnavailableError: The weights to start from cannot be fetched.
        InputError: The configuration contradicts itself.
    """
    recipe = config.recipe
    init, model, hierarchy, network = describe_model(config)
    datasets = read_datasets(config, model, hierarchy)
    samples = [sample for _, found in datasets.values() for sample in found]
    taught = _taught(config, samples, hierarchy, model.dimensions)
    if not config.dimensions and model.name not in REGISTERED:
        model = _without_unrated_dimensions(model, taught or samples)
    rating_targets(taught or samples, model.dimensions)  # raises before the work begins
    # The main process decodes all images as a check, unless the run is resumed.
    resumed = has_state(config.output)
    files = files or FileIndex(decode=not resumed and is_main_process())
    sources = find_sources(config, datasets, hierarchy, files)
    backbone, model = _initial_backbone(config, model, hierarchy, init)
    data: ImageDataset | PyramidCache
    if recipe.cached_views:
        stages = stages_to_cache(network, recipe)
        if not resumed:
            check_images(samples, files)
        trained = sorted(set().union(*training_sets(sources).values()))
        data = compute_pyramids(
            backbone,
            samples,
            model.input.resized(recipe.train_size) if recipe.train_size else model.input,
            recipe,
            config.cache or config.output,
            stages=sorted({*stages, *config.cached_stages}),
            indices=trained,
            device=processes().device,
            files=files,
        ).with_stages(stages)
    else:
        data = ImageDataset(samples, model.input, recipe, config.cache)
    targets, state = sample_targets(taught or samples, hierarchy, recipe), backbone.state_dict()
    found = (config, hierarchy, samples, sources, model, data, targets, state, init, files, taught)
    return Run(*found, initial_weights_sha256=initial_weights_sha256(config))


def _taught(
    config: TrainingConfig,
    samples: Sequence[Sample],
    hierarchy: Hierarchy,
    dimensions: Sequence[Dimension],
) -> list[Sample]:
    """Return the samples mixed with the predictions of the teachers; [] without teachers."""
    tables, weight = config.teacher_predictions, config.recipe.teacher_weight
    if not tables:
        return []
    return mix_teacher_predictions(samples, tables, hierarchy, weight, dimensions)


def read_datasets(
    config: TrainingConfig, model: ModelConfig, hierarchy: Hierarchy
) -> dict[str, tuple[Path, list[Sample]]]:
    """Return the path and the samples of every dataset by name."""
    recipe, datasets, paths = config.recipe, {}, config.paths(model.dataset)
    lists = config.by_dataset("exclude", list(paths))
    for name, path in paths.items():
        options = {}
        if recipe.label_std_scale and "label_std_scale" in get_dataset(name).options:
            options["label_std_scale"] = recipe.label_std_scale
        samples = read_dataset(name, path, hierarchy, exclude=lists.get(name), **options)
        if len(samples) < 2:
            raise InputError(f"{path} has {len(samples)} image; training needs at least two")
        scale = get_dataset(name).rating_scale
        rated = {rating for sample in samples for rating, _ in sample.ratings}
        for dimension in model.dimensions:
            if dimension.name in rated and scale not in (None, (dimension.low, dimension.high)):
                raise InputError(
                    f"the ratings of {name} are on the scale {scale[0]:g} to {scale[1]:g}, not on "
                    f"that of the dimension {dimension}; to predict them on their own scale, use "
                    f"--dimension {dataclasses.replace(dimension, low=scale[0], high=scale[1])}"
                )
        datasets[name] = path, samples
    weights = recipe.weights_by_dataset()
    if weights and set(weights) != set(datasets):
        raise InputError(
            f"dataset_weights={recipe.dataset_weights} must name the datasets "
            f"{', '.join(datasets)}: give each with --data NAME=DIR, or remove the weights with "
            "--set dataset_weights="
        )
    return datasets


def _without_unrated_dimensions(model: ModelConfig, samples: Sequence[Sample]) -> ModelConfig:
    """Return the config with those dimensions of the initial model that the images can train."""
    rated = {rating for sample in samples for rating, _ in sample.ratings}
    kept = tuple(dimension for dimension in model.dimensions if dimension.name in rated)
    left_out = [d.name for d in model.dimensions if d not in kept]
    if left_out and is_main_process():
        _LOGGER.warning(
            f"no image has a rating of {', '.join(left_out)}: the new model does not predict it"
        )
    return dataclasses.replace(model, dimensions=kept)


def _initial_backbone(
    config: TrainingConfig, model: ModelConfig, hierarchy: Hierarchy, init: Path | None
) -> tuple[nn.Module, ModelConfig]:
    """Return the backbone with its initial weights, and the config with their normalisation."""
    if init is not None:
        network = build_network(model, hierarchy)
        kept, depth = load_model_file(network, init), read_identity(init)[1].depth
        if depth != hierarchy.depth and is_main_process():
            _LOGGER.warning(
                f"levels of classes: {depth} in {init}, {hierarchy.depth} in the new model; "
                "training starts from the backbone, the layers of the levels that both have, and "
                f"the classifier rows of {', '.join(kept) or 'no class'}; other weights are new"
            )
        return network.backbone, model
    if config.backbone_weights is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.recipe.seed)  # for a backbone that has no pretrained weights
            backbone, spec = pretrained_backbone(model.backbone, model.input)
        return backbone, dataclasses.replace(model, input=spec)
    backbone, _ = build_backbone(model.backbone, model.input.crop)
    load_backbone_weights(backbone, model.backbone, config.backbone_weights)
    return backbone, model


def load_model_file(network: EmotionModel, path: str | os.PathLike[str]) -> list[str]:
    """Initialise a network from a checkpoint of the same architecture, backbone and width.

    The layers of levels that only one of the networks has are left out, or keep their values. Of
    the classifiers, the rows of classes that have the same name in both are copied, and those of
    dimensions that both have. Returns the names of the classes.
    """
    config, source = load_network(path)
    theirs, ours = source.hierarchy, network.hierarchy
    state = {name: value.clone() for name, value in network.state_dict().items()}
    tensors = source.state_dict()
    expected = tensors if theirs.depth == ours.depth else build_network(config, ours).state_dict()
    head = [name for name in {**state, **tensors} if name.startswith("dimension_head.")]
    for name in head:
        given = tensors.pop(name, None)
        for index, dimension in enumerate(network.dimensions):
            if given is not None and dimension in source.dimensions:
                state[name][index] = given[source.dimensions.index(dimension)]
    own_head = {name: state.pop(name) for name in head if name in state}
    if state.keys() != expected.keys() - set(head):
        raise CheckpointError(
            f"{path} contains {config.architecture} with {config.backbone}, which is not the "
            "network to be trained"
        )
    copied: set[str] = set()
    levels, own_levels = source.classifiers(), network.classifiers()
    for name in sorted(state.keys() & tensors.keys()):
        value, module = tensors[name], name.rpartition(".")[0]
        if module in own_levels:
            rows, own_rows = theirs.levels[levels[module]], ours.levels[own_levels[module]]
            for row in set(rows) & set(own_rows):
                state[name][own_rows.index(row)] = value[rows.index(row)]
                copied.add(row)
        elif state[name].shape == value.shape:
            state[name] = value
        else:
            raise CheckpointError(
                f"{path}: {name} has shape {tuple(value.shape)}, not {tuple(state[name].shape)}; "
                "the initial model must have the same backbone and width"
            )
    network.load_state_dict({**state, **own_head}, strict=True)
    return sorted(copied)
