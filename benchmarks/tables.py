"""Write the tables of the README and the documents from the files that hold the numbers.

    python benchmarks/tables.py

Everything between `<!-- NAME -->` and `<!-- end of NAME -->` is replaced; a test fails where a
table is not what this script writes.
"""

from __future__ import annotations

import csv
import dataclasses
import inspect
import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mdan_zoo.hierarchies import get_hierarchy
from mdan_zoo.manifest import load_manifest
from mdan_zoo.training.recipe import Recipe, load_recipe
from mdan_zoo.zoo import MODELS

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
DOCUMENTS = (
    "README.md",
    "docs/explain.md",
    "docs/mdan_oasis4.md",
    "docs/network.md",
    "docs/regenerating.md",
    "docs/training.md",
)
PICTURES = {
    "WEBEmo": 268_000,
    "Emotion-6": 8_350,
    "FI": 23_308,
    "ArtPhoto": 806,
    "IAPSsubset": 395,
    "Abstract": 228,
    "EmoSet-118K": 118_102,
    "OASIS": 661,
}
"""Pictures of every data set, by section 5.1 of the paper; EmoSet's by its own lists, and of OASIS
those that the released models learned from."""

MEASURES = {
    "polarity_accuracy": "polarity accuracy",
    "quadrant_accuracy": "quadrant accuracy",
    "valence_r": "r, valence",
    "arousal_r": "r, arousal",
}


def models() -> str:
    """Every model, with its tree, size and the status of its weights."""
    manifest = load_manifest(ROOT / "weights_manifest.json")
    rows = []
    for name, config in MODELS.items():
        sizes = " / ".join(map(str, get_hierarchy(config.hierarchy).sizes))
        entry = manifest[name]
        status = (
            f"**released**, {entry.size / 1e6:.1f} MB, inside" if entry.released else "unreleased"
        )
        rows.append(
            [
                f"`{name}`",
                config.dataset,
                f"`{config.hierarchy}`: {sizes}",
                config.backbone,
                f"{entry.parameters / 1e6:.1f}M",
                status,
            ]
        )
    head = [
        "model",
        "data set",
        "emotion tree: classes a level",
        "backbone",
        "parameters",
        "weights",
    ]
    return table(head, rows)


def metrics() -> str:
    """Cross-validation: P_O of every model, mean ± standard deviation over seeds."""
    rows = [row for row in summary() if row["branch"] == "overall"]
    return table(
        ["", *MEASURES.values()], [[bold(row["model"]), *cells(row, "_sd_seeds")] for row in rows]
    )


def metrics_by_branch() -> str:
    """Cross-validation: every branch, mean ± standard deviation over the single folds."""
    return table(
        ["", "branch", *MEASURES.values()],
        [[bold(row["model"]), row["branch"], *cells(row, "_sd_folds")] for row in summary()],
    )


def comparison() -> str:
    """Cross-validation: mdan_oasis4 minus flat_oasis4, with the larger spread over seeds."""
    mdan, flat = (
        next(row for row in summary() if (row["model"], row["branch"]) == (name, "overall"))
        for name in ("mdan_oasis4", "flat_oasis4")
    )
    rows = [
        ["difference", *(f"{float(mdan[m]) - float(flat[m]):+.3f}" for m in MEASURES)],
        [
            "larger spread over seeds",
            *(f"{max(float(row[m + '_sd_seeds']) for row in (mdan, flat)):.3f}" for m in MEASURES),
        ],
    ]
    return table(["", *MEASURES.values()], rows)


def second_panel() -> str:
    """What a second panel of raters would reach on the released models' pictures."""
    (row,) = read("oasis_second_panel.csv")
    polarity, quadrant = (f"{float(row[m]):.0%}" for m in tuple(MEASURES)[:2])
    return (
        f"A second panel of raters of the same size would agree with these labels on {polarity}\n"
        f"(polarity) and {quadrant} (quadrant) of the {row['pictures']} pictures, by the published "
        "standard\nerrors (`python benchmarks/second_panel.py --data OASIS_FOLDER`)."
    )


def stored_precision() -> str:
    """What float16 changes in the released models' predictions."""
    rows = read("oasis_stored_precision.csv")
    head = ["", "pictures", "largest difference of a probability", "mean", "other path"]
    return table(head, [[bold(row["model"]), *list(row.values())[1:]] for row in rows])


def cost() -> str:
    """Time and memory as multiples of the bare backbone's, from the CPU run."""
    rows = read("top_down_cost_cpu.csv")
    lines = []
    for row in rows:
        if row["variant"] == "bare":
            continue
        lines.append(
            [
                f"`{row['model']}`",
                row["mode"],
                row["batch"],
                row["variant"],
                row["time_ratio"] or "not measured",
                row["memory_ratio"] or "not measured",
            ]
        )
    return table(["model", "", "batch", "variant", "time / bare", "memory / bare"], lines)


