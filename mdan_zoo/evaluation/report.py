"""Evaluation report: metrics as JSON, a Markdown report, probabilities and figures."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from mdan_zoo._util.files import write_atomically
from mdan_zoo._version import __version__
from mdan_zoo.errors import InputError
from mdan_zoo.evaluation.figures import draw_figures, require_matplotlib
from mdan_zoo.evaluation.metrics import CALIBRATION_BINS
from mdan_zoo.evaluation.reference import NOT_IN_THE_PAPER, other_results, paper_results
from mdan_zoo.evaluation.results import Evaluation, positive_class
from mdan_zoo.inference.prediction import VIEWS, Views

_JSON_FILE = "evaluation.json"


def write_report(evaluation: Evaluation, folder: str | os.PathLike[str]) -> Path:
    """Write evaluation.json, evaluation.md, probabilities.npz, the figures and created folds.

    The folder is created if missing. Files of an earlier report are replaced.

    Returns:
        The path of evaluation.md.

    Raises:
        InputError: matplotlib is not installed, or the folder is not writable.
    """
    require_matplotlib()
    folder = make_folder(folder)
    evaluation.probabilities.save(folder / "probabilities.npz")
    if (division := evaluation.source.division) is not None:
        division.save(folder / "folds.tsv")
    figures = draw_figures(evaluation, folder)
    content = json.dumps(evaluation.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(folder / _JSON_FILE, f"{content}\n".encode())
    path = folder / "evaluation.md"
    write_atomically(path, to_markdown(evaluation, figures).encode())
    return path


def make_folder(folder: str | os.PathLike[str]) -> Path:
    """Return a folder, created if missing; raise `InputError` if that is not possible."""
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot create the folder {path}: {error.strerror}") from error
    return path


def to_markdown(evaluation: Evaluation, figures: Mapping[str, str] | None = None) -> str:
    """Return the report as Markdown; `figures` are titles by file name."""
    on = f" on {evaluation.source.dataset}" if evaluation.source.dataset else ""
    blocks = [f"# {evaluation.model}{on}", _about(evaluation), _training_images(evaluation)]
    tree = evaluation.probabilities.hierarchy
    data = evaluation.probabilities
    for level, name in enumerate(data.labelled_levels):
        given, classes = evaluation.confusion(level).sum(axis=1), tree.levels[level]
        labelled = int(given.sum())
        text = (
            f"The most frequent class is {classes[int(given.argmax())]}, "
            f"{_percent(given.max() / given.sum())} % of the images."
        )
        if labelled < len(data.images):
            text += f" Only {labelled:,} of the images have a label at this level."
        if len(classes) == 2:
            text += f" The average precision is that of {classes[positive_class(classes)]}."
        blocks += [
            f"## {name}: {tree.sizes[level]} classes",
            text,
            _scores(evaluation, name),
        ]
    if any(not score.level for score in evaluation.scores):
        blocks += ["## Whole hierarchy", _scores(evaluation, "")]
    blocks += [_NOTES]
    if evaluation.source.folds:
        blocks += ["## Folds", *_folds(evaluation)]
    if figures:
        blocks += ["## Figures", *(f"![{title}]({file})" for file, title in figures.items())]
    return "\n\n".join([*blocks, *_published(evaluation.source.dataset)]) + "\n"


def _percent(number: float) -> str:
    return f"{100 * number:.2f}"


def _three_digits(number: float) -> str:
    return "-" if math.isnan(number) else f"{number:.3f}"


# The title and the number format of every metric.
_ROWS: dict[str, tuple[str, Callable[[float], str]]] = {
    "accuracy": ("accuracy, %", _percent),
    "balanced_accuracy": ("balanced accuracy, %", _percent),
    "macro_f1": ("macro F1, %", _percent),
    "calibration_error": ("expected calibration error, %", _percent),
    "negative_log_likelihood": ("negative log likelihood, nats", _three_digits),
    "roc_auc": ("ROC AUC", _three_digits),
    "average_precision": ("average precision", _three_digits),
    "violation_rate": ("hierarchy violations, % of the images", _percent),
    "valence_r": ("Pearson's r with mean valence", _three_digits),
    "arousal_r": ("Pearson's r with mean arousal", _three_digits),
}
_PREDICTED = {"r": "Pearson's r", "mae": "mean absolute error"}
_BRANCHES = {"overall": "overall, P_O", "local": "local, P_L", "global": "global, P_G"}

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
    resamples = f"{evaluation.resamples:,} resamples, seed {evaluation.seed}"
    rows = [
        ("model", evaluation.model),
        ("weights", f"sha256 `{evaluation.weights_sha256}`"),
        ("dataset", source.dataset or "unknown"),
        ("split", split),
        ("part", source.part or "all images"),
        ("images", f"{len(data.images):,} in {evaluation.groups:,} groups"),
        ("computed", f"with mdan_zoo {__version__} on {evaluation.device} in {evaluation.dtype}"),
        ("views", _views(evaluation.views)),
        ("intervals", f"95 %, percentile bootstrap over groups, {resamples}"),
    ]
    if data.alpha is not None:
        rows.insert(2, ("alpha", f"{data.alpha:g}, the weight of the local branch in P_O"))
    if source.classes:
        rows += _comparison(evaluation)
    return _table(("", ""), rows)


def _views(views: Views) -> str:
    """Return the views, and their cost if there are several."""
    count = VIEWS[views]
    about = f": averaged over {count} views of each image, for {count} times the computing time"
    return views + (about if count > 1 else "")


def _comparison(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Return rows on the compared levels, renamed classes and images that are left out."""
    source, levels = evaluation.source, evaluation.probabilities.labelled_levels
    renamed = [f"{theirs}: {ours}" for theirs, ours in source.classes if ours not in ("", theirs)]
    left_out = [f"{name}: {count:,}" for name, count in source.left_out]
    total = sum(count for _, count in source.left_out)
    return [
        ("levels compared", ", ".join(levels)),
        *(
            [("classes of the model by class of the dataset", ", ".join(renamed))]
            if renamed
            else []
        ),
        ("images left out", f"{total:,}, of {', '.join(left_out)}" if left_out else "none"),
    ]


