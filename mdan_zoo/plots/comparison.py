"""Plot of a comparison: the accuracy of every system at every level, with the printed numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mdan_zoo.plots.figures import Figure, new_figure

_MEASURED, _PRINTED = "#0072B2", "#D55E00"
_PANEL, _ROW = 3.4, 0.34  # inches
_CHANGES_PER_LINE = 2
_LEGEND = "as printed in the paper (other splits)"


def draw_comparison(summary: Mapping[str, Any]) -> Figure:
    """Draw mean and standard deviation over seeds, and the accuracies as printed in the paper.

    `summary` is that of `mdan_zoo.comparison.results.summarise`; a dotted line is the control.
    """
    systems = summary["systems"]
    levels = list(systems[0]["levels"])
    names = [_in_lines(system["system"]) for system in systems]
    lines = sum(name.count("\n") for name in names)
    height = 1.6 + _ROW * len(systems) + 0.12 * lines
    figure = new_figure(2.6 + _PANEL * len(levels), height)
    figure.set_layout_engine("constrained")
    places = range(len(systems))
    for axes, level in zip(
        figure.subplots(1, len(levels), sharey=True, squeeze=False)[0], levels, strict=True
    ):
        scores = [system["levels"][level] for system in systems]
        means = [100 * score["accuracy"]["mean"] for score in scores]
        spreads = [100 * (score["accuracy"]["sd"] or 0) for score in scores]
        style = {"fmt": "o", "color": _MEASURED, "capsize": 2}
        axes.errorbar(means, places, xerr=spreads, label="measured: mean ± sd over seeds", **style)
        printed = [
            (float(score["as_printed_in_the_paper"]), place)
            for place, score in enumerate(scores)
            if score["as_printed_in_the_paper"]
        ]
        style = {"marker": "D", "facecolors": "none", "edgecolors": _PRINTED}
        axes.scatter(*zip(*printed, strict=True) if printed else ([], []), **style, label=_LEGEND)
        for system, mean in zip(systems, means, strict=True):
            if system["system"] == summary["control"]:
                axes.axvline(mean, color="grey", linestyle=":", linewidth=1)
        axes.set_title(level, parse_math=False)
        axes.set_xlabel("accuracy in %")
        axes.grid(axis="x", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    axes.set_yticks(places, names, fontsize=8, parse_math=False)
    axes.set_ylim(len(systems) - 0.5, -0.5)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    return figure


def _in_lines(system: str) -> str:
    """Return the name of a system with line breaks between its changes."""
    model, *changes = re.split(r":(?=\w+=)", system)
    starts = range(0, len(changes), _CHANGES_PER_LINE)
    return "\n".join([model, *(":".join(changes[n : n + _CHANGES_PER_LINE]) for n in starts)])
