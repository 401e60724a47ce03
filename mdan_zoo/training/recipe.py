"""Recipes: everything that decides what weights a training gives, as data. No torch.

The defaults are the paper's (section 5.2); a model's own recipe says where it departs from them.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mdan_zoo.errors import InputError, UnknownNameError, did_you_mean
from mdan_zoo.weights.manifest import load_manifest
from mdan_zoo.zoo.factory import MODELS, released_weights

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_FOLDER = Path(__file__).parent / "recipes"

_FINE_TUNING_STEPS = 100  # no gain from 50 on in benchmarks/fine_tuning_steps.py

_CHOICES = {
    "optimizer": ("sgd", "adamw"),
    "schedule": ("step", "cosine"),
    "balance": ("none", "loss", "sampling"),
    "stored_as": ("float32", "float16", "bfloat16"),
}
_ABOVE_ZERO = ("epochs", "batch_size", "learning_rate", "step_epochs")
_NOT_NEGATIVE = (
    "seed",
    "least_steps",
    "backbone_rate",
    "weight_decay",
    "warmup_steps",
    "clip_norm",
    "softness",
    "views",
    "overall_weight",
    "local_weight",
    "global_weight",
)


@dataclass(frozen=True)
class Recipe:
    """How one model is trained.

    Attributes:
        model: Name of the model.
        init: Name of the model, or a weight file, that it starts from; empty starts from the
            backbone's ImageNet weights. The paper's small sets start from FI.
        split: How the data set is divided: "80/20", "80/5/15", "official" for the parts that it
            comes with, "official or 80/20" for the latter where it comes without, "5-fold",
            "grouped-5-fold", or "all" for training on every image. With folds a network is
            trained and tested for each, and then the released one on every image.
        seed: Start of every random choice: weights, division, crops, order of the images.
        epochs: Passes over the training images.
        least_steps: Epochs are added until the training has so many steps, which few images would
            not make in `epochs`; 0 adds none. Own emotion trees are trained for at least 100,
            unless `epochs` is given.
        batch_size: Images per step, over all processes. What is left of an epoch is dropped.
        optimizer: "sgd" or "adamw".
        momentum: Of SGD; AdamW's first beta.
        weight_decay: Of either.
        learning_rate: Of the new layers.
        backbone_rate: Of the backbone.
        schedule: "step" multiplies both rates by 0.1 every `step_epochs`; "cosine" lowers them to
            0 at the end.
        step_epochs: See `schedule`.
        warmup_steps: Steps over which the rates rise to their value, at most a tenth of all.
        clip_norm: Gradients are scaled down to this norm; 0 leaves them.
        ema_decay: Each step the released weights keep this share of themselves and take the rest
            from the trained ones; 0 releases the trained ones.
        frozen_stages: How many of the backbone's four stages (the first with the stem) keep their
            ImageNet weights; 4 freezes the backbone.
        batch_statistics: Whether the backbone's BatchNorm layers use and learn the statistics of
            the batch. False keeps those of ImageNet, for small batches.
        views: 0 crops every image anew in every epoch. Else so many versions of each image,
            itself, its mirror image and random crops, are drawn once, and the frozen stages' maps
            of them kept, which makes a training on a CPU a matter of minutes; needs at least 3
            frozen stages.
        min_crop_area: 0 takes crops of the model's crop from the resized image, the paper's way.
            Above 0 a crop shows at least this share of the image and is resized.
        softness: 0 learns the hard labels. Above 0, where a data set has the raters' distribution,
            that is learned; where it follows from a mean and a standard deviation (OASIS), the
            deviation is multiplied by this.
        balance: What makes up for classes of unequal size: "none", "loss" (rare leaves weigh
            more), or "sampling" (they are drawn more often).
        base_rate_start: Whether the classifier on the backbone starts with the frequencies of the
            classes, instead of at random. False where `init` has a trained one, unless it is set.
        overall_weight: Weight of the loss on P_O (Eq. 3); the paper's is 1, and 0 for the others.
        local_weight: Weight of the same loss on P_L.
        global_weight: Weight of the same loss on P_G.
        stored_as: Type of the numbers in the weight file; float16 halves it.
    """

    model: str
    init: str = ""
    split: str = "official or 80/20"
    seed: int = 0
    epochs: int = 30
    least_steps: int = 0
    batch_size: int = 64
    optimizer: str = "sgd"
    momentum: float = 0.9
    weight_decay: float = 0.001
    learning_rate: float = 0.01
    backbone_rate: float = 0.001
    schedule: str = "step"
    step_epochs: int = 10
    warmup_steps: int = 0
    clip_norm: float = 0.0
    ema_decay: float = 0.0
    frozen_stages: int = 0
    batch_statistics: bool = True
    views: int = 0
    min_crop_area: float = 0.0
    softness: float = 0.0
    balance: str = "none"
    base_rate_start: bool = False
    overall_weight: float = 1.0
    local_weight: float = 0.0
    global_weight: float = 0.0
    stored_as: str = "float32"

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if isinstance(value, float) and not math.isfinite(value):
                raise InputError(f"{name} must be a finite number, not {value}")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                known = ", ".join(choices)
                raise InputError(f"{name} must be one of {known}, not {getattr(self, name)!r}")
        for name in _ABOVE_ZERO:
            if getattr(self, name) <= 0:
                raise InputError(f"{name} must be above 0, not {getattr(self, name)}")
        for name in _NOT_NEGATIVE:
            if getattr(self, name) < 0:
                raise InputError(f"{name} must not be negative, not {getattr(self, name)}")
        if self.seed >= 1 << 32:
            raise InputError(f"seed must be below 2**32, not {self.seed}")
        for name in ("momentum", "ema_decay"):
            if not 0 <= getattr(self, name) < 1:
                value = getattr(self, name)
                raise InputError(f"{name} must be at least 0 and below 1, not {value}")
        if not 0 <= self.min_crop_area <= 1:
            raise InputError(f"min_crop_area must be in 0..1, not {self.min_crop_area}")
        self._check_views()
        if self.overall_weight + self.local_weight + self.global_weight == 0:
            raise InputError("overall_weight, local_weight and global_weight must not all be 0")

    def for_images(self, count: int) -> Recipe:
        """Return the recipe with as many epochs as make `least_steps` of so many images.

        The rates fall later in proportion.
        """
        per_epoch = max(1, count // self.batch_size)
        epochs = max(self.epochs, math.ceil(self.least_steps / per_epoch))
        step_epochs = math.ceil(self.step_epochs * epochs / self.epochs)
        return dataclasses.replace(self, epochs=epochs, step_epochs=step_epochs)

    def _check_views(self) -> None:
        if not 0 <= self.frozen_stages <= 4:
            raise InputError(f"frozen_stages must be in 0..4, not {self.frozen_stages}")
        if self.views == 1:
            raise InputError("views must be 0, or at least 2 (plain and mirrored), not 1")
        if self.views and self.frozen_stages < 3:
            raise InputError(
                f"views={self.views} keeps the maps of frozen stages, so frozen_stages must be 3 "
                f"or 4, not {self.frozen_stages}; views=0 crops anew in every epoch"
            )
        if self.views and not self.min_crop_area:
            raise InputError(f"views={self.views} needs a min_crop_area above 0, such as 0.6")


def list_recipes() -> list[str]:
    """Return the names of the models that have a recipe."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def load_recipe(model: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read the recipe of a model.

    Args:
        model: Name of a model that has one.
        overrides: Changes such as "epochs=3".

    Raises:
        UnknownNameError: The model has no recipe, or there is no such field.
        InputError: A value is impossible.
    """
    path = _FOLDER / f"{model}.toml"
    if model not in list_recipes():
        raise UnknownNameError(
            f"there is no training recipe for {model!r}; {did_you_mean(model, list_recipes())}"
        )
    values = tomllib.loads(path.read_text(encoding="utf-8"))
    for override in overrides:
        name, equals, text = override.partition("=")
        if not equals:
            raise InputError(f"a change to the recipe is written NAME=VALUE, not {override!r}")
        if name == "model":
            raise InputError("a recipe's model cannot be changed; train another model by its name")
        values[name] = text
    if values.get("init") and not any(text.startswith("base_rate_start=") for text in overrides):
        values["base_rate_start"] = False  # the trained classifier is kept
    return _read(values)


def fine_tuning_recipe(init: str, overrides: Sequence[str] = (), *, recipe: str = "") -> Recipe:
    """Return a model's recipe adapted to fine-tuning on an own emotion tree.

    Args:
        init: Name of a model with released weights, or a weight file, to start from.
        overrides: Changes such as "epochs=3".
        recipe: The model whose recipe it is; by default `init`, or the first registered one of the
            same network where `init` is a file of a model that was itself fine-tuned.

    Raises:
        UnknownNameError: The model has no recipe, or there is no such field.
        InputError: A value is impossible, or the file is of no registered network.
        CheckpointError: The file is damaged.
    """
    if not recipe:
        recipe = _recipe_of(init)
    # The rows of classes that both trees have are kept, so the classifiers do not start anew.
    start = ["split=official or 80/20", "base_rate_start=false", "stored_as=float32"]
    if not any(override.startswith("epochs=") for override in overrides):
        start.append(f"least_steps={_FINE_TUNING_STEPS}")
    return dataclasses.replace(load_recipe(recipe, [*start, *overrides]), init=init)


def _recipe_of(init: str) -> str:
    """Return the model whose recipe fits a model's name or a weight file."""
    if is_weight_file(init):
        return _registered_like(init)
    if init not in list_recipes() and init in load_manifest():
        return _registered_like(str(released_weights(init)))
    return init


