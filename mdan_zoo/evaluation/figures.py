"""Report figures: confusion matrices, reliability diagrams, and accuracy against alpha."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mdan_zoo.errors import InputError
from mdan_zoo.evaluation.metrics import CALIBRATION_BINS, Floats, Ints, sums_by_bin
from mdan_zoo.evaluation.probabilities import Probabilities
from mdan_zoo.evaluation.results import Evaluation
from mdan_zoo.hierarchy.tree import Hierarchy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9")  # of Okabe and Ito
_MARKERS = ("o", "^", "s", "D", "v")
_BORDER = "#D55E00"
_ALPHAS = np.linspace(0, 1, 51)
_FEWEST_POINTS = 5  # minimum range of the accuracy axis in percentage points
_WHITE_FROM = 0.65  # white text above this share


def require_matplotlib() -> None:
    """Raise `InputError` if matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise InputError("figures require matplotlib: pip install 'mdan-zoo[evaluate]'") from error


def draw_figures(evaluation: Evaluation, folder: Path) -> dict[str, str]:
    """Draw all figures as PNG files; return their titles by file name.

    Networks without a local and a global branch have no alpha figure.
    """
    data = evaluation.probabilities
    tree = data.hierarchy
    titles = {}

    def save(figure: Figure, name: str, title: str) -> None:
        figure.savefig(folder / f"{name}.png", dpi=150, facecolor="white")
        titles[f"{name}.png"] = title

    for level, level_name in enumerate(data.labelled_levels):
        name = "".join(c if c.isalnum() else "_" for c in level_name)
        for branch, symbol, ending in (("overall", "P_O", ""), ("local", "P_L", "_local")):
            if branch in data.branches:
                figure = draw_confusion(evaluation.confusion(level, branch), tree, level, symbol)
                title = f"Confusion matrix of {symbol}, {level_name}"
                save(figure, f"confusion_{name}{ending}", title)
    save(draw_reliability(data), "reliability", "Accuracy against confidence")
    if data.alpha is not None:
        save(draw_alpha(data), "alpha", "Accuracy against alpha")
    return titles


def draw_confusion(counts: Ints, tree: Hierarchy, level: int, symbol: str = "P_O") -> Figure:
    """Draw a confusion matrix (K, K) with borders between the children of parents (Fig. 6).

    True classes are in rows, predicted ones in columns.
    """
    ancestry = {path[level]: path[: level + 1] for path in tree.leaf_paths}
    order = sorted(ancestry, key=ancestry.__getitem__)  # by parent
    names = [tree.levels[level][k] for k in order]
    counts = counts[np.ix_(order, order)]
    given = counts.sum(axis=1)
    shares = counts / np.maximum(given, 1)[:, None]
    side = 0.36 * len(order)
    figure = _new_figure(side + 3.6, side + 2.4)
    axes = figure.add_subplot()
    axes.imshow(shares, origin="upper", cmap="Blues", vmin=0, vmax=1)
    counted = [f"{name} ({n:,})" for name, n in zip(names, given, strict=True)]
    axes.set_xticks(range(len(names)), names, rotation=90, parse_math=False)
    axes.set_yticks(range(len(names)), counted, parse_math=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 8}
    for (row, column), share in np.ndenumerate(shares):
        if share >= 0.005:
            colour = "white" if share > _WHITE_FROM else "black"
            axes.text(column, row, f"{100 * share:.0f}", color=colour, **style)
    if level > 0:
        _draw_borders(axes, [tree.parents[level - 1][k] for k in order])
    axes.set_xlabel("predicted")
    axes.set_ylabel("true (images)")
    title = f"{tree.level_names[level]}: {symbol}, % of true class"
    axes.set_title(title, fontsize=11, parse_math=False)
    return figure


