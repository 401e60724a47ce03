"""Comparison report: the results as CSV, JSON, Markdown and a figure."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mdan_zoo._util.files import write_atomically
from mdan_zoo.comparison.results import collect, rows_of, summarise
from mdan_zoo.comparison.runs import Comparison
from mdan_zoo.errors import TrainingError
from mdan_zoo.plots.comparison import draw_comparison
from mdan_zoo.plots.figures import save
from mdan_zoo.training.report import as_text
from mdan_zoo.training.splitting import Source

_HEADER = (
    "system",
    "level",
    "accuracy, %",
    "accuracy minus the control, %",
    "row of the paper",
    "as printed in the paper, %",
    "balanced accuracy, %",
    "macro F1, %",
    "calibration error, %",
    "hierarchy violations, %",
    "parameters, millions",
    "GMACs",
    "training, images/s",
    "prediction, images/s",
    "seeds",
)


def write_comparison(comparison: Comparison, source: Source) -> Path:
    """Write comparison.csv, comparison.json, comparison.md and comparison.png.

    Returns:
        The path of comparison.md.

    Raises:
        TrainingError: No run is complete.
    """
    results = collect(comparison, source)
    if not results:
        raise TrainingError("no run of the comparison is complete")
    summary = summarise(comparison, source, results)
    folder = comparison.config.output
    rows = rows_of(results, summary)
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(folder / "comparison.csv", text.getvalue().encode())
    write_atomically(folder / "comparison.json", to_json(summary).encode())
    save(draw_comparison(summary), folder / "comparison.png")
    path = folder / "comparison.md"
    write_atomically(path, to_markdown(summary).encode())
    return path


def to_json(summary: Mapping[str, Any]) -> str:
    """Return a comparison as JSON, with null for values that are not defined (NaN)."""
    values = json.loads(json.dumps(summary), parse_constant=lambda name: None)
    return json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def to_markdown(summary: Mapping[str, Any]) -> str:
    """Return a comparison as a Markdown table and notes; `summary` is that of `summarise`."""
    lines = [f"# Systems compared on {summary['dataset']}", ""]
    lines += [_line(_HEADER), _line(["---"] * len(_HEADER))]
    lines += [_line(row) for system in summary["systems"] for row in _rows(system)]
    return "\n".join([*lines, "", *(f"* {note}" for note in _notes(summary))]) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _rows(system: Mapping[str, Any]) -> Iterator[list[str]]:
    """Yield one row per level; the values of the whole system are in the first."""
    of_system = [
        _percent(system["violation_rate"]),
        f"{system['parameters'] / 1e6:.2f}",
        f"{system['gmacs']:.2f}",
        f"{system['train_images_per_second']:.1f}",
        f"{system['predict_images_per_second']:.1f}",
        str(len(system["seeds"])),
    ]
    for number, (level, scores) in enumerate(system["levels"].items()):
        accuracy, *others = (
            _percent(scores[measure])
            for measure in ("accuracy", "balanced_accuracy", "macro_f1", "calibration_error")
        )
        gain = scores["difference"]
        difference = (
            "-"
            if gain is None
            else "{:+.2f} ({:+.2f} to {:+.2f})".format(
                *(100 * gain[end] for end in ("value", "low", "high"))
            )
        )
        printed = scores["as_printed_in_the_paper"] or "-"
        first = [
            f"`{system['system']}`",
            level,
            accuracy,
            difference,
            system["paper"] or "-",
            printed,
            *others,
        ]
        yield first + (of_system if number == 0 else [""] * len(of_system))


def _percent(value: Mapping[str, Any]) -> str:
    spread = "" if value["sd"] is None else f" ± {100 * value['sd']:.2f}"
    return f"{100 * value['mean']:.2f}{spread}"


def _of(systems: Sequence[Mapping[str, Any]], field: str) -> str:
    """Return the value of a field of all systems, or every value with its systems."""
    labels: dict[str, list[str]] = {}
    for system in systems:
        text = "default" if system[field] is None else as_text(system[field])
        labels.setdefault(text, []).append(f"`{system['system']}`")
    if len(labels) == 1:
        return next(iter(labels))
    return "; ".join(f"{text or 'empty'} of {', '.join(names)}" for text, names in labels.items())


def _notes(summary: Mapping[str, Any]) -> Iterator[str]:
    yield f"Split: {summary['split']}, sha256 `{summary['split_sha256']}`."
    yield f"Test images: {summary['images']:,}."
    yield from _notes_on_training(summary)
    yield from _notes_on_runs(summary)
    if summary["control"] in {system["system"] for system in summary["systems"]}:
        yield (
            f"Control: `{summary['control']}`. Differences are paired by image and averaged over "
            f"seeds, with 95 % bootstrap intervals over the test images "
            f"({summary['resamples']:,} resamples)."
        )
    elif summary["control"]:
        yield f"Control: `{summary['control']}`, of which no run is complete: no differences."
    else:
        yield "No system is a flat classifier, so there are no differences to a control."
    if any(system["paper"] for system in summary["systems"]):
        yield (
            "The numbers of the paper are those of its authors, with ResNet-101 unless the row "
            "names another network, 448 x 448 pixels, and splits that are not published. Networks "
            "other than MDAN are re-implementations."
        )


def _notes_on_training(summary: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the systems were trained with, and in what they differ."""
    systems = summary["systems"]
    yield f"Input: {summary['input']}. Recipe: {summary['recipe']}."
    recipes = [{**system["recipe"], "system": system["system"]} for system in systems]
    for name in systems[0]["recipe"]:
        if name != "model" and len({recipe[name] for recipe in recipes}) > 1:
            yield f"Recipe field {name}: {_of(recipes, name)}."
    if summary["options"]:
        given = ", ".join(f"{name}={as_text(v)}" for name, v in summary["options"].items())
        yield f"Options of all systems that have them: {given}."
    yield f"Backbone: {_of(systems, 'backbone')}."
    yield f"Initial weights: {_of(systems, 'initial_weights')}."
    parts = f", {summary['accumulate']} micro-batches per step" * (summary["accumulate"] > 1)
    yield f"Precision: {summary['precision']}{parts}."


def _notes_on_runs(summary: Mapping[str, Any]) -> Iterator[str]:
    """Yield how many runs there are, and what is special about any of them."""
    systems = summary["systems"]
    seeds = {len(system["seeds"]) for system in systems}
    yield (
        "One seed, so the variation between training runs is not known."
        if seeds == {1}
        else f"Mean ± standard deviation over {' or '.join(map(str, sorted(seeds)))} seeds."
    )
    if any(system["recipe"]["cached_views"] for system in systems):
        yield (
            "With cached_views, all seeds share the random views of seed 0, whose variation is not "
            "in the standard deviation."
        )
    if summary["not_complete"]:
        yield f"Not complete: {'; '.join(summary['not_complete'])}."
    for system in systems:
        for seed, changes in system["changes_on_resume"].items():
            yield f"Resumed with another recipe: {system['system']}, seed {seed}: {changes}."
    yield f"Prediction speed: {_of(systems, 'predict_machine')}."
