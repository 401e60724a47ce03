"""Training recipes: the hyperparameters of every model, as data. No torch.

The defaults are those of the paper (section 5.2). A model's TOML file lists what differs.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from mdan_zoo._util.values import convert
from mdan_zoo.errors import InputError, UnknownNameError, did_you_mean
from mdan_zoo.images.input_spec import STRIDE
from mdan_zoo.weights.manifest import load_manifest
from mdan_zoo.zoo.configs import REGISTERED, SYSTEMS
from mdan_zoo.zoo.factory import read_released

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_FOLDER = Path(__file__).parent / "recipes"

_RENAMED = {
    "least_steps": "min_steps",
    "learning_rate": "lr",
    "backbone_rate": "backbone_lr",
    "clip_norm": "max_grad_norm",
    "batch_statistics": "freeze_bn",
    "views": "cached_views",
    "softness": "label_std_scale",
    "base_rate_start": "init_bias_from_priors",
    "stored_as": "save_dtype",
}
"""Field names of version 0.1 and their current names."""

_FINE_TUNING_STEPS = 100  # no gain from 50 on in benchmarks/fine_tuning_steps.py

_CHOICES = {
    "optimizer": ("sgd", "adamw"),
    "schedule": ("step", "cosine"),
    "balance": ("none", "loss", "sampling"),
    "save_dtype": ("float32", "float16", "bfloat16"),
}
LOSS_WEIGHTS = ("overall_weight", "local_weight", "global_weight")
"""The weights of the losses, which are None for the architecture's own."""

_NOT_NEGATIVE = (
    *("seed", "min_steps", "backbone_lr", "weight_decay", "warmup_steps", "max_grad_norm"),
    *("label_std_scale", "cached_views", "views_seed", "dimension_weight", *LOSS_WEIGHTS),
)
_LIMITS: tuple[tuple[Sequence[str], Callable[[Any], bool], str], ...] = (
    (
        ("epochs", "batch_size", "lr", "step_epochs", "temperature"),
        lambda value: value > 0,
        "be above 0",
    ),
    (_NOT_NEGATIVE, lambda value: value >= 0, "not be negative"),
    (("seed", "views_seed"), lambda value: value < 1 << 32, "be below 2**32"),
    (
        ("momentum", "ema_decay", "label_smoothing"),
        lambda value: 0 <= value < 1,
        "be at least 0 and below 1",
    ),
    (("min_crop_area", "teacher_weight"), lambda value: 0 <= value <= 1, "be in 0..1"),
    (
        ("train_size", "start_size"),
        lambda value: value >= 0 and value % STRIDE == 0,
        f"be a multiple of {STRIDE}",
    ),
    (("frozen_stages",), lambda value: 0 <= value <= 4, "be in 0..4"),
)


