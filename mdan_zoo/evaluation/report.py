"""Evaluation report: metrics as JSON, a Markdown report, probabilities and figures."""

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
from mdan_zoo.evaluation.reference import NOT_IN_THE_PAPER, other_results, paper_results
from mdan_zoo.evaluation.results import Evaluation, Score

JSON_FILE = "evaluation.json"
REPORT_FILE = "evaluation.md"
PROBABILITIES_FILE = "probabilities.npz"
FOLDS_FILE = "folds.tsv"


def write_report(evaluation: Evaluation, folder: str | os.PathLike[str]) -> Path:
    """Write evaluation.json, evaluation.md, probabilities.npz, the figures and created folds.

    Args:
        evaluation: The results.
        folder: Output folder; created if missing. Files of an earlier report are replaced.

    Returns:
        The path of the report.

    Raises:
        InputError: matplotlib is not installed, or the folder is not writable.
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
    """Create a folder if it does not exist, and return its path.

    Raises:
        InputError: The folder cannot be created.
    """
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot create the folder {path}: {error.strerror}") from error
    return path


def to_markdown(evaluation: Evaluation, figures: Mapping[str, str] | None = None) -> str:
    """Return the report as Markdown.

    Args:
        evaluation: The results.
        figures: Title of every figure, by file name.
    """
    on = f" on {evaluation.source.dataset}" if evaluation.source.dataset else ""
    blocks = [f"# {evaluation.model}{on}", _about(evaluation), _training_images(evaluation)]
    tree = evaluation.probabilities.hierarchy
    for level, name in enumerate(tree.level_names):
        blocks += [f"## {name}: {tree.sizes[level]} classes", _most_frequent(evaluation, level)]
        blocks += [_scores(evaluation, name, _LEVEL_ROWS)]
    rows = [row for row in _TREE_ROWS if _has(evaluation, row)]
    if rows:
        blocks += ["## Whole hierarchy", _scores(evaluation, "", rows)]
    blocks += [_NOTES]
    if evaluation.source.folds:
        blocks += ["## Folds", *_folds(evaluation)]
    if figures:
        blocks += ["## Figures", *(f"![{title}]({file})" for file, title in figures.items())]
    return "\n\n".join([*blocks, *_paper(evaluation), *_others(evaluation)]) + "\n"


def _percent(number: float) -> str:
    return f"{100 * number:.2f}"


def _three_digits(number: float) -> str:
    return "-" if math.isnan(number) else f"{number:.3f}"


# Name of the metric, its title, and its number format.
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
    "95 % intervals in parentheses. Levels are evaluated independently; a hierarchy violation is "
    "an image whose predicted classes are not a path of the hierarchy. Balanced accuracy is the "
    f"mean recall. The expected calibration error uses {CALIBRATION_BINS} bins of equal width; it "
    "is biased upwards for small datasets, and more so for the resamples, so the interval can be "
    "above the value."
)


def _about(evaluation: Evaluation) -> str:
    source, data = evaluation.source, evaluation.probabilities
    split = f"{source.split}, sha256 `{source.split_sha256}`" if source.split else "none"
    rows = [
        ("model", evaluation.model),
        ("weights", f"sha256 `{evaluation.weights_sha256}`"),
        ("dataset", source.dataset or "unknown"),
        ("split", split),
        ("part", source.part or "all images"),
        ("images", f"{len(data.images):,} in {evaluation.groups:,} groups"),
        ("computed", f"with mdan_zoo {__version__} on {evaluation.device} in {evaluation.dtype}"),
        (
            "intervals",
            f"95 %, percentile bootstrap over groups, {evaluation.resamples:,} resamples, "
            f"seed {evaluation.seed}",
        ),
    ]
    if data.alpha is not None:
        rows.insert(2, ("alpha", f"{data.alpha:g}, the weight of the local branch in P_O"))
    return _table(("", ""), rows)


def _training_images(evaluation: Evaluation) -> str:
    """Return a note on images that were in the training data."""
    count, total = evaluation.trained_on, len(evaluation.probabilities.images)
    if count is None:
        return (
            "It is unknown whether the model was trained on these images: the folder of the "
            "checkpoint has no list of training images, or the list does not cover the initial "
            "weights. The results are only valid for new images if it was not. For a model that "
            "was trained on a part of this dataset, pass the split of the training and evaluate "
            "another part."
        )
    if count:
        return (
            f"**The model was trained on {count:,} of these {total:,} images.** The results are "
            "not valid for new images."
        )
    return "The model was not trained on any of these images."


def _most_frequent(evaluation: Evaluation, level: int) -> str:
    data = evaluation.probabilities
    names = data.hierarchy.levels[level]
    given = evaluation.confusion(level).sum(axis=1)
    share = _percent(given.max() / given.sum())
    return f"The most frequent class is {names[int(given.argmax())]}, {share} % of the images."


def _has(evaluation: Evaluation, row: _Row) -> bool:
    return any(score.measure == row[0] and not score.level for score in evaluation.scores)


def _scores(evaluation: Evaluation, level: str, rows: Iterable[_Row]) -> str:
    """Return a table with one row per metric and one column per branch."""
    branches = evaluation.probabilities.branches
    lines = []
    for measure, title, show in rows:
        found = [evaluation.score(measure, level, branch) for branch in branches]
        lines.append((title, *(_with_interval(score, show) for score in found)))
    return _table(("", *(_BRANCH_TITLES.get(branch, branch) for branch in branches)), lines)


def _with_interval(score: Score, show: Callable[[float], str]) -> str:
    return f"{show(score.value)} ({show(score.low)} to {show(score.high)})"


def _folds(evaluation: Evaluation) -> Iterator[str]:
    """Yield a table of the metrics of the overall branch by fold."""
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
        f"Overall branch; {JSON_FILE} has the other branches. All folds use the same weights, so "
        "the standard deviation is not that of a cross-validation, which trains one model per fold."
    )
    if (division := evaluation.source.division) is not None:
        yield f"Folds: {division.method}, sha256 `{division.sha256}`."
    yield _table(header, lines)


def _paper(evaluation: Evaluation) -> Iterator[str]:
    """Yield a section with the results of the paper."""
    dataset = evaluation.source.dataset
    results = paper_results(dataset)
    if not results:
        if dataset in NOT_IN_THE_PAPER:
            yield "## Results of the paper"
            yield f"The paper has no results on {dataset}: {NOT_IN_THE_PAPER[dataset]}."
        return
    yield "## Results of the paper (not reproduced)"
    yield (
        f"Accuracies on {dataset} in Xu et al., MDAN: Multi-level Dependent Attention Network for "
        "Visual Emotion Analysis, CVPR 2022, copied from its tables. The splits of the paper are "
        "not published, so its test images may differ."
    )
    yield _table(
        ("model", "level", "branch", "accuracy, %", "source"),
        [(r.model, r.level, r.branch, r.accuracy, r.source) for r in results],
    )
    notes = dict.fromkeys((r.level, r.note) for r in results if r.note)
    yield "\n".join(f"* {level}: {note}." for level, note in notes)


def _others(evaluation: Evaluation) -> Iterator[str]:
    """Yield a section with baselines and results of other publications."""
    results = other_results(evaluation.source.dataset)
    if results:
        yield "## Results from other sources (not reproduced)"
        yield _table(
            ("model", "level", "accuracy, %", "source", "note"),
            [(r.model, r.level, r.accuracy, r.source, r.note) for r in results],
        )


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
