"""Tables of the models trained on FI and OASIS; written by `tables.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from result_tables import RESULTS, bold, read, table

from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.training.recipe import load_recipe

MODELS = ("mdan_fi8_lite0", "flat_fi8_lite0")
TREE = get_hierarchy("mikels8")
CLASSES = TREE.levels[1]
ACCURACIES = {"emotion_accuracy": "emotion accuracy", "polarity_accuracy": "polarity accuracy"}
CALIBRATION = {
    "negative_log_likelihood": "negative log likelihood",
    "calibration_error": "calibration error",
    "calibrated_error": "calibration error, scaled",
}
RATINGS = {"oasis_valence_r": "OASIS: r, valence", "oasis_arousal_r": "OASIS: r, arousal"}
GENERALISATION = {
    "emotion_accuracy": "emotion accuracy",
    "polarity_accuracy": "polarity accuracy",
    "polarity_roc_auc": "polarity ROC AUC",
    "valence_r": "r, *positive* and valence",
    "predicted_valence_r": "r, predicted valence",
    "arousal_r": "r, *excited* or *distressed* and arousal",
    "predicted_arousal_r": "r, predicted arousal",
}


def summary() -> list[dict[str, str]]:
    """Return the rows of the validation summary."""
    return read("fi_validation_summary.csv")


def metrics() -> str:
    """Validation: the overall probabilities of every model."""
    measures = ACCURACIES | CALIBRATION | RATINGS
    rows = [row for row in summary() if row["branch"] == "overall"]
    cells = [[bold(row["model"]), *(_cell(row, measure) for measure in measures)] for row in rows]
    return table(["", *measures.values()], cells) + f"\n\n{_seeds()}"


def by_branch() -> str:
    """Validation: every branch of the models."""
    balanced = {"emotion_balanced_accuracy": "balanced accuracy"}
    measures = ACCURACIES | balanced | CALIBRATION
    rows = [row for row in summary() if row["model"] in MODELS]
    cells = [[row["branch"], *(_cell(row, measure) for measure in measures)] for row in rows]
    names = [bold(row["model"]) for row in rows]
    return table(
        ["", "branch", *measures.values()],
        [[name, *line] for name, line in zip(names, cells, strict=True)],
    )


def _cell(row: Mapping[str, str], measure: str) -> str:
    """Return "0.757 ± 0.011", the value alone for a single seed, or "-" without one."""
    if not row.get(measure):
        return "-"
    spread = row.get(f"{measure}_sd_seeds")
    return f"{float(row[measure]):.3f}" + (f" ± {float(spread):.3f}" if spread else "")


def _seeds() -> str:
    """Return a sentence with the number of seeds."""
    seeds = {int(row["seeds"]) for row in summary() if row["model"] in MODELS}
    if seeds == {1}:
        return "One seed, so the variation between training runs is not known."
    return f"Mean ± standard deviation over {' or '.join(map(str, sorted(seeds)))} seeds."


def comparison() -> str:
    """Validation: accuracy of MDAN minus that of the flat model, with a paired interval."""
    lines = [
        [
            f"{row['level']} accuracy",
            "{:+.3f} ({:+.3f} to {:+.3f})".format(
                *(float(row[key]) for key in ("difference", "low", "high"))
            ),
            row["seeds"],
        ]
        for row in reversed(read("fi_validation_difference.csv"))
    ]
    return table(["", "`mdan_fi8_lite0` minus `flat_fi8_lite0`", "seeds"], lines)


def temperatures() -> str:
    """The temperatures of the recipes."""
    found = [f"{load_recipe(name).temperature:g} (`{name}`)" for name in MODELS]
    return f"Temperatures: {' and '.join(found)}."


def classes() -> str:
    """Validation: precision, recall and F1 of every emotion, and its most frequent confusion."""
    lines = []
    for row in read("fi_validation_classes.csv"):
        count, other = max((int(row[name]), name) for name in CLASSES if name != row["class"])
        scores = (f"{float(row[key]):.2f}" for key in ("precision", "recall", "f1"))
        lines.append([row["class"], row["images"], *scores, f"{other} ({count})"])
    head = ["emotion", "images", "precision", "recall", "F1", "most often mistaken for (images)"]
    return table(head, lines)


def confusions(shown: int = 6) -> str:
    """The most frequent confusions, as a list, and the share of those within a polarity."""
    found = [
        (int(row[other]), int(row["images"]), row["class"], other)
        for row in read("fi_validation_classes.csv")
        for other in CLASSES
        if other != row["class"]
    ]
    lines = [
        f"* {given} predicted as {other}: {count} of {images}"
        for count, images, given, other in sorted(found, reverse=True)[:shown]
    ]
    within = sum(count for count, _, *names in found if _polarity(names[0]) == _polarity(names[1]))
    errors = sum(count for count, *_ in found)
    lines.append(f"\n{within} of all {errors} errors are between emotions of the same polarity.")
    return "\n".join(lines)


def views() -> str:
    """Averages over several views: metrics, and the difference in accuracy to a single view."""
    measures = ACCURACIES | dict(list(CALIBRATION.items())[:2])
    lines = []
    for row in sorted(read("fi_views.csv"), key=lambda row: row["model"]):
        ends = ("emotion_accuracy_difference", "difference_low", "difference_high")
        gain = "{:+.3f} ({:+.3f} to {:+.3f})".format(*(float(row[end]) for end in ends))
        cells = (_cell(row, measure) for measure in measures)
        gain = "-" if row["views"] == "single" else gain
        lines.append([f"`{row['model']}`", f"`{row['views']}`", row["passes"], *cells, gain])
    head = [
        "model",
        "views",
        "computing time",
        *measures.values(),
        "difference in emotion accuracy",
    ]
    return table(head, lines)


def _polarity(emotion: str) -> str:
    return TREE.path(emotion)[0]


def generalisation() -> str:
    """Models on images of datasets or themes that they have not seen."""
    path = RESULTS / "generalisation.csv"
    return generalisation_of(read(path.name) if path.exists() else [])


def generalisation_of(rows: Sequence[Mapping[str, str]]) -> str:
    """Return one line per model and dataset; a measure without any value has no column."""
    if not rows:
        return "Not measured."
    cells: dict[tuple[str, ...], dict[str, str]] = {}
    for row in rows:
        key = (f"`{row['model']}`", row["trained_on"], row["dataset"], f"{int(row['images']):,}")
        value, low, high = (f"{float(row[end]):.3f}" for end in ("value", "low", "high"))
        cells.setdefault(key, {})[row["measure"]] = f"{value} ({low} to {high})"
    measures = list(dict.fromkeys([*GENERALISATION, *(row["measure"] for row in rows)]))
    measures = [name for name in measures if any(name in found for found in cells.values())]
    names = [GENERALISATION.get(name, name.replace("_", " ")) for name in measures]
    lines = [[*key, *(found.get(name, "-") for name in measures)] for key, found in cells.items()]
    return table(["", "trained on", "tested on", "images", *names], lines)
