"""Training configuration: recipe, data, output folder, and options of the machine."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mdan_zoo.errors import InputError
from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.models.dimensions import Dimension
from mdan_zoo.training.recipe import Recipe

_PRECISIONS = ("no", "bf16", "fp16")


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that defines a training run.

    Attributes:
        recipe: The hyperparameters.
        data: Folder of the dataset; for the reader "table" also the table itself. Several datasets
            are a mapping from the names of their readers to such paths.
        output: Folder for the checkpoint, the log and the state. An interrupted run in it is
            resumed.
        dataset: Name of the dataset reader, if `data` is one path. Default: the dataset of the
            model, or "folder" with a custom hierarchy.
        hierarchy: A custom emotion hierarchy. The recipe must then name a model to start from.
        exclude: List of images to leave out, or a mapping from names of readers to such lists; see
            `mdan_zoo.datasets.exclusion`.
        split: A split file, or a mapping from names of readers to split files. Default: the split
            method of the recipe.
        backbone: A timm model to use instead of the backbone of the model.
        size: Side in pixels of the network's input, instead of that of the model.
        resize_mode: "crop" or "squash" instead of that of the model; see `InputSpec`.
        options: Options of the architecture to change, by name; see `mdan_zoo.models.options`.
        dimensions: Continuous outputs to train in addition to the classes, instead of those of
            the model. The dataset must have ratings for them; those of the initial
            model that have none are left out.
        backbone_weights: Initial weights of the backbone: a safetensors file, a PyTorch state dict,
            or an installed package that contains one. None: the pretrained weights of timm.
        teacher_predictions: Tables with the predictions of teachers, which labels and ratings are
            mixed with; see `mdan_zoo.training.distillation`.
        precision: "no" computes in float32; "bf16" and "fp16" under autocast, fp16 with loss
            scaling.
        accumulate: Number of micro-batches that each step is divided into, to save memory.
        channels_last: Use the channels-last memory format, which is faster on GPUs.
        compile: Use `torch.compile`.
        workers: Number of data-loading processes per GPU. None: one per core, at most 8.
        cache: Folder for resized copies of the images, see `ImageDataset`, or for cached feature
            maps, see `compute_pyramids`. None: no copies; maps are in the output folder until
            training is complete.
        cached_stages: Feature maps to cache in addition to those that the network reads, for other
            networks that use the same `cache`; 0 is C2, 3 is C5.
        tensorboard: Also write the log for TensorBoard.
    """

    recipe: Recipe
    data: Path | Mapping[str, Path]
    output: Path
    dataset: str = ""
    hierarchy: Hierarchy | None = None
    exclude: Path | Mapping[str, Path] | None = None
    split: Path | Mapping[str, Path] | None = None
    backbone: str | None = None
    size: int | None = None
    resize_mode: Literal["crop", "squash"] | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    dimensions: tuple[Dimension, ...] = ()
    backbone_weights: str | os.PathLike[str] | None = None
    teacher_predictions: tuple[Path, ...] = ()
    precision: str = "no"
    accumulate: int = 1
    channels_last: bool = False
    compile: bool = False
    workers: int | None = None
    cache: Path | None = None
    cached_stages: tuple[int, ...] = ()
    tensorboard: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "dimensions", tuple(self.dimensions))
        tables = self.teacher_predictions
        if isinstance(tables, (str, os.PathLike)):  # the characters of a string are no tables
            raise InputError(f"teacher_predictions must be a list of files, such as [{tables!r}]")
        object.__setattr__(self, "teacher_predictions", tuple(map(Path, tables)))
        if self.teacher_predictions and not self.recipe.label_std_scale:
            raise InputError(
                "teacher predictions make the labels distributions, which label_std_scale=0 "
                "ignores; use --set label_std_scale=1"
            )
        if not self.teacher_predictions and self.recipe.teacher_weight != Recipe.teacher_weight:
            raise InputError(
                f"teacher_weight={self.recipe.teacher_weight:g} has no effect without "
                "--teacher-predictions FILE; give the predictions, or leave out the weight"
            )
        for name in ("data", "output", "exclude", "split", "cache"):
            value = getattr(self, name)
            if isinstance(value, Mapping):
                paths = {reader: Path(path) for reader, path in value.items()}
                object.__setattr__(self, name, paths)
            elif value is not None:
                object.__setattr__(self, name, Path(value))
        if isinstance(self.data, Mapping) and (self.dataset or not self.data):
            raise InputError(
                f"data must be datasets by name, without dataset={self.dataset!r}, not {self.data}"
            )
        if self.precision not in _PRECISIONS:
            known = ", ".join(_PRECISIONS)
            raise InputError(f"precision must be one of {known}, not {self.precision!r}")
        if self.accumulate < 1:
            raise InputError(f"accumulate must be at least 1, not {self.accumulate}")
        if self.workers is not None and self.workers < 0:
            raise InputError(f"workers must not be negative, not {self.workers}")

    def by_dataset(
        self, option: Literal["exclude", "split"], names: Sequence[str]
    ) -> dict[str, Path]:
        """Return the files of an option by dataset, of which `names` are all.

        Raises:
            InputError: A file is that of no dataset, or of none in particular.
        """
        given = getattr(self, option)
        if given is None:
            return {}
        if not isinstance(given, Mapping):
            if len(names) > 1:
                several = " ".join(f"--{option} {name}=FILE" for name in names)
                raise InputError(f"several datasets need {several}, not --{option} {given}")
            return {names[0]: given}
        for name, path in given.items():
            if name not in names:
                raise InputError(f"--{option} {name}={path} is for {name}, which has no --data")
        return dict(given)

    def paths(self, dataset: str) -> dict[str, Path]:
        """Return the path of every dataset by name; `dataset` is the default name.

        Raises:
            InputError: The default is the name of several datasets joined by "+".
        """
        if isinstance(self.data, Mapping):
            return dict(self.data)
        if "+" in dataset and not self.dataset:
            several = " ".join(f"--data {name}=DIR" for name in dataset.split("+"))
            raise InputError(f"the model is trained on several datasets; give {several}")
        return {self.dataset or dataset: self.data}
