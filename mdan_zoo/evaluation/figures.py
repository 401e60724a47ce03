"""Report figures: confusion matrices, reliability diagrams, and accuracy against alpha.

All figures are drawn from stored probabilities, in the colour-blind safe palette of Okabe and Ito
and a sequential colour map.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mdan_zoo.errors import InputError
from mdan_zoo.evaluation.metrics import (
    CALIBRATION_BINS,
    Floats,
    Ints,
    Outcomes,
    accuracy,
    sums_by_bin,
)
from mdan_zoo.evaluation.probabilities import Probabilities
from mdan_zoo.evaluation.results import Evaluation
from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.inference.prediction import Branch

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9")
_MARKERS = ("o", "^", "s", "D", "v")
# The branches that Fig. 6 shows side by side, with their symbols and what their files end with.
_MATRICES: dict[Branch, tuple[str, str]] = {"overall": ("P_O", ""), "local": ("P_L", "_local")}
_BORDER = "#D55E00"
_ALPHAS = np.linspace(0, 1, 51)
_FEWEST_POINTS = 5  # minimum range of the accuracy axis in percentage points
_WHITE_FROM = 0.65  # white text above this share
_DPI = 150


def require_matplotlib() -> None:
    """Raise `InputError` if matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise InputError("figures require matplotlib: pip install 'mdan-zoo[evaluate]'") from error


def draw_figures(evaluation: Evaluation, folder: Path) -> dict[str, str]:
    """Draw all figures as PNG files.

    Args:
        evaluation: The results.
        folder: An existing folder.

    Returns:
        Title of every figure, by file name. Networks without a local branch have no alpha figure.
    """
    tree = evaluation.probabilities.hierarchy
    figures = {}
    for level, name in enumerate(tree.level_names):
        for branch, (symbol, ending) in _MATRICES.items():
            if branch not in evaluation.probabilities.branches:
                continue
            file = f"confusion_{_file_name(name)}{ending}.png"
            counts = evaluation.confusion(level, branch)
            _save(draw_confusion(counts, tree, level, symbol), folder / file)
            figures[file] = f"Confusion matrix of {symbol}, {name}"
    _save(draw_reliability(evaluation.probabilities), folder / "reliability.png")
    figures["reliability.png"] = "Accuracy against confidence"
    if evaluation.probabilities.alpha is not None:
        _save(draw_alpha(evaluation.probabilities), folder / "alpha.png")
        figures["alpha.png"] = "Accuracy against alpha"
    return figures


def draw_confusion(counts: Ints, tree: Hierarchy, level: int, symbol: str = "P_O") -> Figure:
    """Draw a confusion matrix with borders between the children of different parents (Fig. 6).

    Args:
        counts: Confusion matrix, (K, K): true classes in rows, predicted in columns.
        tree: The hierarchy.
        level: Level of the matrix.
        symbol: Symbol of the branch, for the title.
    """
    order = _tree_order(tree, level)
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
    for (row, column), share in np.ndenumerate(shares):
        if share >= 0.005:
            colour = "white" if share > _WHITE_FROM else "black"
            axes.text(
                column,
                row,
                f"{100 * share:.0f}",
                ha="center",
                va="center",
                color=colour,
                fontsize=8,
            )
    _draw_borders(axes, tree, level, order)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true (images)")
    title = f"{tree.level_names[level]}: {symbol}, % of true class"
    axes.set_title(title, fontsize=11, parse_math=False)
    return figure


def _tree_order(tree: Hierarchy, level: int) -> list[int]:
    """Return the class ids of a level, grouped by parent."""
    ancestry = {path[level]: path[: level + 1] for path in tree.leaf_paths}
    return sorted(ancestry, key=ancestry.__getitem__)


def _draw_borders(axes: Axes, tree: Hierarchy, level: int, order: list[int]) -> None:
    """Draw lines between the children of different parents, with the parent names."""
    if level == 0:
        return
    parents = [tree.parents[level - 1][k] for k in order]
    starts = [k for k in range(len(order)) if k == 0 or parents[k] != parents[k - 1]]
    for start, end in zip(starts, [*starts[1:], len(order)], strict=True):
        if start:
            axes.axhline(start - 0.5, color=_BORDER, linewidth=1.5)
            axes.axvline(start - 0.5, color=_BORDER, linewidth=1.5)
        axes.annotate(
            parents[start],
            (len(order) - 0.4, (start + end - 1) / 2),
            annotation_clip=False,
            parse_math=False,
            va="center",
            color=_BORDER,
        )


