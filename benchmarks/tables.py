"""Tables of the README and the documentation, generated from the result files.

    python benchmarks/tables.py

Everything between `<!-- NAME -->` and `<!-- end of NAME -->` is replaced; a test fails if a
table is out of date.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import fi_tables
import training_tables
from result_tables import bold, read, table

from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.weights.manifest import load_manifest
from mdan_zoo.zoo.configs import MODELS

ROOT = Path(__file__).parents[1]
DOCUMENTS = (
    "README.md",
    "docs/explain.md",
    "docs/mdan_fi8_lite0.md",
    "docs/mdan_oasis4.md",
    "docs/network.md",
    "docs/regenerating.md",
    "docs/training.md",
)
MEASURES = {
    "polarity_accuracy": "polarity accuracy",
    "quadrant_accuracy": "quadrant accuracy",
    "valence_r": "r, valence",
    "arousal_r": "r, arousal",
}


def models() -> str:
    """All models with hierarchy, size and release status."""
    manifest = load_manifest(ROOT / "weights_manifest.json")
    rows = []
    for name, config in MODELS.items():
        sizes = " / ".join(map(str, get_hierarchy(config.hierarchy).sizes))
        entry = manifest[name]
        status = (
            f"**released**, {entry.size / 1e6:.1f} MB, bundled" if entry.released else "unreleased"
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
        "dataset",
        "hierarchy: classes per level",
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
    """Cross-validation: mdan_oasis4 minus flat_oasis4, with the larger standard deviation."""
    mdan, flat = (
        next(row for row in summary() if (row["model"], row["branch"]) == (name, "overall"))
        for name in ("mdan_oasis4", "flat_oasis4")
    )
    rows = [
        ["difference", *(f"{float(mdan[m]) - float(flat[m]):+.3f}" for m in MEASURES)],
        [
            "larger standard deviation over seeds",
            *(f"{max(float(row[m + '_sd_seeds']) for row in (mdan, flat)):.3f}" for m in MEASURES),
        ],
    ]
    return table(["", *MEASURES.values()], rows)


def ablation() -> str:
    """Ablation of mdan_oasis4: P_O, ± standard deviation over seeds."""
    rows = [row for row in read("oasis_ablation.csv") if row["branch"] == "overall"]
    return table(
        ["", *MEASURES.values()], [[row["variant"], *cells(row, "_sd_seeds")] for row in rows]
    )


def second_panel() -> str:
    """Expected accuracy of a second panel of raters."""
    (row,) = read("oasis_second_panel.csv")
    polarity, quadrant = (f"{float(row[m]):.0%}" for m in tuple(MEASURES)[:2])
    return (
        "A second panel of raters of the same size is expected to agree with these labels for\n"
        f"{polarity} (polarity) and {quadrant} (quadrant) of the {row['images']} images, given the "
        "published\nstandard errors (`python benchmarks/second_panel.py --data OASIS_FOLDER`)."
    )


def stored_precision() -> str:
    """Effect of float16 storage on the predictions of the released models."""
    rows = read("oasis_stored_precision.csv")
    head = ["", "images", "largest difference of a probability", "mean difference", "changed paths"]
    return table(head, [[bold(row["model"]), *list(row.values())[1:]] for row in rows])


def cost() -> str:
    """Time and memory relative to the bare backbone, on a CPU."""
    return _cost("top_down_cost_cpu.csv")


def gpu_cost() -> str:
    """Time and memory relative to the bare backbone, on a GPU."""
    return _cost("top_down_cost_cuda.csv")


def _cost(file: str) -> str:
    rows = read(file)
    lines = []
    for row in rows:
        if row["variant"] == "bare":
            continue
        measured = row["status"] == "measured"
        lines.append(
            [
                f"`{row['model']}`",
                row["mode"],
                row["batch"],
                row["variant"],
                row["time_ratio"] or "not measured",
                row["memory_ratio"] or "not measured",
                f"{float(row['images_per_second']):.3g}" if measured else "not measured",
            ]
        )
    head = ["model", "", "batch", "variant", "time / bare", "memory / bare", "images per second"]
    return table(head, lines)


def machine() -> str:
    """The machine of the CPU cost table."""
    return _machine("top_down_cost_cpu.csv")


def gpu_machine() -> str:
    """The machine of the GPU cost table."""
    return _machine("top_down_cost_cuda.csv")


def _machine(file: str) -> str:
    row = read(file)[0]
    layout = ", channels last" if row["channels_last"] == "True" else ""
    return (
        f"{row['machine']}, {row['device']}, {row['dtype']}{layout}, torch {row['torch']}, "
        f"timm {row['timm']}, {row['date']}."
    )


def architecture_cost() -> str:
    """Size, time and memory of every architecture relative to the flat network."""
    rows = {(row["architecture"], row["mode"]): row for row in read("architecture_cost.csv")}
    lines = []
    for name, mode in rows:
        if mode == "training":
            row, prediction = rows[name, mode], rows[name, "prediction"]
            lines.append(
                [
                    f"`{name}`",
                    f"{int(row['parameters']) / 1e6:.2f}M",
                    f"{int(row['multiply_accumulates']) / 1e9:.3f}",
                    *(text for r in (row, prediction) for text in (spread(r), r["memory_ratio"])),
                ]
            )
    measured = ["training: time", "training: memory", "prediction: time", "prediction: memory"]
    return table(["architecture", "parameters", "10^9 operations", *measured], lines)


def spread(row: dict[str, str]) -> str:
    """Return "1.12 (1.10 to 1.15)", the median and the quartiles of a time ratio."""
    median, q1, q3 = (float(row[f"time_ratio{end}"]) for end in ("", "_q1", "_q3"))
    return f"{median:.2f} ({q1:.2f} to {q3:.2f})"


def architecture_machine() -> str:
    """The machine of the table of architectures."""
    row = read("architecture_cost.csv")[0]
    return (
        f"{row['machine']}, one thread, {row['backbone']}, {row['size']} px, batch size "
        f"{row['batch']}, {row['repeats']} turns, torch {row['torch']}, {row['date']}."
    )


def faithfulness() -> str:
    """Deletion and insertion curves of every map: areas and differences to the baselines."""
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


TABLES: dict[str, Callable[[], str]] = {
    "models": models,
    "fi metrics": fi_tables.metrics,
    "fi by branch": fi_tables.by_branch,
    "fi comparison": fi_tables.comparison,
    "fi temperatures": fi_tables.temperatures,
    "fi classes": fi_tables.classes,
    "fi views": fi_tables.views,
    "fi confusions": fi_tables.confusions,
    "generalisation": fi_tables.generalisation,
    "metrics": metrics,
    "metrics by branch": metrics_by_branch,
    "comparison": comparison,
    "ablation": ablation,
    "second panel": second_panel,
    "stored precision": stored_precision,
    "cost": cost,
    "machine": machine,
    "gpu cost": gpu_cost,
    "gpu machine": gpu_machine,
    "architecture cost": architecture_cost,
    "architecture machine": architecture_machine,
    "recipe fields": training_tables.recipe_fields,
    "faithfulness": faithfulness,
    "regeneration": training_tables.regeneration,
    "training machine": training_tables.training_machine,
    "gpu steps": training_tables.gpu_steps,
    "gpu input": training_tables.gpu_input,
    "input loss": training_tables.input_loss,
    "freed memory": training_tables.freed_memory,
}


def summary() -> list[dict[str, str]]:
    """Return the rows of the cross-validation summary."""
    return read("oasis_cross_validation_summary.csv")


def cells(row: dict[str, str], spread: str) -> list[str]:
    """Return "0.757 ± 0.011" for every measure of a row."""
    return [
        f"{float(row[m]):.3f} ± {float(row[m + spread]):.3f}" if row[m] else "undefined"
        for m in MEASURES
    ]


def fill(text: str) -> str:
    """Return a document with all its tables regenerated."""

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
