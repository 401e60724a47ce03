"""Training runs of a comparison: checks before any work, and one run per system and seed."""

from __future__ import annotations

import dataclasses
import functools
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mdan_zoo.comparison.systems import System
from mdan_zoo.datasets.file_index import FileIndex
from mdan_zoo.errors import (
    InputError,
    MdanZooError,
    TrainingDivergedError,
    UnknownNameError,
    did_you_mean,
)
from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.models.config import ModelConfig
from mdan_zoo.models.operations import multiply_accumulates
from mdan_zoo.training.config import TrainingConfig
from mdan_zoo.training.distributed import in_main_process, is_main_process
from mdan_zoo.training.feature_cache import remove_caches
from mdan_zoo.training.model import describe_model, initial_weights_sha256, stages_to_cache
from mdan_zoo.training.pipeline import check_output, train
from mdan_zoo.training.recipe import LOSS_WEIGHTS, Recipe, complete_fields, load_recipe
from mdan_zoo.training.report import REPORT_FILE, as_text, read_report, repeating_command
from mdan_zoo.training.run import read_datasets
from mdan_zoo.training.splitting import Source, find_sources, keep_splits, training_sets
from mdan_zoo.training.system_recipes import own_fields
from mdan_zoo.zoo.factory import get_config


@dataclass(frozen=True)
class Member:
    """A system that has been checked.

    Attributes:
        recipe: Its recipe with seed 0.
        model: Config of its models; each is named after the folder of its run.
        hierarchy: Hierarchy of the labels.
        parameters: Number of parameters.
        gmacs: Billions of multiply-accumulates for one image.
        stages: Feature maps to cache for its training, if the recipe caches any.
    """

    system: System
    recipe: Recipe
    model: ModelConfig
    hierarchy: Hierarchy
    parameters: int
    gmacs: float
    stages: tuple[int, ...]


@dataclass(frozen=True)
class Comparison:
    """Systems to train with one recipe and to test on one split.

    Attributes:
        systems: The systems.
        config: What their runs share: data, split, backbone and so on; the recipe is that of
            `shared_recipe`, `output` the folder of the comparison, and `options` apply to all
            systems whose architecture has them.
        changes: Changes to the recipe, such as "epochs=3".
        seeds: Number of runs of each system, with the seeds 0, 1, ...
    """

    systems: Sequence[System]
    config: TrainingConfig
    changes: Sequence[str] = ()
    seeds: int = 1

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise InputError(f"seeds must be at least 1, not {self.seeds}")
        if any(change.startswith("seed=") for change in self.changes):
            raise InputError("the seeds of a comparison are 0, 1, ...; give their number as seeds")
        names = [system.folder for system in self.systems]
        if len(set(names)) < len(names):
            raise InputError(f"a system is given twice: {', '.join(names)}")

    def config_of(self, system: System, seed: int) -> TrainingConfig:
        """Return the configuration of a run.

        Recipe fields that belong to a model are those of its own recipe. Its temperature is fitted
        unless it is among the changes: that of a recipe belongs to released weights.
        """
        shared, own = self.config, get_config(system.model).options
        other = {"model", *own_fields(system.model)}
        fields = dataclasses.asdict(shared.recipe).items()
        common = [f"{name}={as_text(value)}" for name, value in fields if name not in other]
        recipe = load_recipe(system.model, [*common, "temperature=none", *self.changes])
        changes = {name: v for name, v in shared.options.items() if hasattr(own, name)}
        return dataclasses.replace(
            shared,
            recipe=dataclasses.replace(
                recipe,
                seed=seed,
                views_seed=recipe.seed_of_views if recipe.cached_views else None,
                stages=system.stages or recipe.stages,
            ),
            output=shared.output / f"{system.folder}_seed{seed}",
            backbone=(system.backbone or None) if system.has_own_backbone else shared.backbone,
            backbone_weights=None if system.has_own_backbone else shared.backbone_weights,
            options={**changes, **system.options},
        )

    @functools.cached_property
    def members(self) -> list[Member]:
        """The systems, checked without reading an image.

        Raises:
            MdanZooError: The options of a system are invalid or contradict each other.
            InputError: The systems cannot be compared.
        """
        options = [(s, vars(get_config(s.model).options)) for s in self.systems]
        for name, value in self.config.options.items():
            having = [system for system, own in options if name in own]
            if not having:
                known = {known for _, own in options for known in own}
                raise UnknownNameError(
                    f"no system has an option {name!r}; {did_you_mean(name, known)}"
                )
            if all(name in system.options for system in having):
                raise InputError(
                    f"every system with an option {name!r} has a value of its own; remove "
                    f"--option {name}={value}"
                )
        members = [self._check(system) for system in self.systems]
        _check_equal("hierarchy", {m.system.text: m.model.hierarchy for m in members})
        inputs = {m.system.text: describe_input(m.model) for m in members}
        _check_equal("input", inputs, "give one with --size and --resize-mode")
        usual = [member for member in members if not member.system.has_own_backbone]
        backbones = {m.system.text: m.model.backbone for m in usual}
        _check_equal("backbone", backbones, "give one with --backbone")
        for name in ("backbone", "backbone_weights") if not usual else ():
            if getattr(self.config, name) is not None:
                option = f"--{name.replace('_', '-')} {getattr(self.config, name)}"
                raise InputError(f"every system has a backbone of its own; remove {option}")
        return members

    def _check(self, system: System) -> Member:
        try:
            config = self.config_of(system, 0)
            _, model, hierarchy, network = describe_model(config)
        except MdanZooError as error:
            raise type(error)(f"{system.text}: {error}") from error
        if model.options != get_config(system.model).options.changed(system.options):
            system = dataclasses.replace(system, row="")  # another network than that of the paper
        return Member(
            system,
            config.recipe,
            model,
            hierarchy,
            sum(parameter.numel() for parameter in network.parameters()),
            multiply_accumulates(network, model.input.crop) / 1e9,
            tuple(stages_to_cache(network, config.recipe)) if config.recipe.cached_views else (),
        )

    def find_split(self, files: FileIndex) -> Source:
        """Return the dataset with its split, which is kept in the folder of the comparison."""
        config, member = self.config, self.members[0]
        if config.recipe.split == "all" and config.split is None:
            raise InputError(
                f"the recipe of {config.recipe.model} trains on all images, which leaves none to "
                "test on; use --set split=80/20 or --split FILE"
            )
        datasets = read_datasets(config, member.model, member.hierarchy)
        sources = find_sources(config, datasets, member.hierarchy, files)
        if "" in training_sets(sources):
            raise InputError("the split of a comparison must have a part test, or folds")
        keep_splits(sources, config.output)
        return sources[0]

    def run_of(self, member: Member, seed: int, source: Source) -> TrainingConfig:
        """Return the configuration of a run with its split and the cache of all runs."""
        cached = self.config.output if member.recipe.cached_views else None
        same = [m.stages for m in self.members if m.model.backbone == member.model.backbone]
        return dataclasses.replace(
            self.config_of(member.system, seed),
            split=source.split_file,
            cache=self.config.cache or cached,
            cached_stages=tuple(sorted(set().union(*same))),
        )


