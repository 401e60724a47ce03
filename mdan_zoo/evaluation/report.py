"""A folder with an evaluation: the numbers, a report to read, the probabilities and figures."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from mdan_zoo._util.files import write_atomically
from mdan_zoo._version import __version__
from mdan_zoo.errors import InputError
from mdan_zoo.evaluation.figures import draw_figures, require_matplotlib
from mdan_zoo.evaluation.metrics import CALIBRATION_BINS
from mdan_zoo.evaluation.paper_results import NOT_IN_THE_PAPER
from mdan_zoo.evaluation.results import Evaluation, Score

JSON_FILE = "evaluation.json"
REPORT_FILE = "evaluation.md"
PROBABILITIES_FILE = "probabilities.npz"
FOLDS_FILE = "folds.tsv"


def write_report(evaluation: Evaluation, folder: str | os.PathLike[str]) -> Path:
    """Write evaluation.json, evaluation.md, probabilities.npz, the figures and new folds.

    Args:
        evaluation: What to write.
        folder: Where to; made if it is not there. Files of an earlier report are replaced.

    Returns:
        The path of the report.

    Raises:
        InputError: matplotlib is missing, or the folder cannot be written to.
    """
    require_matplotlib()
    folder = make_folder(folder)
    evaluation.probabilities.save(folder / PROBABILITIES_FILE)
    if (division := evaluation.source.division) is not None:
        division.save(folder / FOLDS_FILE)
    figures = draw_figures(evaluation, folder)
    content = json.dumps(evaluation.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(folder / JSON_FILE, f"{content}\n".encode())
    path = folder / REPORT_FILE
    write_atomically(path, to_markdown(evaluation, figures).encode())
    return path


def make_folder(folder: str | os.PathLike[str]) -> Path:
    """Return a folder that is there now.

    Raises:
        InputError: It cannot be made.
    """
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"the folder {path} cannot be made: {error.strerror}") from error
    return path


def to_markdown(evaluation: Evaluation, figures: Mapping[str, str] | None = None) -> str:
    """Return the report as Markdown.

    Args:
        evaluation: The numbers.
        figures: For every figure's file name what it shows.
    """
    on = f" on {evaluation.source.dataset}" if evaluation.source.dataset else ""
    blocks = [f"# {evaluation.model}{on}", _about(evaluation), _caution(evaluation)]
    tree = evaluation.probabilities.hierarchy
    for level, name in enumerate(tree.level_names):
        blocks += [f"## {name}: {tree.sizes[level]} classes", _most_frequent(evaluation, level)]
        blocks += [_scores(evaluation, name, _LEVEL_ROWS)]
    rows = [row for row in _TREE_ROWS if _has(evaluation, row)]
    if rows:
        blocks += ["## The tree as a whole", _scores(evaluation, "", rows)]
    blocks += [_NOTES]
    if evaluation.source.folds:
        blocks += ["## Folds", *_folds(evaluation)]
    if figures:
        blocks += ["## Figures", *(f"![{title}]({file})" for file, title in figures.items())]
    return "\n\n".join([*blocks, *_paper(evaluation), *_known(evaluation)]) + "\n"


def _percent(number: float) -> str:
    return f"{100 * number:.2f}"


def _three_digits(number: float) -> str:
    return "-" if math.isnan(number) else f"{number:.3f}"


# Measure, what it is called, and how its numbers are written.
_Row: TypeAlias = tuple[str, str, Callable[[float], str]]
_LEVEL_ROWS: tuple[_Row, ...] = (
    ("accuracy", "accuracy, %", _percent),
    ("balanced_accuracy", "balanced accuracy, %", _percent),
    ("macro_f1", "macro F1, %", _percent),
    ("calibration_error", "expected calibration error, %", _percent),
    ("negative_log_likelihood", "negative log likelihood, nats", _three_digits),
)
_TREE_ROWS: tuple[_Row, ...] = (
    ("violation_rate", "hierarchy violations, % of the images", _percent),
    ("valence_r", "Pearson's r with mean valence", _three_digits),
    ("arousal_r", "Pearson's r with mean arousal", _three_digits),
)
_BRANCH_TITLES = {
    "overall": "overall, P_O",
    "local": "local, P_L",
    "global": "global, P_G",
}

_NOTES = (
    "In brackets: 95 % intervals. Every level's most probable class is taken by itself; a "
    "hierarchy violation is an image whose classes are then no path of the tree. Balanced "
    "accuracy is the mean recall. The expected calibration error has "
    f"{CALIBRATION_BINS} bins of equal width; it is too high for few images, and more so in the "
    "resamples, so its interval can lie above it."
)


def _about(evaluation: Evaluation) -> str:
    source, data = evaluation.source, evaluation.probabilities
    split = f"{source.split}, sha256 `{source.split_sha256}`" if source.split else "none"
    rows = [
        ("model", evaluation.model),
        ("weights", f"sha256 `{evaluation.weights_sha256}`"),
        ("data set", source.dataset or "not named"),
        ("split", split),
        ("part", source.part or "all images"),
        ("images", f"{len(data.images):,} in {evaluation.groups:,} groups"),
        ("computed", f"by mdan_zoo {__version__} on {evaluation.device} in {evaluation.dtype}"),
        (
            "intervals",
            f"95 %, percentile bootstrap over groups, {evaluation.resamples:,} resamples, "
            f"seed {evaluation.seed}",
        ),
    ]
    if data.alpha is not None:
        rows.insert(2, ("alpha", f"{data.alpha:g}, the weight of the local branch in P_O"))
    return _table(("", ""), rows)


def _caution(evaluation: Evaluation) -> str:
    """Return what has to be known of the images before the numbers are read."""
    count, total = evaluation.trained_on, len(evaluation.probabilities.images)
    if count is None:
        return (
            "The numbers tell how the model does on new images only if its weights were trained "
            "without these, and that is not known: beside the weights there is no list of its "
            "images, or it lacks those of the weights that the training started from. For a "
            "model that was trained on a part of this data set, give the split that it was trained "
            "with and evaluate on another part."
        )
    if count:
        return (
            f"**The weights were trained on {count:,} of these {total:,} images.** The numbers "
            "do not tell how the model does on new images."
        )
    return "The weights were trained on none of these images."


def _most_frequent(evaluation: Evaluation, level: int) -> str:
    data = evaluation.probabilities
    names = data.hierarchy.levels[level]
    given = evaluation.confusion(level).sum(axis=1)
    share = _percent(given.max() / given.sum())
    return f"The most frequent class is {names[int(given.argmax())]}, {share} % of the images."


def _has(evaluation: Evaluation, row: _Row) -> bool:
    return any(score.measure == row[0] and not score.level for score in evaluation.scores)


def _scores(evaluation: Evaluation, level: str, rows: Iterable[_Row]) -> str:
    """Return a table with a row for every measure and a column for every branch."""
    branches = evaluation.probabilities.branches
    lines = []
    for measure, title, show in rows:
        found = [evaluation.score(measure, level, branch) for branch in branches]
        lines.append((title, *(_with_interval(score, show) for score in found)))
    return _table(("", *(_BRANCH_TITLES.get(branch, branch) for branch in branches)), lines)


def _with_interval(score: Score, show: Callable[[float], str]) -> str:
    return f"{show(score.value)} ({show(score.low)} to {show(score.high)})"


def _folds(evaluation: Evaluation) -> Iterator[str]:
    """Yield a table of the overall branch's measures, fold by fold."""
    folds = evaluation.source.folds
    header = ("", "mean ± sd", *(f"fold {name}" for name, _ in folds))
    lines = [("images", "", *(f"{len(indices):,}" for _, indices in folds))]
    shown = {measure: (title, show) for measure, title, show in (*_LEVEL_ROWS, *_TREE_ROWS)}
    for score in evaluation.scores:
        if score.branch == "overall":
            title, show = shown[score.measure]
            lines.append(
                (
                    f"{score.level} {title}".strip(),
                    f"{show(score.mean)} ± {show(score.sd)}",
                    *map(show, score.folds),
                )
            )
    yield (
        f"Of the overall branch; {JSON_FILE} has the others. The standard deviation is between "
        "folds of the same weights. It is not that of a cross-validation, which trains for every "
        "fold anew."
    )
    if (division := evaluation.source.division) is not None:
        yield f"The folds: {division.method}, sha256 `{division.sha256}`."
    yield _table(header, lines)


