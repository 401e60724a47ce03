"""Systems of a comparison: models with changed options, and the rows of the paper. No torch."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mdan_zoo.errors import InputError, UnknownNameError, did_you_mean
from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.training.recipe import Recipe, list_recipes, load_recipe
from mdan_zoo.zoo.configs import REGISTERED, SYSTEMS, compared_with

_LOCAL = "lcam=off:branches=local:alpha=1"

PRESETS: Mapping[str, Mapping[str, str]] = {
    "table1": {
        "Table 1, AlexNet [7]": "alexnet",
        "Table 1, VGGNet-16 [17]": "vgg16",
        "Table 1, ResNet-50 [6]": "flat:backbone=resnet50",
        "Table 1, ResNet-101 [6]": "flat",
        "Table 1, Zhu et al. [34]": "cnnrnn",
        "Table 1, Panda [12]": "flat:backbone=resnet50:stages=LEVELS",
        "Table 1, WSCNet [16]": "wscnet",
        "Table 1, PDANet [30]": "pdanet",
        "Table 1, Zhang [28]": "intensity",
        "Table 1, Ours": "mdan",
    },
    "table2": {
        "Table 2, Baseline": "flat",
        "Table 2, (a)": f"mdan:fusion=none:semantic_levels=5,4,3:{_LOCAL}",
        "Table 2, (b)": f"mdan:fusion=none:semantic_levels=4,3,2:{_LOCAL}",
        "Table 2, (c)": f"mdan:fusion=none:semantic_levels=3,4,5:{_LOCAL}",
        "Table 2, (d)": f"mdan:fusion=none:semantic_levels=2,3,4:{_LOCAL}",
        "Table 2, (e)": f"mdan:fusion=lateral:semantic_levels=4,3,2:{_LOCAL}",
        "Table 2, (f)": f"mdan:fusion=lateral:semantic_levels=2,3,4:{_LOCAL}",
    },
    "table4": {
        f"Table 4, {c4} and {c3} heads": f"mdan:heads={c4},{c3},8:alpha=0.6"
        for c4, c3 in ((1, 1), (2, 2), (4, 4), (8, 8), (16, 16), (2, 4), (4, 8))
    },
    "table5": {
        "Table 5, row 1": "mdan:fusion=lateral:lcam=off",
        "Table 5, row 2": "mdan:fusion=mhcca_kv:lcam=off",
        "Table 5, row 3": "mdan:lcam=off",
        "Table 5, row 4": "mdan:lcam=off:upsample_add=false",
        "Table 5, row 5": "mdan:lcam_pooling=mean",
        "Table 5, row 6": "mdan:lcam_pooling=max",
        "Table 5, row 7": "mdan",
        "Table 5, row 8": "mdan:fusion=lateral",
        "Table 5, row 8, second reading": "mdan:upsample_add=false",
    },
    "fig7": {f"Fig. 7, alpha {tenths / 10}": f"mdan:alpha={tenths / 10}" for tenths in range(11)},
}
"""Systems of the paper's tables by row, without the ending of their names for a dataset.