def describe_input(model: ModelConfig) -> str:
    """Return size and resize mode of a model's input."""
    spec = model.input
    if spec.resize_mode == "squash":
        return f"{spec.crop} x {spec.crop} pixels, squashed"
    return f"{spec.crop} x {spec.crop} pixels, cropped after resizing to {spec.resize}"


def train_all(comparison: Comparison) -> tuple[Source, list[str]]:
    """Train and test every run that is not complete; return the dataset and the failed runs.

    A run that diverges is reported, and the others are trained. Other errors are those of
    `Comparison.members` and `train`.
    """
    config, members = comparison.config, comparison.members
    assert not isinstance(config.data, Mapping), "a comparison has one dataset"
    check_output(config.output, config.data)
    files = FileIndex(decode=is_main_process())
    source = comparison.find_split(files)
    assert source.split is not None
    runs = [(member, seed) for seed in range(comparison.seeds) for member in members]
    missing = [
        run
        for run in runs
        if not is_complete(comparison.config_of(run[0].system, run[1]), source.split.sha256)
    ]
    failed = []
    for member, seed in missing:
        number = len(runs) - len(missing) + missing.index((member, seed)) + 1
        _report(f"run {number} of {len(runs)}: {member.system.text}, seed {seed}")
        try:
            train(comparison.run_of(member, seed, source), files)
        except TrainingDivergedError as error:  # other errors may be those of one process
            failed.append(f"{member.system.text}, seed {seed}: {error}")
            _report(failed[-1])
    if config.cache is None and not failed:
        in_main_process(lambda: remove_caches(config.output))
    return source, failed


def is_complete(config: TrainingConfig, split_sha256: str) -> bool:
    """Return whether a run is complete.

    Raises:
        InputError: Its folder has a complete run with another configuration, recipe, split or
            initial weights.
    """
    if not (config.output / REPORT_FILE).is_file():
        return False
    report = read_report(config.output)
    command = shlex.join(repeating_command(dataclasses.replace(config, split=config.output)))
    stored, given = complete_fields(report["recipe"]), dataclasses.asdict(config.recipe)
    resolved = {name for name in LOSS_WEIGHTS if given[name] is None}  # by the training
    resolved |= {"epochs", "step_epochs"} if config.recipe.min_steps else set()
    checks = [
        ("by", repr(report["command"]), repr(command)),
        ("on the split", report.get("split_sha256"), split_sha256),
        (
            "from initial weights with the sha256",
            repr(report.get("initial_weights_sha256", "")),
            repr(initial_weights_sha256(config)),
        ),
        *((f"with {name}", stored[name], given[name]) for name in given if name not in resolved),
    ]
    for how, found, expected in checks:
        if found != expected:
            raise InputError(
                f"{config.output} was trained {how} {found}, not {expected}; choose another "
                "--output, or remove this folder to train it again"
            )
    return "test" in report or "cross_validation" in report


def _check_equal(what: str, values: Mapping[str, str], advice: str = "compare others") -> None:
    if len(set(values.values())) > 1:
        given = "; ".join(f"{label}: {value}" for label, value in values.items())
        raise InputError(f"compared systems must have the same {what}, not {given}: {advice}")


def _report(text: str) -> None:
    if is_main_process():
        print(text, file=sys.stderr, flush=True)
