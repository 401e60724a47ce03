"""Write the tables of the README and the documents from the files that hold the numbers.

    python benchmarks/tables.py

Everything between `<!-- NAME -->` and `<!-- end of NAME -->` is replaced; a test fails where a
table is not what this script writes.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mdan_zoo.hierarchies import get_hierarchy
from mdan_zoo.manifest import load_manifest
from mdan_zoo.zoo import MODELS

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
DOCUMENTS = ("README.md", "docs/mdan_oasis4.md", "docs/network.md")
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


def cost() -> str:
    """Time as a multiple of the bare backbone's, from the CPU run."""
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
            ]
        )
    return table(["model", "", "batch", "variant", "time / bare"], lines)


def machine() -> str:
    """The machine of the cost table."""
    row = read("top_down_cost_cpu.csv")[0]
    return (
        f"{row['machine']}, {row['device']}, {row['dtype']}, torch {row['torch']}, "
        f"timm {row['timm']}, {row['date']}. On a GPU: not measured."
    )


TABLES: dict[str, Callable[[], str]] = {
    "models": models,
    "metrics": metrics,
    "metrics by branch": metrics_by_branch,
    "cost": cost,
    "machine": machine,
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