Rows of Table 1 without a network in the zoo are left out. docs/network.md explains the readings.
"""


@dataclass(frozen=True)
class System:
    """A model of the zoo with changes.

    Attributes:
        model: Name of the registered model.
        options: Options of its architecture that differ, by name.
        backbone: Its own backbone; "" for that of the comparison.
        stages: Levels of curriculum training; "" for those of its recipe, see `Recipe.stages`.
        row: The row of the paper that it corresponds to, if any.
    """

    model: str
    options: Mapping[str, str] = field(default_factory=dict)
    backbone: str = ""
    stages: str = ""
    row: str = ""

    @property
    def text(self) -> str:
        """The system in the form of `parse_systems`, its name in the results."""
        own = {"backbone": self.backbone, "stages": self.stages}
        changes = {**{name: value for name, value in own.items() if value}, **self.options}
        return ":".join([self.model, *(f"{name}={value}" for name, value in changes.items())])

    @property
    def folder(self) -> str:
        """The system as the name of a folder."""
        return re.sub(r"[^\w.=+-]+", "_", self.text)

    @property
    def has_own_backbone(self) -> bool:
        """Whether its backbone is given with it or part of its name, as in curriculum_fi8."""
        usual = compared_with(self.model) if self.model in SYSTEMS else self.model
        return bool(self.backbone) or (
            REGISTERED[self.model].backbone != REGISTERED[usual].backbone
        )

    def printed(self, dataset: str) -> dict[str, str]:
        """Return the accuracies of its row of the paper in percent, as printed, by level."""
        from mdan_zoo.evaluation.reference import ablation_results, paper_results  # loads torch

        results = [*paper_results(dataset), *ablation_results(dataset)]
        return {result.level: result.accuracy for result in results if result.source == self.row}


def parse_systems(text: str, dataset: str) -> list[System]:
    """Read systems such as "flat_fi8,mdan_fi8:alpha=0.5:heads=1,1,8".

    A comma before a letter separates systems, unless a level of "stages=polarity,emotion" follows.

    Raises:
        UnknownNameError: There is no such model.
        InputError: A change does not have the form NAME=VALUE.
    """
    of_paper = [system for name in PRESETS for system in _rows(name, dataset)]
    rows = {system.text: system.row for system in reversed(of_paper)}
    items: list[str] = []
    for item in re.split(r",\s*(?=[A-Za-z])", text):
        of_stages = items and re.search(r":stages=[^:]*$", items[-1])
        if of_stages and item.partition(":")[0].strip() not in list_recipes():
            items[-1] += f",{item}"
        else:
            items.append(item)
    found = [_parse(item.strip()) for item in items]
    return [dataclasses.replace(system, row=rows.get(system.text, "")) for system in found]


def preset(name: str, dataset: str) -> list[System]:
    """Return the systems of a table of the paper, with the models of a dataset that exist.

    Raises:
        InputError: The dataset has no MDAN model.
    """
    systems = _rows(name, dataset)
    if not systems:
        known = sorted({config.dataset for config in REGISTERED.values()} - {"FI+OASIS"})
        raise InputError(f"no MDAN is trained on {dataset!r} alone; {did_you_mean(dataset, known)}")
    return systems


def _rows(name: str, dataset: str) -> list[System]:
    """Return the systems of a table of the paper; [] if the dataset has no MDAN."""
    endings = [
        config.name.removeprefix("mdan")
        for config in REGISTERED.values()
        if (config.dataset, config.architecture) == (dataset, "mdan")
    ]
    if not endings:
        return []
    ending = endings[0]
    depth = get_hierarchy(REGISTERED[f"mdan{ending}"].hierarchy).depth
    systems = []
    for row, text in PRESETS[name].items():
        model, colon, changes = text.partition(":")
        changes = changes.replace("LEVELS", ",".join(map(str, range(depth))))
        if f"{model}{ending}" in REGISTERED:
            systems.append(_parse(f"{model}{ending}{colon}{changes}", row))
    return systems


def shared_recipe(systems: Sequence[System], changes: Sequence[str]) -> Recipe:
    """Return the recipe of a comparison: that of the first system, or of its MDAN.

    `changes` are fields to change, such as "epochs=3"; errors are those of `load_recipe`.
    """
    first = systems[0].model
    return load_recipe(compared_with(first) if first in SYSTEMS else first, changes)


def merge_systems(*groups: Sequence[System]) -> list[System]:
    """Return the systems of all groups, equal ones once: with the first row."""
    merged: dict[str, System] = {}
    for system in (system for group in groups for system in group):
        row = merged.get(system.text, system).row or system.row
        merged[system.text] = dataclasses.replace(system, row=row)
    return list(merged.values())


def _parse(text: str, row: str = "") -> System:
    # The name of a backbone may end in ":head" or ":embedding".
    model, *changes = re.split(r":(?=\w*=)", text)
    if model not in list_recipes():
        raise UnknownNameError(
            f"there is no model {model!r}; {did_you_mean(model, list_recipes())}"
        )
    pairs = dict(change.partition("=")[::2] for change in changes)
    for change in changes:
        if not all(change.partition("=")):
            raise InputError(
                f"{text}: a change has the form NAME=VALUE, such as alpha=0.5, not {change!r}"
            )
    if len(pairs) < len(changes):
        raise InputError(f"{text}: a change is given twice")
    own = {name: pairs.pop(name, "") for name in ("backbone", "stages")}
    return System(model, pairs, row=row, **own)