@dataclass(frozen=True)
class Recipe:
    """Hyperparameters of a training run. The same recipe and data give the same weights.

    Attributes:
        model: Name of the model.
        init: Name of a model, or a checkpoint, to start from. Empty: start from the ImageNet
            weights of the backbone. The paper starts the models of its small datasets from FI.
        split: How the dataset is split: "80/20", "80/5/15", "official" for the split published
            with the dataset, "official or 80/20" to fall back to 80/20 if it has none, "5-fold",
            "grouped-5-fold", or "all" to train on every image. With folds, one network is trained
            and tested per fold, then a final one on every image.
        seed: Seed of all randomness: initial weights, split, crops and order of the images.
        epochs: Number of passes over the training images.
        min_steps: Epochs are added until training has at least this many steps; 0 adds none.
            Fine-tuning on a custom hierarchy uses 100 unless `epochs` is given.
        batch_size: Images per step, summed over all processes. The incomplete last batch of an
            epoch is dropped.
        optimizer: "sgd" or "adamw".
        momentum: Momentum of SGD, or the first beta of AdamW.
        weight_decay: Weight decay of the optimizer.
        lr: Learning rate of the new layers.
        backbone_lr: Learning rate of the backbone; 0 freezes it.
        schedule: "step" multiplies both learning rates by 0.1 every `step_epochs`; "cosine"
            decays them to 0.
        step_epochs: Epochs between two decays of the "step" schedule. With `stages`, it decays at
            the transitions between them instead.
        stages: Curriculum training (Panda et al., Contemplating Visual Emotions, 2018): levels of
            the hierarchy, such as "polarity,emotion", trained one after the other. Empty: none.
        warmup_steps: Steps of linear warm-up, at most a tenth of all steps.
        max_grad_norm: Gradients are clipped to this norm; 0 disables clipping.
        ema_decay: Decay of the exponential moving average of the weights, which is what is saved;
            0 saves the trained weights themselves.
        frozen_stages: How many of the four backbone stages, counted from the input, have frozen
            weights. The first includes the stem.
        freeze_bn: Whether the BatchNorm layers of the backbone stay in evaluation mode and keep
            their pretrained statistics, which small batches need.
        cached_views: With 0, a new crop of every image is drawn in every epoch. Above 0, this many
            views of each image (the image, its mirror image and random crops) are drawn once and
            the feature maps of the frozen stages are cached on disk, which makes training on a CPU
            a matter of minutes. Needs `frozen_stages` of at least 1.
        views_seed: Seed of the cached views, which runs with other values of `seed` can share.
            None: that of `seed`.
        min_crop_area: With 0, a crop of the model's input size is taken from the resized image, as
            in the paper. Above 0, crops cover at least this fraction of the image and are resized.
        train_size: Side of the crops in pixels; 0 is the input size of the model. Objects look
            larger in random crops than in whole images, so training can use a smaller size than
            tests (Touvron et al., 2019). Cached views also have this size.
        start_size: With 0, the crops have the same size in all epochs. Above 0, progressive
            resizing: the crops of the first epoch have this side in pixels, and it grows linearly,
            in multiples of 32, to `train_size` in the last epoch. Cannot be combined with
            `cached_views`.
        label_std_scale: With 0, training uses hard labels. Above 0, it uses the distribution of the
            raters' answers if the dataset provides it; where it is computed from a mean and a
            standard deviation (OASIS), the standard deviation is multiplied by this factor.
        label_smoothing: This part of the probability of a hard label is divided equally among all
            classes of its level. Unanimous votes count as hard labels.
        teacher_weight: Weight of the predictions of teachers, if there are any; that of the labels
            is 1 minus this.
        dataset_weights: With several datasets, the relative number of images that each
            contributes to training, such as "FI=3,OASIS=1". An epoch then shows every image at
            least once, except those of the incomplete last batch. Empty: every image once per
            epoch.
        balance: How unequal class sizes are compensated for: "none", "loss" (rare leaves have a
            larger weight in the loss) or "sampling" (they are sampled more often).
        init_bias_from_priors: Whether the classifier on the backbone starts at the class
            frequencies of the training set. If `init` is given, it is false even where the recipe
            says true, because `init` provides a trained classifier; `--set` overrides this.
        overall_weight: Weight of the loss on the overall probabilities (P_O, Eq. 3). None: the
            default of the architecture, which for MDAN is 1, as in the paper.
        local_weight: Weight of the same loss on the local probabilities (P_L). None: the default
            of the architecture, which for MDAN is 0.
        global_weight: Weight of the same loss on the global probabilities (P_G). None: the default
            of the architecture, which for MDAN is 0.
        dimension_weight: Weight of the loss on the dimensions, the squared error in units of the
            standard deviation of the training ratings.
        temperature: Divisor of the logits of the saved model, which makes its probabilities agree
            with its accuracy. None: fitted on the part val of the splits; 1 if they have none.
        save_dtype: Data type of the saved weights; float16 halves the file.
    """

    model: str
    init: str = ""
    split: str = "official or 80/20"
    seed: int = 0
    epochs: int = 30
    min_steps: int = 0
    batch_size: int = 64
    optimizer: str = "sgd"
    momentum: float = 0.9
    weight_decay: float = 0.001
    lr: float = 0.01
    backbone_lr: float = 0.001
    schedule: str = "step"
    step_epochs: int = 10
    stages: str = ""
    warmup_steps: int = 0
    max_grad_norm: float = 0.0
    ema_decay: float = 0.0
    frozen_stages: int = 0
    freeze_bn: bool = False
    cached_views: int = 0
    views_seed: int | None = None
    min_crop_area: float = 0.0
    train_size: int = 0
    start_size: int = 0
    label_std_scale: float = 0.0
    label_smoothing: float = 0.0
    teacher_weight: float = 0.5
    dataset_weights: str = ""
    balance: str = "none"
    init_bias_from_priors: bool = False
    overall_weight: float | None = None
    local_weight: float | None = None
    global_weight: float | None = None
    dimension_weight: float = 0.2
    temperature: float | None = None
    save_dtype: str = "float32"

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if isinstance(value, float) and not math.isfinite(value):
                raise InputError(f"{name} must be a finite number, not {value}")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                known = ", ".join(choices)
                raise InputError(f"{name} must be one of {known}, not {getattr(self, name)!r}")
        for names, is_valid, requirement in _LIMITS:
            for name in names:
                value = getattr(self, name)
                if value is not None and not is_valid(value):
                    raise InputError(f"{name} must {requirement}, not {value}")
        if self.cached_views == 1:
            raise InputError("cached_views must be 0, or at least 2 (plain and mirrored), not 1")
        if self.cached_views and not self.frozen_stages:
            raise InputError(
                f"cached_views={self.cached_views} caches the feature maps of frozen stages, so "
                "frozen_stages must be at least 1; cached_views=0 draws new crops in every epoch"
            )
        if self.cached_views and not self.min_crop_area:
            raise InputError(
                f"cached_views={self.cached_views} needs a min_crop_area above 0, such as 0.6"
            )
        if self.cached_views and self.start_size:
            raise InputError(
                f"start_size={self.start_size} cannot be combined with "
                f"cached_views={self.cached_views}, which all have the same size"
            )
        if self.dataset_weights and self.balance == "sampling":
            raise InputError(
                f"balance=sampling cannot be combined with dataset_weights={self.dataset_weights}"
            )
        self.weights_by_dataset()  # raises
        self.stage_levels()  # raises

    def stage_levels(self) -> list[int | str]:
        """Return the level of every stage, by index or name; [] if there are no stages."""
        names = [name.strip() for name in self.stages.split(",")] if self.stages else []
        if "" in names or len(names) > self.epochs:
            raise InputError(
                "stages must be levels of the hierarchy, such as polarity,emotion, and at most as "
                f"many as epochs={self.epochs}, not {self.stages!r}"
            )
        return [int(name) if name.isdecimal() else name for name in names]

    @property
    def stage_ends(self) -> list[int]:
        """Epochs that are completed at the end of every stage, of which there is at least one."""
        count = max(1, len(self.stage_levels()))
        return [self.epochs * number // count for number in range(1, count + 1)]

    def weights_by_dataset(self) -> dict[str, float]:
        """Return the sampling weight of every dataset; {} if the recipe has none."""
        weights = {}
        for item in filter(None, self.dataset_weights.split(",")):
            name, equals, text = item.partition("=")
            try:
                weights[name.strip()] = float(text)
            except ValueError:
                equals = ""
            if not equals or not 0 < weights[name.strip()] < math.inf:
                raise InputError(
                    "dataset_weights must be positive numbers by dataset, such as FI=3,OASIS=1, "
                    f"not {self.dataset_weights!r}"
                )
        return weights

    @property
    def seed_of_views(self) -> int:
        """Seed of the cached views."""
        return self.seed if self.views_seed is None else self.views_seed

    def for_images(self, count: int) -> Recipe:
        """Return the recipe with the epochs, and in proportion `step_epochs`, for `min_steps`."""
        per_epoch = max(1, count // self.batch_size)
        epochs = max(self.epochs, math.ceil(self.min_steps / per_epoch))
        step_epochs = math.ceil(self.step_epochs * epochs / self.epochs)
        return dataclasses.replace(self, epochs=epochs, step_epochs=step_epochs)


def list_recipes() -> list[str]:
    """Return the names of the models that have a recipe, sorted."""
    return sorted({*(path.stem for path in _FOLDER.glob("*.toml")), *SYSTEMS})


def load_recipe(model: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read the recipe of a model; `overrides` are fields to change, such as "epochs=3".

    A system of `zoo.configs.SYSTEMS` has the recipe of MDAN on the same dataset, and starts from
    the same system where that one starts from another model.

    Raises:
        UnknownNameError: The model has no recipe, or the recipe has no such field.
        InputError: A value is invalid, or the file is no valid TOML.
    """
    if model not in list_recipes():
        raise UnknownNameError(
            f"there is no training recipe for {model!r}; {did_you_mean(model, list_recipes())}"
        )
    system, _, dataset = model.partition("_")
    path = _FOLDER / f"{f'mdan_{dataset}' if model in SYSTEMS else model}.toml"
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"the recipe {path} is not valid TOML: {error}") from error
    if model in SYSTEMS:
        for name in {"model", "init"} & values.keys():
            values[name] = values[name].replace("mdan", system)
    changes: dict[str, str] = {}
    for override in overrides:
        name, equals, changes[name] = override.partition("=")
        if not equals:
            raise InputError(f"changes to the recipe have the form FIELD=VALUE, not {override!r}")
        if name == "model":
            raise InputError("a recipe's model cannot be changed; name the model to train instead")
        if name in _RENAMED:
            inverted = ", with the opposite value" if name == "batch_statistics" else ""
            raise UnknownNameError(f"{name} is now called {_RENAMED[name]}{inverted}")
    values |= changes
    if values.get("init") and "init_bias_from_priors" not in changes:
        values["init_bias_from_priors"] = False  # the trained classifier is kept
    types = get_type_hints(Recipe)
    for name in values:
        if name not in types:
            raise UnknownNameError(f"a recipe has no field {name!r}; {did_you_mean(name, types)}")
    return Recipe(**{name: convert(name, value, types[name]) for name, value in values.items()})


def fine_tuning_recipe(init: str, overrides: Sequence[str] = (), *, recipe: str = "") -> Recipe:
    """Return a model's recipe, adapted to fine-tuning on a custom hierarchy.

    Args:
        init: Name of a model with released weights, or a checkpoint, to start from.
        overrides: Fields to change, such as "epochs=3".
        recipe: The model whose recipe is used. Default: `init`; for a checkpoint of a fine-tuned
            model, the first registered model with the same network.

    Raises:
        UnknownNameError: The model has no recipe, or the recipe has no such field.
        InputError: A value is invalid, or the checkpoint belongs to no registered network.
        CheckpointError: The checkpoint is damaged.
    """
    if not recipe:
        recipe = init
        if is_weight_file(init):
            recipe = _registered_like(init)
        elif init not in list_recipes() and init in load_manifest():
            recipe = _registered_like(str(read_released(init).path))
    # The classifier rows of classes that both hierarchies have are kept.
    start = ["split=official or 80/20", "init_bias_from_priors=false", "save_dtype=float32"]
    start += ["dataset_weights=", "temperature=none", "stages="]  # those of the model's own images
    if not any(override.startswith("epochs=") for override in overrides):
        start.append(f"min_steps={_FINE_TUNING_STEPS}")
    return dataclasses.replace(load_recipe(recipe, [*start, *overrides]), init=init)


def is_weight_file(init: str) -> bool:
    """Return whether `Recipe.init` is the path of a checkpoint, which may be missing."""
    return Path(init).suffix == ".safetensors" or Path(init).is_file()


def _registered_like(path: str) -> str:
    """Return the registered model of a checkpoint, or the first one with the same network."""
    from mdan_zoo.weights.checkpoint import read_identity  # loads torch

    config, _ = read_identity(path)
    network = (config.architecture, config.backbone, config.options)
    for name in (config.name, *REGISTERED):
        known = REGISTERED.get(name)
        if known and (known.architecture, known.backbone, known.options) == network:
            return name
    if config.name in REGISTERED:  # with another backbone, for example
        return config.name
    raise InputError(
        f"no registered model has the network of {path}; choose a recipe, such as "
        "--recipe mdan_oasis4"
    )


def current_fields(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the current fields of a stored recipe, which may have the names of version 0.1."""
    fields = {_RENAMED.get(name, name): value for name, value in values.items()}
    if "batch_statistics" in values:
        fields["freeze_bn"] = not values["batch_statistics"]
    return fields


def complete_fields(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return all fields of a stored recipe, with the defaults of fields that were added since."""
    return {**dataclasses.asdict(Recipe(values["model"])), **current_fields(values)}
