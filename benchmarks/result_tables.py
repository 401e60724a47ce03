"""Result files: reading, and formatting as Markdown tables."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from mdan_zoo.zoo.configs import MODELS

RESULTS = Path(__file__).parent / "results"


def read(name: str) -> list[dict[str, str]]:
    """Return the rows of a result file."""
    with (RESULTS / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def table(head: list[str], rows: list[list[Any]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def bold(model: str) -> str:
    """Return the name of a model of the zoo in bold, and other names unchanged."""
    return f"**`{model}`**" if model in MODELS else model
