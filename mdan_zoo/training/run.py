"""One training from a data folder to a weight file."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import torch

from mdan_zoo.checkpoint import save_checkpoint, write_atomically
from mdan_zoo.config import ModelConfig
from mdan_zoo.datasets.oasis import read_oasis
from mdan_zoo.datasets.sample import Sample
from mdan_zoo.datasets.splits import split_sha256
from mdan_zoo.errors import InputError
from mdan_zoo.models.backbone import build_backbone
from mdan_zoo.training.features import PyramidCache, compute_pyramids
from mdan_zoo.training.loop import Trainer, TrainingSet
from mdan_zoo.training.recipe import Recipe
from mdan_zoo.training.start import load_backbone_file, load_timm_weights
from mdan_zoo.zoo import build_network, get_config

WEIGHTS_FILE = "model.safetensors"
REPORT_FILE = "training.json"
READERS = {"OASIS": read_oasis}


@dataclasses.dataclass(frozen=True)
class PreparedData:
    """A data set ready for training: samples, and the maps of a backbone that is at its start.

    Attributes:
        config: The model's config, with the normalisation of the backbone's weights.
        samples: The data set.
        cache: The maps of its pictures.
        backbone_state: The backbone's weights at the start.
    """

    config: ModelConfig
    samples: list[Sample]
    cache: PyramidCache
    backbone_state: dict[str, torch.Tensor]

    def trainer(self, recipe: Recipe, indices: list[int], folder: Path | None = None) -> Trainer:
        """Return a trainer of a new network on some of the samples."""
        torch.manual_seed(recipe.seed)
        network = build_network(self.config)
        network.backbone.load_state_dict(self.backbone_state)
        leaves = torch.tensor([sample.distribution for sample in self.samples])
        return Trainer(network, TrainingSet(self.cache, leaves, indices), recipe, folder)


def prepare(
    recipe: Recipe, data: Path, backbone_weights: str | os.PathLike[str] | None
) -> PreparedData:
    """Read a model's data set and compute the maps of its pictures.

    Args:
        recipe: Names the model; decides the views and the soft labels.
        data: Folder of the model's data set.
        backbone_weights: A safetensors file to start from; None takes timm's own weights.

    Raises:
        DatasetError: The folder is not a copy of the data set.
        CheckpointError: The backbone's file does not fit.
        WeightsUnavailableError: timm's weights cannot be fetched.
    """
    config = get_config(recipe.model)
    if config.dataset not in READERS:
        raise InputError(
            f"{config.name} learns from {config.dataset}, which this version cannot read; "
            f"it reads {', '.join(READERS)}"
        )
    samples = READERS[config.dataset](data, recipe.softness)
    backbone, _ = build_backbone(config.backbone)
    if backbone_weights is None:
        config = load_timm_weights(backbone, config)
    else:
        load_backbone_file(backbone, backbone_weights)
    cache = compute_pyramids(backbone, samples, config.input, recipe)
    return PreparedData(config, samples, cache, backbone.state_dict())


def train(
    recipe: Recipe,
    data: Path,
    output: Path,
    *,
    backbone_weights: str | os.PathLike[str] | None = None,
) -> Path:
    """Train a model on the whole of its data set.

    Args:
        recipe: What to train and how.
        data: Folder of the data set.
        output: Folder for the weights, the log and the state; a training that was interrupted
            there goes on.
        backbone_weights: A safetensors file to start from; None takes timm's own weights.

    Returns:
        The path of the weight file.
    """
    output.mkdir(parents=True, exist_ok=True)
    prepared = prepare(recipe, data, backbone_weights)
    everything = list(range(len(prepared.samples)))
    trainer = prepared.trainer(recipe, everything, output)
    network = trainer.run()
    path = output / WEIGHTS_FILE
    save_checkpoint(path, network, prepared.config, dtype=torch.float16)
    report = {
        "model": recipe.model,
        "recipe": dataclasses.asdict(recipe),
        "pictures": len(everything),
        "split_sha256": split_sha256(prepared.samples, [everything]),
        "losses": trainer.losses,
        "torch": str(torch.__version__),
    }
    write_atomically(output / REPORT_FILE, (json.dumps(report, indent=2) + "\n").encode())
    return path
