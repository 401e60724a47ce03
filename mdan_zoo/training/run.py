"""One training from a data folder to a weight file."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mdan_zoo.backbones.pyramid import build_backbone
from mdan_zoo.datasets.registry import folder_of
from mdan_zoo.datasets.sample import Sample
from mdan_zoo.datasets.splits import Split, select, split_sha256
from mdan_zoo.errors import InputError
from mdan_zoo.evaluation import SampleSource, evaluate, write_report
from mdan_zoo.evaluation.leakage import save_trained_on
from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.images.preprocessing import Preprocessing
from mdan_zoo.inference.predictor import Predictor
from mdan_zoo.models.config import ModelConfig
from mdan_zoo.training.dataset import ImageDataset
from mdan_zoo.training.distributed import (
    check_precision,
    in_main_process,
    is_main_process,
    processes,
)
from mdan_zoo.training.feature_cache import CachedViews, PyramidCache, compute_pyramids
from mdan_zoo.training.initial_weights import load_backbone_file, load_model_file, timm_backbone
from mdan_zoo.training.losses import check_losses
from mdan_zoo.training.machine import Machine
from mdan_zoo.training.preflight import check_images, check_output, has_state
from mdan_zoo.training.recipe import Recipe, is_weight_file
from mdan_zoo.training.report import add_cross_validation, describe_run
from mdan_zoo.training.report import write_report as write_training_report
from mdan_zoo.training.splitting import find_split, fingerprint, keep_split
from mdan_zoo.training.targets import LOGGER, dataset_name, read_samples, targets
from mdan_zoo.training.trainer import Trainer, TrainingSet
from mdan_zoo.weights.checkpoint import read_identity, save_checkpoint
from mdan_zoo.zoo.factory import MODELS, build_network, get_config, released_weights

WEIGHTS_FILE = "model.safetensors"
TEST_FOLDER = "test"
_OWN_READER = "folder"


@dataclass(frozen=True)
class Plan:
    """What to train, on what, and where to.

    Attributes:
        recipe: How.
        data: Folder of the data set; for the reader "table" also the table itself.
        output: Folder for the weights, the log and the state; a training that was interrupted
            there goes on.
        dataset: Name of the reader; by default that of the model's data set, or "folder" for an
            own tree.
        hierarchy: An own emotion tree. The recipe must then name a model to start from.
        split: A split file; by default one is made as the recipe says.
        backbone_weights: A safetensors file that the backbone starts from; None takes timm's own
            weights.
        machine: How this machine runs it.
    """

    recipe: Recipe
    data: Path
    output: Path
    dataset: str = ""
    hierarchy: Hierarchy | None = None
    split: Path | None = None
    backbone_weights: str | os.PathLike[str] | None = None
    machine: Machine = Machine()  # noqa: RUF009 - frozen

    def __post_init__(self) -> None:
        for name in ("data", "output"):  # as text, too
            object.__setattr__(self, name, Path(getattr(self, name)))
        if self.split is not None:
            object.__setattr__(self, "split", Path(self.split))

    @property
    def folder(self) -> Path:
        """The folder that the images are named from."""
        return folder_of(self.data)


@dataclass(frozen=True)
class PreparedData:
    """A data set ready for training, and the network's start.

    Attributes:
        config: The model's config, with the normalisation of the backbone's weights.
        hierarchy: The emotion tree.
        samples: The data set.
        leaves: What to learn: a distribution over the leaves for every sample, (N, K_n).
        source: The images, or the maps of frozen stages.
        backbone_state: The backbone's weights at the start.
        init: Weight file of the model to start from, if any.
        machine: How this machine runs trainings.
    """

    config: ModelConfig
    hierarchy: Hierarchy
    samples: list[Sample]
    leaves: Tensor
    source: ImageDataset | PyramidCache
    backbone_state: dict[str, Tensor]
    init: Path | None = None
    machine: Machine = Machine()  # noqa: RUF009 - frozen

    def trainer(self, recipe: Recipe, indices: list[int], folder: Path | None = None) -> Trainer:
        """Return a trainer of a new network on some of the samples."""
        torch.manual_seed(recipe.seed)
        network = build_network(self.config, self.hierarchy)
        network.backbone.load_state_dict(self.backbone_state)
        if self.init is not None:
            load_model_file(network, self.init)
        source = self.source
        data = TrainingSet(
            CachedViews(source, recipe.seed) if isinstance(source, PyramidCache) else source,
            Preprocessing(self.config.input),
            self.leaves,
            indices,
            fingerprint(self.samples),
        )
        return Trainer(network, data, recipe, folder, self.machine)


@dataclass(frozen=True)
class _ReadData:
    """What is known before an image is decoded; see `PreparedData`."""

    config: ModelConfig
    hierarchy: Hierarchy
    samples: list[Sample]
    init: Path | None


def prepare(plan: Plan) -> PreparedData:
    """Read the data set and find the weights to start from.

    Raises:
        DatasetError: The folder is not a copy of the data set.
        CheckpointError: A weight file to start from does not fit.
        WeightsUnavailableError: The weights to start from cannot be fetched.
        InputError: The plan contradicts itself.
    """
    return _prepare(plan, _read(plan))


def _read(plan: Plan) -> _ReadData:
    init = _find_init(plan)
    if init is not None and plan.backbone_weights is not None:
        raise InputError(
            f"the training starts from {plan.recipe.init}, which has a backbone's weights of its "
            f"own; leave out --backbone-weights {plan.backbone_weights}"
        )
    config, tree = _describe(plan, init)
    check_losses(plan.recipe, config)
    return _ReadData(config, tree, read_samples(plan, config, tree), init)


def _prepare(plan: Plan, data: _ReadData) -> PreparedData:
    config, tree, samples = data.config, data.hierarchy, data.samples
    if data.init is not None:
        network = build_network(config, tree)
        load_model_file(network, data.init)
        backbone = network.backbone
    elif plan.backbone_weights is None:
        backbone, config = timm_backbone(config)
    else:
        backbone, _ = build_backbone(config.backbone, config.input.crop)
        load_backbone_file(backbone, plan.backbone_weights)
    source: ImageDataset | PyramidCache
    if plan.recipe.cached_views:
        stages = range(max(0, 3 - tree.depth), 4)  # level 1 reads C4, level 2 C3, level 3 C2
        source = compute_pyramids(
            backbone,
            samples,
            config.input,
            plan.recipe,
            stages=stages,
            device=processes().device,
        )
    else:
        source = ImageDataset(samples, config.input, plan.recipe, plan.machine.cache)
    return PreparedData(
        config=config,
        hierarchy=tree,
        samples=samples,
        leaves=targets(samples, tree, plan.recipe),
        source=source,
        backbone_state=backbone.state_dict(),
        init=data.init,
        machine=plan.machine,
    )


def _find_init(plan: Plan) -> Path | None:
    """Return the weight file that a training starts from; None for the backbone's own weights."""
    init = plan.recipe.init
    if not init:
        return None
    if is_weight_file(init):
        return Path(init)
    hint = f"Train {init} first and give its file with --init"
    if plan.hierarchy is None:
        hint += ", or start from the backbone's ImageNet weights with --set init="
    return released_weights(init, hint=hint)


