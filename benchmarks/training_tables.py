"""Tables of docs/training.md and docs/regenerating.md; written by `tables.py`."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from pathlib import Path

from result_tables import RESULTS, read, table

from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.training.recipe import Recipe, load_recipe
from mdan_zoo.zoo.configs import MODELS

ROOT = Path(__file__).parents[1]
IMAGES = {
    "WEBEmo": 267_441,
    "Emotion-6": 8_350,
    "FI": 23_308,
    "FI+OASIS": 18_121,
    "ArtPhoto": 806,
    "IAPSsubset": 395,
    "Abstract": 228,
    "EmoSet-118K": 118_102,
    "OASIS": 661,
}
"""Images per dataset, from section 5.1 of the paper, except for WEBEmo (rounded in the paper) and
EmoSet, from their own lists, and OASIS and FI+OASIS, which the commands of the table train on; the
released FI models were trained on the part `train` of these images."""

FI_IMAGES = 17_460
"""The images of FI in "FI+OASIS"."""


def recipe_fields() -> str:
    """All recipe fields, with the descriptions in the docstring of `Recipe`."""
    explained = inspect.getdoc(Recipe).partition("Attributes:\n")[2]
    meanings = dict(re.findall(r"^    (\w+): (.*?)(?=^    \w|\Z)", explained, re.M | re.S))
    models = ("mdan_fi8_lite0", "mdan_oasis4")
    recipes = [load_recipe(name) for name in models]
    rows = []
    for field in dataclasses.fields(Recipe):
        if field.name != "model":
            default = _value(field.default)
            values = [_value(getattr(recipe, field.name)) for recipe in recipes]
            changed = [value if value != default else "" for value in values]
            rows.append(
                [f"`{field.name}`", default, *changed, " ".join(meanings[field.name].split())]
            )
    return table(["field", "default", *(f"`{name}`" for name in models), "meaning"], rows)


def _value(value: object) -> str:
    """Return a value in the form of `--set FIELD=VALUE`."""
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


def regeneration() -> str:
    """Resources needed to train every model, with times from the GPU run."""
    measured = throughput()
    lines = []
    for name, config in MODELS.items():
        recipe = load_recipe(name)
        step = fastest_step(name, measured)
        folders = [f"--data {part}=FOLDER" for part in config.dataset.split("+")]
        options = f"{' '.join(folders) if len(folders) > 1 else '--data FOLDER'} --output RUN"
        if recipe.init:  # FI, which has no released weights
            options = f"--init FI_RUN/model.safetensors {options}"
        if recipe.cached_views:  # trained on cached maps, which needs no GPU
            hours, memory = f"none; {minutes_of_steps(name):.1f} minutes on a CPU", "none"
        elif recipe.dataset_weights:  # trained on a CPU
            options += " --channels-last --workers 0"
            hours, memory = f"none; {minutes_of_steps(name) / 60:.1f} hours on a CPU", "none"
        else:
            options += " --precision bf16 --channels-last"
            options += " --compile" if step and step["compiled"] == "True" else ""
            hours, memory = gpu_hours(name, step), gpu_memory(step)
        images = f"{IMAGES[config.dataset]:,}"
        command = f"`mdan-zoo train {name} {options}`"
        lines.append([config.dataset, images, recipe.split, recipe.epochs, hours, memory, command])
    head = ["dataset", "images", "split", "epochs", "hours on one GPU", "GPU memory", "command"]
    return table(head, lines)


def input_loss() -> str:
    """Cost of data loading for training on a CPU."""
    files = ("training_throughput_cpu.csv", "training_throughput_fi8_cpu.csv")
    rows = [
        [
            f"`{row['model']}`",
            row["images"].split(", ")[1],
            row["decoding"],
            row["workers"],
            f"{float(row['images_per_second']):.3g}",
            f"{reading_share(row, measured):.1f} %",
            f"{float(row['waiting_percent']):.1f} %",
            f"{float(row['loss_to_input_percent']):.1f} %",
            row["repeats"],
        ]
        for measured in map(read, files)
        for row in measured
        if row["measured"] == "training" and row["status"] == "measured"
    ]
    shares = ["loading share", "waiting for images", "slowdown"]
    head = ["", "images", "decoding", "workers", "images per second", *shares, "runs"]
    return table(head, rows)


def reading_share(row: dict[str, str], measured: list[dict[str, str]]) -> float:
    """Return the share of loading in the time of loading and steps run one after the other, in %.

    Each alone keeps all cores busy, so running them together takes no less time. For cached views,
    the step time is the one measured before and after the training runs.
    """

    def seconds(what: str, *same: str) -> float:
        (found,) = (
            other
            for other in measured
            if other["measured"] == what and all(other[key] == row[key] for key in same)
        )
        return float(found["seconds_median"])

    reading = seconds("input", "model", "images", "decoding", "workers")
    if row["decoding"] == "views":
        step = float(row["seconds_median"]) * (1 - float(row["loss_to_input_percent"]) / 100)
    else:
        step = seconds("step", "model")
    return 100 * reading / (reading + step)


def freed_memory() -> str:
    """Throughput of commands that return freed memory and that keep it."""
    rows = read("freed_memory_cpu.csv")
    lines = [
        [
            kept["mode"],
            kept["batch"],
            returned["images_per_second"],
            kept["images_per_second"],
            f"x {float(kept['rate_ratio']):.2f}",
            f"{int(returned['resident_bytes']) / 1e9:.2f} GB",
            f"{int(kept['resident_bytes']) / 1e9:.2f} GB",
        ]
        for returned, kept in zip(rows[::2], rows[1::2], strict=True)
    ]
    head = ["", "batch", "returned, images/s", "kept, images/s", ""]
    return table([*head, "peak memory, returned", "peak memory, kept"], lines)


def gpu_steps() -> str:
    """Training steps on the GPU: fast and naive implementation, eager and compiled."""
    steps = {
        (row["model"], row["network"], row["compiled"]): row
        for row in throughput()
        if row["measured"] == "step" and row["status"] == "measured"
    }
    lines = []
    for model, network in dict.fromkeys((model, network) for model, network, _ in steps):
        rows = [steps.get((model, network, compiled)) for compiled in ("False", "True")]
        cells = [cell for row in rows for cell in (_rate(row), gpu_memory(row, digits=1))]
        lines.append([f"`{model}`", network, *cells])
    head = ["", "", "images per second", "GPU memory"]
    return table([*head, "compiled, images per second", "compiled, GPU memory"], lines)


def _rate(step: dict[str, str] | None) -> str:
    return "not measured" if step is None else f"{float(step['images_per_second']):.0f}"


def gpu_input() -> str:
    """Throughput on the GPU of data loading, of the step, and of both together."""
    rows = [row for row in throughput() if row["measured"] in ("input", "training")]
    lines = []
    for reading, both in zip(rows[::2], rows[1::2], strict=True):
        (step,) = (
            row["images_per_second"]
            for row in throughput()
            if row["measured"] == "step"
            and all(row[key] == both[key] for key in ("model", "network", "compiled"))
        )
        rates = (
            f"{float(rate):.0f}"
            for rate in (reading["images_per_second"], step, both["images_per_second"])
        )
        lines.append([f"`{both['model']}`", both["decoding"], both["workers"], *rates])
    head = ["images per second", "decoding", "workers", "loading alone", "step alone", "both"]
    return table(head, lines)


def throughput() -> list[dict[str, str]]:
    """Return the rows of the GPU runs; the file of compiled steps is optional."""
    files = ("training_throughput_cuda.csv", "training_throughput_compiled_cuda.csv")
    return [row for name in files if (RESULTS / name).exists() for row in read(name)]


def fastest_step(model: str, measured: list[dict[str, str]]) -> dict[str, str] | None:
    """Return the fastest measured step of a model, or of one with an equal network.

    Networks are equal if only the number of classes differs.
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
    return max(steps, key=lambda row: float(row["images_per_second"]), default=None)


