"""Recipes: everything that decides what weights a training gives, as data. No torch."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mdan_zoo.errors import InputError, UnknownNameError, did_you_mean

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_FOLDER = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class Recipe:
    """How one model is trained.

    Attributes:
        model: Name of the model.
        seed: Start of every random choice: weights, crops, order of the pictures.
        epochs: Passes over the training pictures.
        batch_size: Pictures per step.
        learning_rate: Of the new layers, reached after the warm-up and lowered to 0 by a cosine.
        last_stage_rate: The same for the backbone's last stage, from C4 to C5; at 0 the whole
            backbone stays frozen. Its earlier stages always do.
        weight_decay: Of AdamW.
        warmup_steps: Steps over which the learning rate rises.
        ema_decay: Each step, the released weights keep this share of themselves.
        views: Versions of each picture: itself, its mirror image, and random crops of it.
        min_crop_area: Smallest share of a picture that a random crop shows.
        softness: Share of the raters' standard deviation that goes into the soft labels; towards
            0 the labels become hard.
        overall_weight: Weight of the loss on P_O (Eq. 3); the paper's recipe is 1, 0, 0.
        local_weight: Weight of the same loss on P_L.
        global_weight: Weight of the same loss on P_G.
    """

    model: str
    seed: int = 0
    epochs: int = 8
    batch_size: int = 32
    learning_rate: float = 1e-3
    last_stage_rate: float = 0.0
    weight_decay: float = 0.05
    warmup_steps: int = 20
    ema_decay: float = 0.99
    views: int = 12
    min_crop_area: float = 0.6
    softness: float = 0.75
    overall_weight: float = 1.0
    local_weight: float = 0.0
    global_weight: float = 0.0

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if isinstance(value, float) and not math.isfinite(value):
                raise InputError(f"{name} must be a finite number, not {value}")
        for name in ("epochs", "batch_size", "learning_rate", "softness"):
            if getattr(self, name) <= 0:
                raise InputError(f"{name} must be above 0, not {getattr(self, name)}")
        for name in ("seed", "last_stage_rate", "weight_decay", "warmup_steps"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} must not be negative, not {getattr(self, name)}")
        if self.views < 2:
            raise InputError(f"views must be at least 2 (plain and mirrored), not {self.views}")
        if not 0 < self.min_crop_area <= 1:
            raise InputError(f"min_crop_area must be above 0, at most 1, not {self.min_crop_area}")
        if not 0 <= self.ema_decay < 1:
            raise InputError(f"ema_decay must be at least 0 and below 1, not {self.ema_decay}")
        weights = (self.overall_weight, self.local_weight, self.global_weight)
        if min(weights) < 0 or sum(weights) <= 0:
            raise InputError(
                "overall_weight, local_weight and global_weight must not be negative and not all "
                f"be 0, as {weights} are"
            )


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
    return _read(values)


def _read(values: Mapping[str, Any]) -> Recipe:
    types = {field.name: field.type for field in dataclasses.fields(Recipe)}
    parsed: dict[str, Any] = {}
    for name, value in values.items():
        if name not in types:
            raise UnknownNameError(f"a recipe has no {name!r}; {did_you_mean(name, types)}")
        convert = {"int": int, "float": float, "str": str}[str(types[name])]
        try:
            parsed[name] = convert(value)
        except ValueError as error:
            raise InputError(f"{name} must be a {types[name]}, not {value!r}") from error
    return Recipe(**parsed)