def _describe(plan: Plan, init: Path | None) -> tuple[ModelConfig, Hierarchy]:
    """Return config and tree of the network that is to be trained."""
    if plan.hierarchy is None:
        config = get_config(plan.recipe.model)
        return config, get_hierarchy(config.hierarchy)
    if init is None:
        raise InputError("an own emotion tree needs a model to start from; give one with --init")
    started, _ = read_identity(init)
    name = plan.output.resolve().name
    if name in MODELS:
        raise InputError(
            f"a model with an own emotion tree is called as its output folder, and {name} is a "
            "registered model; give another --output"
        )
    dataset = plan.dataset or _OWN_READER
    return dataclasses.replace(started, name=name, hierarchy=name, dataset=dataset), plan.hierarchy


def train(plan: Plan) -> Path:
    """Train a model, and test it on what the split keeps aside.

    Where the recipe's split has folds, a network is trained and tested for each of them, and then
    one on every image.

    Returns:
        The path of the weight file.

    Raises:
        MdanZooError: See `prepare` and `Trainer.run`.
    """
    # Told before the work, if bad.
    given = None if plan.split is None else Split.load(plan.split)
    check_output(plan.output, plan.data)
    check_precision(plan.machine)
    read = _read(plan)
    split = find_split(plan, read.config, read.hierarchy, read.samples, given)
    data = _prepare(plan, read)
    if not plan.recipe.cached_views and not has_state(
        plan.output
    ):  # views have all been drawn by now
        check_images(data.samples)
    everything = list(range(len(data.samples)))
    pick = partial(select, samples=data.samples, folder=plan.folder)
    if split is None:
        return _train_one(plan, data, everything, plan.output, None, [])
    keep_split(split, plan.output)
    parts = dict(split.parts)
    if "train" in parts:
        held_out = pick(split, part="test") if "test" in parts else []
        return _train_one(plan, data, pick(split, part="train"), plan.output, split, held_out)
    for part in parts:
        held_out = pick(split, part=part)
        rest = sorted(set(everything) - set(held_out))
        _train_one(plan, data, rest, _fold_folder(plan, part), split, held_out, part)
    path = _train_one(plan, data, everything, plan.output, split, [])
    folds = [_fold_folder(plan, part) for part in parts]
    in_main_process(partial(add_cross_validation, plan.output, folds))
    return path


