"""Generalisation: every released model on images of datasets, or themes, that it has not seen.

    python benchmarks/generalisation.py --fi FOLDER --oasis FOLDER --runs DIR --fi-only RUN

The OASIS models predict the validation images of FI, at the level polarity; the FI models, the
networks of `validate_fi.py` in DIR that were trained without them, the validation images of FI and
of OASIS. RUN is an output folder of `mdan-zoo train mdan_fi8_lite0 --data FI=FOLDER --split
FI=DIR/FI.tsv`, or of flat_fi8_lite0: without OASIS, so it predicts all images of OASIS. The models
of 5-fold cross-validation on OASIS are those of `cross_validate_oasis.py`. Writes one row per
model, dataset and metric, with a 95 % bootstrap interval over images or themes; for the cross-
validation, the interval is the mean over seeds plus and minus two standard deviations over seeds.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from result_tables import read
from validate_fi import MODELS, RESULTS, VALIDATION, check_trained_on, find_splits, rounded, write

from mdan_zoo.datasets.splits import Split
from mdan_zoo.evaluation import evaluate, find_samples
from mdan_zoo.inference.predictor import Predictor
from mdan_zoo.training.report import read_report
from mdan_zoo.weights.hub_api import WEIGHTS_FILE

OASIS_MODELS = ("mdan_oasis4", "flat_oasis4")
MEASURES = (
    ("polarity", "accuracy"),
    ("polarity", "roc_auc"),
    ("emotion", "accuracy"),
    ("", "valence_r"),
    ("", "predicted_valence_r"),
    ("", "predicted_arousal_r"),
)
"""Levels and metrics; valence_r is the correlation of the probability of positive."""


def evaluated(model: str, trained_on: str, content: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the rows of one evaluation, given the content of its evaluation.json."""
    for score in content["scores"]:
        key = (score["level"], score["measure"])
        if score["branch"] == "overall" and key in MEASURES:
            yield {
                "model": model,
                "trained_on": trained_on,
                "dataset": content["dataset"],
                "images": content["images"],
                "measure": "_".join(filter(None, key)),
                **{name: rounded(score[name]) for name in ("value", "low", "high")},
            }


def without_oasis(run: Path, splits: dict[str, Path], oasis: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a network that was trained on FI alone."""
    report = read_report(run)
    if report["split_sha256"] != Split.load(splits["FI"]).sha256:
        raise SystemExit(f"{run} was trained on another split than {splits['FI']}")
    model, trained_on = report["recipe"]["model"], "other images of FI, without OASIS"
    content = json.loads((run / "test" / "evaluation.json").read_text(encoding="utf-8"))
    yield from evaluated(model, trained_on, content)
    predictor = Predictor(checkpoint=run / WEIGHTS_FILE, device="cpu")
    samples, source = find_samples("OASIS", oasis, predictor.hierarchy)
    yield from evaluated(model, trained_on, evaluate(predictor, samples, source=source).to_dict())


def cross_validated() -> Iterator[dict[str, Any]]:
    """Yield the rows of the cross-validation on OASIS."""
    for row in read("oasis_cross_validation_summary.csv"):
        if row["model"] not in OASIS_MODELS or row["branch"] != "overall":
            continue
        for name in ("polarity_accuracy", "valence_r", "arousal_r"):
            mean, sd = float(row[name]), float(row[f"{name}_sd_seeds"])
            yield {
                "model": row["model"],
                "trained_on": "other themes of OASIS",
                "dataset": "OASIS",
                "images": 661,
                "measure": name,
                "value": rounded(mean),
                "low": rounded(mean - 2 * sd),
                "high": rounded(mean + 2 * sd),
            }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--fi", type=Path, required=True)
    parser.add_argument("--oasis", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True, help="--runs of validate_fi.py")
    parser.add_argument("--seed", type=int, default=0, help="seed of the FI models")
    parser.add_argument("--output", type=Path, default=RESULTS / "generalisation.csv")
    parser.add_argument("--fi-only", type=Path, action="append", default=[], metavar="RUN")
    words = "that of validate_fi.py (default: %(default)s)"
    parser.add_argument("--validation", type=Path, default=VALIDATION, metavar="FILE", help=words)
    options = parser.parse_args(arguments)

    splits = find_splits(options.fi, options.oasis, options.runs, options.validation)
    rows = []
    for model in MODELS:
        run = options.runs / f"{model}_seed{options.seed}"
        if not (run / "test" / "OASIS" / "evaluation.json").is_file():
            raise SystemExit(f"{run} has no test results; validate_fi.py --runs writes them")
        check_trained_on(run, splits)
        for dataset in ("FI", "OASIS"):
            path = run / "test" / dataset / "evaluation.json"
            content = json.loads(path.read_text(encoding="utf-8"))
            rows += evaluated(model, "other images of FI and themes of OASIS", content)
    for run in options.fi_only:
        rows += without_oasis(run, splits, options.oasis)
    for model in OASIS_MODELS:
        predictor = Predictor(model, device="cpu")
        samples, source = find_samples(
            "FI", options.fi, predictor.hierarchy, split=Split.load(splits["FI"]), level="polarity"
        )
        content = evaluate(predictor, samples, source=source).to_dict()
        rows += evaluated(model, "OASIS", content)
    write(options.output, [*rows, *cross_validated()])


if __name__ == "__main__":
    main()