def _paper(evaluation: Evaluation) -> Iterator[str]:
    """Yield a section with the paper's numbers."""
    results, dataset = evaluation.paper(), evaluation.source.dataset
    if not results:
        if dataset in NOT_IN_THE_PAPER:
            yield "## What the paper reports"
            yield f"No numbers on {dataset}; {NOT_IN_THE_PAPER[dataset]}."
        return
    yield "## What the paper reports (not reproduced here)"
    yield (
        f"Accuracies on {dataset} in Xu et al., MDAN: Multi-level Dependent Attention Network for "
        "Visual Emotion Analysis, CVPR 2022. They are copied from its tables and were not measured "
        "here. The paper does not list the images of its splits, so these may be others."
    )
    yield _table(
        ("model", "level", "branch", "accuracy, %", "where"),
        [(r.model, r.level, r.branch, f"{r.accuracy:.2f}", r.table) for r in results],
    )
    notes = dict.fromkeys((r.level, r.note) for r in results if r.note)
    yield "\n".join(f"* {level}: {note}." for level, note in notes)


def _known(evaluation: Evaluation) -> Iterator[str]:
    """Yield a section with what others found."""
    results = evaluation.known()
    if results:
        yield "## What is known from elsewhere (not measured here, and not the paper's)"
        yield _table(
            ("of", "level", "accuracy, %", "source", "to be known"),
            [(r.system, r.level, r.accuracy, r.source, r.note) for r in results],
        )


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