def depth(model: str) -> int:
    """Return the number of levels of the hierarchy of a model."""
    return get_hierarchy(MODELS[model].hierarchy).depth


def minutes_of_steps(model: str) -> float:
    """Return the time of the training steps of a released model, from its training history."""
    manifest = json.loads((ROOT / "weights_manifest.json").read_text(encoding="utf-8"))
    training = manifest["models"][model]["training"]
    rates = [float(epoch["images_per_second"]) for epoch in training["history"]]
    shares = load_recipe(model).weights_by_dataset()
    # An epoch with dataset weights shows every image of FI once, and images of OASIS repeatedly.
    images = FI_IMAGES / shares["FI"] * sum(shares.values()) if shares else training["images"]
    return float(sum(images / rate for rate in rates) / 60)


def gpu_hours(model: str, step: dict[str, str] | None) -> str:
    """Return images x epochs / throughput in hours, for all networks that the recipe trains."""
    if step is None:
        return "not measured"
    recipe = load_recipe(model)
    images = IMAGES[MODELS[model].dataset] * times_trained(recipe.split)
    return f"{images * recipe.epochs / float(step['images_per_second']) / 3600:.2f}"


def gpu_memory(step: dict[str, str] | None, digits: int = 0) -> str:
    """Return the peak memory of a training step."""
    return "not measured" if step is None else f"{int(step['peak_bytes']) / 1e9:.{digits}f} GB"


def times_trained(split: str) -> float:
    """Return how often each image is used per epoch on average, over all networks of a split.

    With k folds, each image is in k - 1 training parts, plus once in the final training on all
    images. The official splits train on 80 %.
    """
    if split == "all":
        return 1.0
    folds = re.fullmatch(r"(?:grouped-)?(\d+)-fold", split)
    return float(folds[1]) if folds else 0.8


def training_machine() -> str:
    """The machines of the training times."""
    runs = (
        f"One {row['machine']} in a machine of {row['threads']} cores, batches of {row['batch']}, "
        f"{row['precision']}, channels last, torch {row['torch']}, timm {row['timm']}, "
        f"{row['date']}."
        for row in throughput()
    )
    return "\n".join(dict.fromkeys(runs))