def machine() -> str:
    """The machine of the cost table."""
    row = read("top_down_cost_cpu.csv")[0]
    return (
        f"{row['machine']}, {row['device']}, {row['dtype']}, torch {row['torch']}, "
        f"timm {row['timm']}, {row['date']}. On a GPU: not measured."
    )


def faithfulness() -> str:
    """Deletion and insertion of every map: areas, and differences to the controls."""
    lines = []
    for row in read("faithfulness.csv"):
        if row["map"] in ("random", "centre"):
            continue
        lines.append(
            [
                f"`{row['model']}`",
                row["level"],
                row["curve"],
                {"attention": "attention M", "class": "class activation"}[row["map"]],
                interval(row, "area", ""),
                interval(row, "minus_random", "+"),
                interval(row, "minus_centre", "+"),
            ]
        )
    head = ["model", "level", "curve", "map", "area", "minus random", "minus centre"]
    return table(head, lines)


def interval(row: dict[str, str], name: str, sign: str) -> str:
    """Return "0.512 (0.480 to 0.540)"."""
    value, low, high = (float(row[f"{name}{end}"]) for end in ("", "_low", "_high"))
    return f"{value:{sign}.3f} ({low:{sign}.3f} to {high:{sign}.3f})"


def recipe_fields() -> str:
    """Every field of a recipe, as the docstring of `Recipe` explains it."""
    explained = inspect.getdoc(Recipe).partition("Attributes:\n")[2]
    meanings = dict(re.findall(r"^    (\w+): (.*?)(?=^    \w|\Z)", explained, re.M | re.S))
    oasis = load_recipe("mdan_oasis4")
    rows = []
    for field in dataclasses.fields(Recipe):
        if field.name != "model":
            default, other = _value(field.default), _value(getattr(oasis, field.name))
            changed = other if other != default else ""
            rows.append(
                [f"`{field.name}`", default, changed, " ".join(meanings[field.name].split())]
            )
    return table(["field", "default", "`mdan_oasis4`", "meaning"], rows)


def _value(value: object) -> str:
    """Return a value as it is written after `--set FIELD=`."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def regeneration() -> str:
    """What it takes to train every model, with the time from the GPU run."""
    measured = throughput()
    lines = []
    for name, config in MODELS.items():
        recipe = load_recipe(name)
        step = fastest_step(name, measured)
        options = "--data FOLDER --output RUN"
        if recipe.init:  # of FI, which has no released weights
            options = f"--init FI_RUN/model.safetensors {options}"
        if recipe.views:  # trained on cached maps, which needs no GPU
            hours = memory = "not measured"
        else:
            options += " --precision bf16 --channels-last"
            options += " --compile" if step and step["compiled"] == "True" else ""
            hours, memory = gpu_hours(name, step), gpu_memory(step)
        pictures = f"{PICTURES[config.dataset]:,}"
        command = f"`mdan-zoo train {name} {options}`"
        lines.append(
            [config.dataset, pictures, recipe.split, recipe.epochs, hours, memory, command]
        )
    head = ["data set", "pictures", "split", "epochs", "hours on a GPU", "GPU memory", "command"]
    return table(head, lines)


def input_loss() -> str:
    """What a training on the CPU loses to reading its pictures."""
    files = ("training_throughput_cpu.csv", "training_throughput_fi8_cpu.csv")
    rows = [
        [
            f"`{row['model']}`",
            row["pictures"].split(", ")[1],
            row["decoding"],
            row["workers"],
            row["pictures_per_second"],
            f"{float(row['waiting_percent']):.1f} %",
            f"{float(row['loss_to_input_percent']):.1f} %",
            row["repeats"],
        ]
        for row in itertools.chain.from_iterable(read(name) for name in files)
        if row["measured"] == "training" and row["status"] == "measured"
    ]
    measured = ["pictures per second", "waiting for pictures", "slower than without", "turns"]
    return table(["", "pictures", "decoding", "workers", *measured], rows)


def freed_memory() -> str:
    """Rates of commands that give memory back, and that keep it."""
    rows = read("freed_memory_cpu.csv")
    lines = [
        [
            kept["mode"],
            kept["batch"],
            returned["pictures_per_second"],
            kept["pictures_per_second"],
            f"x {float(kept['rate_ratio']):.2f}",
            f"{int(returned['resident_bytes']) / 1e9:.2f} GB",
            f"{int(kept['resident_bytes']) / 1e9:.2f} GB",
        ]
        for returned, kept in zip(rows[::2], rows[1::2], strict=True)
    ]
    head = ["", "batch", "returned, pictures/s", "kept, pictures/s", ""]
    return table([*head, "most memory, returned", "most memory, kept"], lines)


def throughput() -> list[dict[str, str]]:
    """Return the GPU run's rows; none where there was no run."""
    name = "training_throughput_cuda.csv"
    return read(name) if (RESULTS / name).exists() else []