def _training_images(evaluation: Evaluation) -> str:
    """Return a note on images that were in the training data."""
    count, total = evaluation.trained_on, len(evaluation.probabilities.images)
    if count is None:
        return (
            "It is unknown whether the model was trained on these images: the folder of the "
            "checkpoint has no list of training images, or the list does not cover the initial "
            "weights. If it was, the results are not valid for new images. For a model that was "
            "trained on a part of this dataset, evaluate another part of that split (--split)."
        )
    if count:
        about = f"**The model was trained on {count:,} of these {total:,} images.**"
        return f"{about} The results are not valid for new images."
    return "The model was not trained on any of these images."


def _row(measure: str) -> tuple[str, Callable[[float], str]]:
    """Return the title and the number format of a metric."""
    if measure in _ROWS:
        return _ROWS[measure]
    rating, _, kind = measure.removeprefix("predicted_").rpartition("_")  # of a dimension
    return f"{_PREDICTED[kind]} of the predicted {rating}", _three_digits


def _scores(evaluation: Evaluation, level: str) -> str:
    """Return a table with one row per metric of a level and one column per branch."""
    branches = evaluation.probabilities.branches
    cells: dict[str, list[str]] = {}
    here = [score for score in evaluation.scores if score.level == level]
    for measure in dict.fromkeys([*_ROWS, *(score.measure for score in here)]):
        title, show = _row(measure)
        found = {s.branch: s for s in here if s.measure == measure}
        if found:
            cells[title] = [
                f"{show(s.value)} ({show(s.low)} to {show(s.high)})" if s else ""
                for s in map(found.get, branches)
            ]
    header = ("", *(_BRANCHES.get(branch, branch) for branch in branches))
    return _table(header, [(title, *row) for title, row in cells.items()])


def _folds(evaluation: Evaluation) -> Iterator[str]:
    """Yield a table of the metrics of the overall branch by fold."""
    folds = evaluation.source.folds
    lines = [("images", "", *(f"{len(indices):,}" for _, indices in folds))]
    for score in evaluation.scores:
        if score.branch == "overall":
            title, show = _row(score.measure)
            title = f"{score.level} {title}".strip()
            lines.append((title, f"{show(score.mean)} ± {show(score.sd)}", *map(show, score.folds)))
    yield (
        f"Overall branch; {_JSON_FILE} has the other branches. All folds use the same weights, so "
        "the standard deviation is not that of a cross-validation, which trains one model per fold."
    )
    if (division := evaluation.source.division) is not None:
        yield f"Folds: {division.method}, sha256 `{division.sha256}`."
    yield _table(("", "mean ± sd", *(f"fold {name}" for name, _ in folds)), lines)


def _published(dataset: str) -> Iterator[str]:
    """Yield sections with the results of the paper, baselines and other publications."""
    if results := paper_results(dataset):
        yield "## Results of the paper (not reproduced)"
        yield (
            f"Accuracies on {dataset} in Xu et al., MDAN: Multi-level Dependent Attention Network "
            "for Visual Emotion Analysis, CVPR 2022, copied from its tables. The splits of the "
            "paper are not published, so its test images may differ."
        )
        yield _table(
            ("model", "level", "branch", "accuracy, %", "source"),
            [(r.model, r.level, r.branch, r.accuracy, r.source) for r in results],
        )
        notes = dict.fromkeys((r.level, r.note) for r in results if r.note)
        yield "\n".join(f"* {level}: {note}." for level, note in notes)
    elif dataset in NOT_IN_THE_PAPER:
        yield "## Results of the paper"
        yield f"The paper has no results on {dataset}: {NOT_IN_THE_PAPER[dataset]}."
    if results := other_results(dataset):
        yield "## Results from other sources (not reproduced)"
        yield _table(
            ("model", "level", "accuracy, %", "source", "note"),
            [(r.model, r.level, r.accuracy, r.source, r.note) for r in results],
        )


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