def _fold_folder(plan: Plan, part: str) -> Path:
    return plan.output / f"fold_{part}"


def _train_one(
    plan: Plan,
    data: PreparedData,
    indices: list[int],
    folder: Path,
    split: Split | None,
    held_out: list[int],
    part: str = "test",
) -> Path:
    """Train one network and write weights and report; test it on the images held out."""
    folder.mkdir(parents=True, exist_ok=True)
    recipe = plan.recipe.for_images(len(indices))
    if recipe.epochs > plan.recipe.epochs and is_main_process():
        LOGGER.warning(
            f"{len(indices)} images are few: trained for {recipe.epochs} epochs instead of "
            f"{plan.recipe.epochs}, which makes {recipe.min_steps} steps; "
            f"--set epochs={plan.recipe.epochs} trains shorter"
        )
    trainer = data.trainer(recipe, indices, folder)
    network = trainer.run()
    path = folder / WEIGHTS_FILE
    sha256 = split_sha256(data.samples, [indices]) if split is None else split.sha256

    def write() -> None:
        save_checkpoint(path, network, data.config, dtype=getattr(torch, plan.recipe.save_dtype))
        save_trained_on(
            path,
            [data.samples[index].image for index in indices],
            plan.folder,
            init=data.init,
            dataset=dataset_name(plan, data.config),
            others=[sample.image for sample in data.samples],
        )
        report = {
            "model": data.config.name,
            "dataset": dataset_name(plan, data.config),
            "images": len(indices),
            "split": "all" if split is None else split.method,
            "split_sha256": sha256,
            **describe_run(trainer, path, plan),
        }
        write_training_report(folder, report)  # of use even where the test fails
        if held_out and split is not None:
            report["test"] = _test(plan, data, folder, split, held_out, part)
            write_training_report(folder, report)

    in_main_process(write)
    return path


def _test(
    plan: Plan, data: PreparedData, folder: Path, split: Split, held_out: list[int], part: str
) -> dict[str, Any]:
    """Evaluate a folder's weights on what was held out; return the accuracies, and of what."""
    samples = [data.samples[index] for index in held_out]
    dataset = dataset_name(plan, data.config)
    source = SampleSource(dataset, plan.folder, split.method, split.sha256, part)
    evaluation = evaluate(Predictor(checkpoint=folder / WEIGHTS_FILE), samples, source=source)
    write_report(evaluation, folder / TEST_FOLDER)
    if evaluation.trained_on:
        LOGGER.warning(
            f"{evaluation.trained_on} of the {len(samples)} test images had been learned by the "
            "weights that this training started from; --split FILE keeps the old ones aside"
        )
    levels = data.hierarchy.level_names
    accuracy = {level: evaluation.score("accuracy", level).value for level in levels}
    return {"images": len(samples), "trained_on": evaluation.trained_on, "accuracy": accuracy}