def is_weight_file(init: str) -> bool:
    """Tell whether `Recipe.init` is a weight file, which may be missing, and not a model's name."""
    return Path(init).suffix == ".safetensors" or Path(init).is_file()


def _registered_like(path: str) -> str:
    from mdan_zoo.weights.checkpoint import read_identity  # loads torch

    config, _ = read_identity(path)
    if config.name in MODELS:
        return config.name
    for name, known in MODELS.items():
        if (known.architecture, known.backbone, known.options) == (
            config.architecture,
            config.backbone,
            config.options,
        ):
            return name
    raise InputError(
        f"{path} is of no registered network; say whose recipe to train it by, such as "
        "--recipe mdan_oasis4"
    )


def _read(values: Mapping[str, Any]) -> Recipe:
    types = {field.name: str(field.type) for field in dataclasses.fields(Recipe)}
    parsed: dict[str, Any] = {}
    for name, value in values.items():
        if name not in types:
            raise UnknownNameError(f"a recipe has no {name!r}; {did_you_mean(name, types)}")
        parsed[name] = _convert(name, value, types[name])
    return Recipe(**parsed)


def _convert(name: str, value: object, kind: str) -> object:
    """Return a value from TOML or the command line as the type of its field."""
    text = str(value)
    try:
        if kind == "bool":
            return {"true": True, "false": False}[text.lower()]
        if kind == "int":
            return int(text)  # of the text, so that 2.5 is refused and not cut to 2
        return float(text) if kind == "float" else text
    except (ValueError, KeyError) as error:
        words = {"int": "a whole number", "float": "a number", "bool": "true or false"}
        raise InputError(f"{name} must be {words[kind]}, not {text!r}") from error