def fastest_step(model: str, measured: list[dict[str, str]]) -> dict[str, str] | None:
    """Return the fastest step that was measured of a model, or of one with an equal network.

    Networks are equal if nothing but the number of classes differs.
    """
    config, batch = MODELS[model], load_recipe(model).batch_size
    steps = [
        row
        for row in measured
        if (row["measured"], row["network"], row["status"]) == ("step", "fast", "measured")
        and (row["backbone"], int(row["size"])) == (config.backbone, config.input.crop)
        and int(row["batch"]) == batch
        and MODELS[row["model"]].options == config.options
        and MODELS[row["model"]].architecture == config.architecture
        and depth(row["model"]) == depth(model)
    ]
    return max(steps, key=lambda row: float(row["pictures_per_second"]), default=None)


def depth(model: str) -> int:
    """Return the number of levels of a model's tree."""
    return get_hierarchy(MODELS[model].hierarchy).depth


def gpu_hours(model: str, step: dict[str, str] | None) -> str:
    """Return pictures x epochs / rate in hours, of all networks that the recipe trains."""
    if step is None:
        return "not measured"
    recipe = load_recipe(model)
    pictures = PICTURES[MODELS[model].dataset] * times_trained(recipe.split)
    return f"{pictures * recipe.epochs / float(step['pictures_per_second']) / 3600:.1f}"


def gpu_memory(step: dict[str, str] | None) -> str:
    """Return the most that a training step occupies."""
    return "not measured" if step is None else f"{int(step['peak_bytes']) / 1e9:.0f} GB"


def times_trained(split: str) -> float:
    """Return how often an epoch uses each picture on average, over all networks of a split.

    Of k folds each picture is in the training part of k - 1, and then in that of the network
    trained on every picture. The official splits train on 80 %.
    """
    if split == "all":
        return 1.0
    folds = re.fullmatch(r"(?:grouped-)?(\d+)-fold", split)
    return float(folds[1]) if folds else 0.8


def training_machine() -> str:
    """The machine of the training times."""
    measured = throughput()
    if not measured:
        return "On a GPU: not measured."
    row = measured[0]
    return (
        f"One {row['machine']}, batches of {row['batch']}, {row['precision']}, torch "
        f"{row['torch']}, timm {row['timm']}, {row['date']}."
    )


TABLES: dict[str, Callable[[], str]] = {
    "models": models,
    "metrics": metrics,
    "metrics by branch": metrics_by_branch,
    "comparison": comparison,
    "second panel": second_panel,
    "stored precision": stored_precision,
    "cost": cost,
    "machine": machine,
    "recipe fields": recipe_fields,
    "faithfulness": faithfulness,
    "regeneration": regeneration,
    "training machine": training_machine,
    "input loss": input_loss,
    "freed memory": freed_memory,
}


def summary() -> list[dict[str, str]]:
    """Return the rows of the cross-validation's summary."""
    return read("oasis_cross_validation_summary.csv")


def read(name: str) -> list[dict[str, str]]:
    """Return the rows of a result file."""
    with (RESULTS / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def cells(row: dict[str, str], spread: str) -> list[str]:
    """Return "0.757 ± 0.011" for every measure of a row."""
    return [
        f"{float(row[m]):.3f} ± {float(row[m + spread]):.3f}" if row[m] else "undefined"
        for m in MEASURES
    ]


def bold(model: str) -> str:
    """Return a released model's name so that it stands out among its controls."""
    return f"**`{model}`**" if model in MODELS else model


def table(head: list[str], rows: list[list[Any]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def fill(text: str) -> str:
    """Return a document with every table that it asks for written anew."""

    def written(match: re.Match[str]) -> str:
        name = match["name"]
        return f"<!-- {name} -->\n{TABLES[name]()}\n<!-- end of {name} -->"

    pattern = r"<!-- (?P<name>[a-z ]+) -->\n.*?<!-- end of (?P=name) -->"
    return re.sub(pattern, written, text, flags=re.DOTALL)


def main() -> None:
    for name in DOCUMENTS:
        path = ROOT / name
        path.write_text(fill(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
