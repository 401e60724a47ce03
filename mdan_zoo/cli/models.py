"""The commands `mdan-zoo list` and `mdan-zoo info`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from mdan_zoo.cli.options import add_command
from mdan_zoo.errors import ManifestError, UnknownNameError, without_secrets
from mdan_zoo.weights import fetch
from mdan_zoo.weights.manifest import ManifestEntry, load_manifest
from mdan_zoo.zoo.configs import SYSTEMS, training_command
from mdan_zoo.zoo.factory import get_config, get_model_hierarchy, list_models


def add_parser(subparsers: Any) -> None:
    """Add `list` and `info` to the subcommands of `mdan-zoo`."""
    summary = "list the models and their status"
    add = add_command(subparsers, "list", run_list, summary).add_argument
    add(
        "pattern",
        nargs="?",
        help="list only names that match, such as 'mdan_*8' (default: all models except the "
        "systems to compare MDAN with; '*' lists those, too)",
    )
    add("--pretrained", action="store_true", help="list only models with released weights")
    summary = "show a model's config, hierarchy, metrics and weights"
    add = add_command(subparsers, "info", run_info, summary).add_argument
    add("name", help="name of the model")
    add("--json", action="store_true", help="print one JSON object")


def run_list(options: argparse.Namespace) -> int:
    """Print a table of models; return the exit status."""
    manifest = load_manifest()
    names = list_models(options.pattern or "*", pretrained=options.pretrained)
    if not names:
        kind = "model with released weights" if options.pretrained else "model"
        raise UnknownNameError(f"no {kind} matches {options.pattern or '*'!r}")
    others = [] if options.pattern else [n for n in names if n in SYSTEMS and n not in manifest]
    names = [name for name in names if name not in others]
    header = ("NAME", "DATASET", "CLASSES", "BACKBONE", "PARAMETERS", "STATUS")
    rows = [header, *(_list_row(name, manifest.get(name)) for name in names)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())
    if others:
        patterns = ", ".join(sorted({f"{name.partition('_')[0]}_*" for name in others}))
        hint = f"and {len(others)} systems to compare MDAN with; to list them, give a pattern:"
        print(f"{hint} {patterns}", file=sys.stderr)
    return 0


def run_info(options: argparse.Namespace) -> int:
    """Print what is known about a model; return the exit status."""
    config = get_config(options.name)
    hierarchy = get_model_hierarchy(options.name)
    entry = load_manifest().get(options.name)
    weights: dict[str, Any] = {"status": "unreleased", "command": training_command(config)}
    if entry is not None:
        weights = dataclasses.asdict(entry)
    for source in weights.get("sources", ()):
        source["url"] = without_secrets(source["url"])
    about = {**config.to_dict(), "name": options.name}
    if options.json:
        known = {"config": about, "hierarchy": hierarchy.to_dict(), "weights": weights}
        print(json.dumps(known, indent=2))
        return 0
    shown = {key: weights.get(key) for key in ("status", "parameters", "licences", "reason")}
    shown["metrics"] = _metrics((weights.get("details") or {}).get("metrics"))
    shown["training command"] = weights.get("command")
    if entry is not None and entry.released:
        shown["file"] = f"{entry.file}, {entry.size:,} bytes, sha256 {entry.sha256}"
        shown["sources"] = "\n".join(map(str, entry.sources))
        shown["on this machine"] = str(fetch.find_local(entry) or "no")
    about["dimensions"] = [f"{d.name} ({d.low:g} to {d.high:g})" for d in config.dimensions] or None
    print("\n".join(_outline({**about, "hierarchy": str(hierarchy), **shown})))
    return 0


def _list_row(name: str, entry: ManifestEntry | None) -> tuple[str, ...]:
    parameters = f"{entry.parameters / 1e6:.2f} M" if entry else "-"
    status = entry.status if entry else "unreleased"
    try:
        config, hierarchy = get_config(name), get_model_hierarchy(name)
    except ManifestError:  # an incomplete entry must not hide the other models
        return name, "-", "-", "-", parameters, status
    sizes = "/".join(map(str, hierarchy.sizes))
    return name, config.dataset, sizes, config.backbone, parameters, status


def _metrics(metrics: Any) -> Any:
    """Return metrics with their table as one line per row; other metrics unchanged."""
    if not isinstance(metrics, Mapping) or "rows" not in metrics:
        return metrics
    lines = []
    for row in metrics["rows"]:
        numbers = {
            key: f"{value:.3f}" if isinstance(value, float) else str(value)
            for key, value in row.items()
            if isinstance(value, (int, float))
        }
        spreads = {key: numbers.get(f"{key}_sd_seeds") for key in numbers if "_sd_" not in key}
        cells = [
            f"{key} {numbers[key]}" + (f" ± {spread}" if spread else "")
            for key, spread in spreads.items()
        ]
        names = ", ".join(str(row[key]) for key in ("model", "branch") if row.get(key))
        lines.append(": ".join(filter(None, (names, ", ".join(cells)))))
    return {**metrics, "rows": "\n".join(lines)}


def _outline(values: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """Yield "key: value" lines; multi-line values are indented below their key."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield f"{indent}{key}:"
            yield from _outline(value, indent + "  ")
        elif isinstance(value, str) and "\n" in value:
            yield f"{indent}{key}:"
            yield from (f"{indent}  {line}" for line in value.splitlines())
        elif isinstance(value, (list, tuple)):
            yield f"{indent}{key}: " + ", ".join(map(str, value))
        elif value not in (None, ""):
            yield f"{indent}{key}: {value}"