def draw_reliability(data: Probabilities) -> Figure:
    """Draw accuracy against confidence and the number of images by bin, for every level."""
    tree = data.hierarchy
    figure = _new_figure(4.2 * tree.depth, 5.2)
    grid = figure.subplots(
        2, tree.depth, sharex=True, squeeze=False, gridspec_kw={"height_ratios": (3, 1)}
    )
    for level, name in enumerate(tree.level_names):
        upper, lower = grid[:, level]
        upper.plot([0, 1], [0, 1], color="grey", linestyle=":", linewidth=1)
        styles = zip(itertools.cycle(_COLOURS), itertools.cycle(_MARKERS))
        for branch, (colour, marker) in zip(data.branches, styles, strict=False):
            outcomes = Outcomes.of(data.of(branch, level), data.labels[:, level])
            count, confidence, right = _by_bin(outcomes)
            style = {"color": colour, "marker": marker, "markersize": 4}
            upper.plot(confidence, right, label=branch, **style)
            lower.step(_bin_edges(), [*count, count[-1]], where="post", color=colour)
        upper.set_title(name, parse_math=False)
        upper.set(xlim=(0, 1), ylim=(0, 1.02))
        lower.set(xlabel="confidence", ylim=(0, None))
        _remove_box(upper, lower)
    grid[0, 0].set_ylabel("accuracy")
    grid[1, 0].set_ylabel("images")
    lines = grid[0, 0].get_lines()[1:]  # the first is the diagonal
    figure.legend(handles=lines, loc="outside upper center", ncols=len(lines), frameon=False)
    return figure


def _by_bin(outcomes: Outcomes) -> tuple[Floats, Floats, Floats]:
    """Return number of images, mean confidence and accuracy of every bin; NaN if empty."""
    rows = np.stack([np.ones(len(outcomes.labels)), outcomes.confidence, outcomes.correct])
    count, confidence, right = sums_by_bin(outcomes.bins, CALIBRATION_BINS, rows)
    filled = np.where(count, count, np.nan)
    return count, confidence / filled, right / filled


def _bin_edges() -> Floats:
    return np.linspace(0, 1, CALIBRATION_BINS + 1)


def alpha_accuracies(data: Probabilities, alphas: Floats) -> Floats:
    """Return the accuracy of P_O for every level and every alpha, (levels, alphas)."""
    once = np.ones((1, len(data.labels)))
    return np.array(
        [
            [
                accuracy(Outcomes.of(data.overall(level, alpha), data.labels[:, level]), once)[0]
                for alpha in alphas
            ]
            for level in range(data.hierarchy.depth)
        ]
    )


def draw_alpha(data: Probabilities) -> Figure:
    """Draw the accuracy of P_O against alpha, the weight of P_L, for every level (Fig. 7)."""
    tree = data.hierarchy
    figure = _new_figure(4.2 * tree.depth, 3.2)
    grid = figure.subplots(1, tree.depth, squeeze=False)[0]
    accuracies = 100 * alpha_accuracies(data, _ALPHAS)
    for axes, name, values in zip(grid, tree.level_names, accuracies, strict=True):
        axes.plot(_ALPHAS, values, color=_COLOURS[0], clip_on=False)
        spare = max(0, _FEWEST_POINTS - np.ptp(values)) / 2 + 0.3
        axes.set_ylim(max(0, values.min() - spare), min(100, values.max() + spare))
        axes.axvline(data.alpha, color="grey", linestyle=":", linewidth=1)
        axes.set_title(name, parse_math=False)
        axes.set(xlabel=f"alpha (dotted: the model's {data.alpha:g})", xlim=(0, 1))
        _remove_box(axes)
    grid[0].set_ylabel("accuracy in %")
    return figure


def _new_figure(width: float, height: float) -> Figure:
    """Return an empty figure that is not registered with pyplot; sizes in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _remove_box(*several: Axes) -> None:
    for axes in several:
        axes.spines[["top", "right"]].set_visible(False)


def _file_name(level_name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in level_name)


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=_DPI, facecolor="white")