def _draw_borders(axes: Axes, parents: list[str]) -> None:
    """Draw lines between the children of different parents, with the parent names."""
    start = 0
    for parent, children in itertools.groupby(parents):
        end = start + len(list(children))
        if start:
            axes.axhline(start - 0.5, color=_BORDER, linewidth=1.5)
            axes.axvline(start - 0.5, color=_BORDER, linewidth=1.5)
        axes.annotate(
            parent,
            (len(parents) - 0.4, (start + end - 1) / 2),
            annotation_clip=False,
            parse_math=False,
            va="center",
            color=_BORDER,
        )
        start = end


def draw_reliability(data: Probabilities) -> Figure:
    """Draw accuracy against confidence and the number of images by bin, for labelled levels."""
    names = data.labelled_levels
    figure = _new_figure(4.2 * len(names), 5.2)
    grid = figure.subplots(
        2, len(names), sharex=True, squeeze=False, gridspec_kw={"height_ratios": (3, 1)}
    )
    edges = np.linspace(0, 1, CALIBRATION_BINS + 1)
    for level, name in enumerate(names):
        upper, lower = grid[:, level]
        upper.plot([0, 1], [0, 1], color="grey", linestyle=":", linewidth=1)
        styles = zip(itertools.cycle(_COLOURS), itertools.cycle(_MARKERS))
        for branch, (colour, marker) in zip(data.branches, styles, strict=False):
            outcomes = data.outcomes(branch, level)
            rows = np.stack([np.ones(len(outcomes.labels)), outcomes.confidence, outcomes.correct])
            count, confidence, right = sums_by_bin(outcomes.bins, CALIBRATION_BINS, rows)
            filled = np.where(count, count, np.nan)
            style = {"color": colour, "marker": marker, "markersize": 4, "clip_on": False}
            upper.plot(confidence / filled, right / filled, label=branch, **style)
            lower.step(edges, [*count, count[-1]], where="post", color=colour)
        upper.set_title(name, parse_math=False)
        upper.set(xlim=(0, 1), ylim=(0, 1.02))
        lower.set(xlabel="confidence", ylim=(0, None))
        for axes in (upper, lower):
            axes.spines[["top", "right"]].set_visible(False)
    grid[0, 0].set_ylabel("accuracy")
    grid[1, 0].set_ylabel("images")
    lines = grid[0, 0].get_lines()[1:]  # the first is the diagonal
    figure.legend(handles=lines, loc="outside upper center", ncols=len(lines), frameon=False)
    return figure


def alpha_accuracies(data: Probabilities, alphas: Floats) -> Floats:
    """Return the accuracy of P_O at every labelled level for every alpha, (levels, alphas)."""

    def accuracy(level: int, alpha: float) -> float:
        rows = data.labelled(level)
        predicted = data.overall(level, alpha)[rows].argmax(axis=1)
        return float((predicted == data.labels[rows, level]).mean())

    levels = range(len(data.labelled_levels))
    return np.array([[accuracy(level, alpha) for alpha in alphas] for level in levels])


def draw_alpha(data: Probabilities) -> Figure:
    """Draw the accuracy of P_O at labelled levels against alpha, the weight of P_L (Fig. 7)."""
    names = data.labelled_levels
    figure = _new_figure(4.2 * len(names), 3.2)
    grid = figure.subplots(1, len(names), squeeze=False)[0]
    accuracies = 100 * alpha_accuracies(data, _ALPHAS)
    for axes, name, values in zip(grid, names, accuracies, strict=True):
        axes.plot(_ALPHAS, values, color=_COLOURS[0], clip_on=False)
        spare = max(0, _FEWEST_POINTS - np.ptp(values)) / 2 + 0.3
        axes.set_ylim(max(0, values.min() - spare), min(100, values.max() + spare))
        axes.axvline(data.alpha, color="grey", linestyle=":", linewidth=1)
        axes.set_title(name, parse_math=False)
        axes.set(xlabel=f"alpha (dotted: the model's {data.alpha:g})", xlim=(0, 1))
        axes.spines[["top", "right"]].set_visible(False)
    grid[0].set_ylabel("accuracy in %")
    return figure


def _new_figure(width: float, height: float) -> Figure:
    """Return an empty figure that is not registered with pyplot; sizes in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")
