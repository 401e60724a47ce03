"""Validation of mdan_fi8_lite0 and flat_fi8_lite0 on images of FI and OASIS kept out of training.

    python benchmarks/validate_fi.py --fi FOLDER --oasis FOLDER --backbone-weights FILE --runs DIR

Both models are trained with their recipes and several seeds on the images of FI that are not in
`splits/fi_validation.sha256` and on four of five folds of the themes of OASIS; training that is
complete in DIR is not repeated, and interrupted training is resumed. With `--teacher-predictions`
they are trained with distillation, in another DIR. The controls are the majority
class and logistic regression on the pooled features of the frozen backbone, with regularisation
selected within the training images of FI. Writes

* `fi_validation.csv`: the metrics of every model, branch and seed; "calibrated_error" is the
  expected calibration error with temperatures: each half of the images has the one with the lowest
  negative log likelihood of the other half;
* `fi_validation_summary.csv`: mean and standard deviation over seeds;
* `fi_validation_difference.csv`: accuracy of MDAN minus that of the flat model, by level, with a
  95 % bootstrap interval over images, paired by image and averaged over seeds. Not written if
  `--models` names only one of the two.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from mdan_zoo.backbones.pyramid import build_backbone, pretrained_backbone
from mdan_zoo.datasets.file_index import FileIndex
from mdan_zoo.datasets.registry import read_dataset
from mdan_zoo.datasets.split_methods import make_split
from mdan_zoo.datasets.splits import Split, image_names, select
from mdan_zoo.evaluation.metrics import LEVEL_MEASURES, Outcomes, paired_intervals
from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.images.load import ImageOptions, load_image
from mdan_zoo.images.preprocessing import Preprocessing
from mdan_zoo.training import TrainingConfig, train
from mdan_zoo.training.backbone_weights import load_backbone_weights
from mdan_zoo.training.recipe import load_recipe
from mdan_zoo.training.report import read_report
from mdan_zoo.zoo.factory import get_config

HERE = Path(__file__).parent
RESULTS = HERE / "results"
VALIDATION = HERE / "splits" / "fi_validation.sha256"
MODELS = ("flat_fi8_lite0", "mdan_fi8_lite0")
CONTROLS = ("majority class", "frozen features + logistic regression")
TREE = get_hierarchy("mikels8")
RESAMPLES = 10_000
FI_MEASURES = {
    "polarity_accuracy": ("polarity", "accuracy"),
    "emotion_accuracy": ("emotion", "accuracy"),
    "emotion_balanced_accuracy": ("emotion", "balanced_accuracy"),
    "negative_log_likelihood": ("emotion", "negative_log_likelihood"),
    "calibration_error": ("emotion", "calibration_error"),
}
OASIS_MEASURES = {
    "oasis_polarity_accuracy": ("polarity", "accuracy"),
    "oasis_polarity_auc": ("polarity", "roc_auc"),
    "oasis_valence_r": ("", "predicted_valence_r"),
    "oasis_arousal_r": ("", "predicted_arousal_r"),
    "oasis_positive_r": ("", "valence_r"),
}
MEASURES = (*FI_MEASURES, "calibrated_error", *OASIS_MEASURES)

Floats = npt.NDArray[np.float64]


def find_splits(
    fi: Path, oasis: Path, folder: Path, validation: Path = VALIDATION
) -> dict[str, Path]:
    """Write the splits of both datasets, with the parts train and test; return their files.

    `validation` lists the hashes of the images of FI that are the test part.
    """
    samples = read_dataset("FI", fi, TREE)
    hashes = FileIndex().sha256s([sample.image for sample in samples])
    held_out = {line.partition(" ")[0] for line in validation.read_text().splitlines()}
    if missing := held_out - set(hashes):
        raise SystemExit(f"{len(missing)} of the {len(held_out)} validation images are not in {fi}")
    base = fi / "emotion_dataset"
    if not base.is_dir():
        raise SystemExit(f"{fi} must contain the folder emotion_dataset, with one for each class")
    parts: dict[str, list[str]] = {"train": [], "test": []}
    for name, sha256 in zip(image_names(samples, base), hashes, strict=True):
        parts["test" if sha256 in held_out else "train"].append(name)
    method = "85/15 by near-duplicate group, seed 0"
    splits = {"FI": Split.from_parts("FI", method, base.name, parts)}

    rated = read_dataset("OASIS", oasis, TREE)
    folds = make_split("OASIS", rated, oasis, "grouped-5-fold")
    training = [name for part, names in folds.parts if part != "0" for name in names]
    parts = {"train": training, "test": list(folds.images("0"))}
    method = "grouped-5-fold, seed 0: fold 0 is the test part"
    splits["OASIS"] = Split.from_parts("OASIS", method, folds.folder, parts)

    folder.mkdir(parents=True, exist_ok=True)
    for name, split in splits.items():
        split.save(folder / f"{name}.tsv")
        print(f"{name}: split {split.sha256}", flush=True)
    return {name: folder / f"{name}.tsv" for name in splits}


def train_model(
    model: str, seed: int, options: argparse.Namespace, splits: Mapping[str, Path]
) -> Path:
    """Train a model, unless that is done; return the folder of its test results."""
    output: Path = options.runs / f"{model}_seed{seed}"
    recipe = load_recipe(model, [f"seed={seed}", "temperature=1", *options.changes])
    if not (output / "test" / "OASIS" / "evaluation.json").is_file():
        data = {"FI": options.fi, "OASIS": options.oasis}
        weights = options.backbone_weights
        train(
            TrainingConfig(
                recipe,
                data,
                output,
                split=splits,
                backbone_weights=weights,
                teacher_predictions=options.teacher_predictions,
                channels_last=True,
                workers=0,
            )
        )
    check_trained_on(output, splits)
    report = read_report(output)
    if (taught := report["command"].count("--teacher-predictions")) != len(
        options.teacher_predictions
    ):
        raise SystemExit(f"{output} was trained with the predictions of {taught} teachers")
    trained = report["recipe"]
    for name, value in dataclasses.asdict(recipe).items():
        if None not in (value, trained.get(name)) and trained[name] != value:
            raise SystemExit(f"{output} was trained with {name}={trained[name]}, not {value}")
    return output / "test"


def check_trained_on(output: Path, splits: Mapping[str, Path]) -> None:
    """Refuse the results of an earlier training on other parts of the datasets."""
    recorded = read_report(output)["splits"]
    for name, path in splits.items():
        if recorded[name]["split_sha256"] != Split.load(path).sha256:
            raise SystemExit(f"{output} was trained on another split of {name} than {path}")


def rows_of(model: str, seed: int, folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the metrics of every branch of a model, from its test results."""
    scores = {}
    for dataset in ("FI", "OASIS"):
        content = json.loads((folder / dataset / "evaluation.json").read_text(encoding="utf-8"))
        for score in content["scores"]:
            key = (dataset, score["branch"], score["level"], score["measure"])
            scores[key] = score["value"]
    stored = np.load(folder / "FI" / "probabilities.npz")
    for branch in dict.fromkeys(branch for _, branch, _, _ in scores):
        row = {"model": model, "branch": branch, "seed": seed}
        for dataset, measures in (("FI", FI_MEASURES), ("OASIS", OASIS_MEASURES)):
            for name, (level, measure) in measures.items():
                row[name] = rounded(scores.get((dataset, branch, level, measure)))
        yield row | {"calibrated_error": rounded(calibrated_error(stored, branch))}


def control_row(model: str, emotion: Floats, labels: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Return the metrics of a control, given its probabilities of the emotions, (N, 8)."""
    levels = (emotion @ np.array(TREE.membership(0)).T, emotion)
    row: dict[str, Any] = {"model": model, "branch": "overall", "seed": 0}
    for name, (level, measure) in FI_MEASURES.items():
        number = TREE.level_names.index(level)
        row[name] = rounded(measured(measure, Outcomes.of(levels[number], labels[:, number])))
    return row


def measured(measure: str, outcomes: Outcomes) -> float:
    return float(LEVEL_MEASURES[measure](outcomes, np.ones((1, len(outcomes.labels))))[0])


def calibrated_error(stored: Mapping[str, Any], branch: str) -> float:
    """Return the calibration error of the emotions with a temperature fitted on other images."""
    labels = stored["labels_emotion"]
    half = np.random.default_rng(0).permutation(len(labels)) % 2 == 0
    found = [tempered(stored, branch, t) for t in np.geomspace(0.4, 2.5, 47)]
    calibrated = np.empty_like(found[0])
    for fitted in (half, ~half):
        likelihoods = [
            measured("negative_log_likelihood", Outcomes.of(p[fitted], labels[fitted]))
            for p in found
        ]
        calibrated[~fitted] = found[int(np.argmin(likelihoods))][~fitted]
    return measured("calibration_error", Outcomes.of(calibrated, labels))


def tempered(stored: Mapping[str, Any], branch: str, temperature: float) -> Floats:
    """Return the probabilities of the emotions with the logits divided by a temperature, (N, 8)."""

    def one(name: str) -> Floats:
        return scaled(stored[f"{name}_emotion"], temperature)

    if f"{branch}_emotion" in stored:
        return one(branch)
    if "local_emotion" not in stored:
        return one("global")
    alpha = float(stored["alpha"])
    return alpha * one("local") + (1 - alpha) * one("global")


def scaled(probabilities: npt.NDArray[np.floating], temperature: float) -> Floats:
    """Return the probabilities of one softmax with the logits divided by a temperature, (N, K)."""
    powers: Floats = probabilities.astype(np.float64) ** (1 / temperature)
    result: Floats = powers / powers.sum(axis=1, keepdims=True)
    return result


def correct(folder: Path, level: str) -> npt.NDArray[np.bool_]:
    """Return whether the class of every validation image of FI is predicted correctly, (N,)."""
    stored = np.load(folder / "FI" / "probabilities.npz")
    if f"local_{level}" in stored:
        alpha = float(stored["alpha"])
        found = alpha * stored[f"local_{level}"] + (1 - alpha) * stored[f"global_{level}"]
    else:
        found = stored[next(n for n in (f"overall_{level}", f"global_{level}") if n in stored)]
    result: npt.NDArray[np.bool_] = found.argmax(axis=1) == stored[f"labels_{level}"]
    return result


def differences(tests: Mapping[tuple[str, int], Path], seeds: Sequence[int]) -> Iterator[Any]:
    """Yield the accuracy of MDAN minus that of the flat model, by level."""
    flat, mdan = MODELS
    for level in TREE.level_names:
        by_seed = [
            correct(tests[mdan, seed], level).astype(float) - correct(tests[flat, seed], level)
            for seed in seeds
        ]
        difference = np.mean(by_seed, axis=0)
        ((low, high),) = paired_intervals(difference[None], range(len(difference)), RESAMPLES)
        yield {
            "level": level,
            "seeds": len(seeds),
            "difference": rounded(difference.mean()),
            "low": rounded(low),
            "high": rounded(high),
            "by_seed": " ".join(f"{values.mean():+.4f}" for values in by_seed),
        }


@torch.inference_mode()
def controls(options: argparse.Namespace, split: Path) -> Iterator[dict[str, Any]]:
    """Yield the metrics of the majority class and of the frozen backbone's features."""
    config = get_config("flat_fi8_lite0")
    if options.backbone_weights is None:
        backbone, _ = pretrained_backbone(config.backbone, config.input)
    else:
        backbone, _ = build_backbone(config.backbone, config.input.crop)
        load_backbone_weights(backbone, config.backbone, options.backbone_weights)
    backbone.eval()
    samples = read_dataset("FI", options.fi, TREE)
    test = np.zeros(len(samples), dtype=bool)
    test[select(Split.load(split), samples, options.fi, "test")] = True
    labels = np.array([sample.labels for sample in samples])
    preprocessing, shrink = Preprocessing(config.input), ImageOptions(shrink_to=config.input.resize)
    features = []
    for start in tqdm(range(0, len(samples), 32), desc="frozen features"):
        images = [load_image(s.image, shrink) for s in samples[start : start + 32]]
        pixels = preprocessing.normalise(torch.stack([preprocessing.crop(i) for i in images]))
        features.append(list(backbone(pixels))[-1].mean(dim=(2, 3)).numpy())
    pooled = np.concatenate(features)
    search = GridSearchCV(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)),
        {"logisticregression__C": [0.0003, 0.001, 0.003, 0.01]},
        cv=3,
        scoring="neg_log_loss",
    )
    search.fit(pooled[~test], labels[~test, 1])
    print(f"logistic regression: {search.best_params_}", flush=True)
    shares = np.bincount(labels[~test, 1], minlength=8) / (~test).sum()
    found = (np.tile(shares, (test.sum(), 1)), search.predict_proba(pooled[test]))
    for model, emotion in zip(CONTROLS, found, strict=True):
        yield control_row(model, emotion, labels[test])


def summarise(rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield mean and standard deviation over seeds, by model and branch."""
    for model, branch in dict.fromkeys((row["model"], row["branch"]) for row in rows):
        mine = [row for row in rows if (row["model"], row["branch"]) == (model, branch)]
        summary: dict[str, Any] = {"model": model, "branch": branch, "seeds": len(mine)}
        for name in MEASURES:
            values = [row[name] for row in mine if row.get(name) not in (None, "")]
            summary[name] = rounded(statistics.mean(values)) if values else ""
            several = len(values) > 1
            summary[f"{name}_sd_seeds"] = rounded(statistics.stdev(values)) if several else ""
        yield summary


def rounded(value: float | None) -> float | str:
    return "" if value is None else round(float(value), 4)


def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        fields = list(dict.fromkeys(name for row in rows for name in row))
        writer = csv.DictWriter(file, fields, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--fi", type=Path, required=True)
    parser.add_argument("--oasis", type=Path, required=True)
    parser.add_argument("--backbone-weights")
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS, metavar="NAME")
    parser.add_argument(
        "--teacher-predictions", type=Path, action="append", default=[], metavar="FILE"
    )
    parser.add_argument("--set", dest="changes", action="append", default=[])
    parser.add_argument("--output", type=Path, default=RESULTS / "fi_validation")
    words = "lines whose first word is the SHA-256 of a validation image (default: %(default)s)"
    parser.add_argument("--validation", type=Path, default=VALIDATION, metavar="FILE", help=words)
    options = parser.parse_args(arguments)

    splits = find_splits(options.fi, options.oasis, options.runs, options.validation)
    rows = list(controls(options, splits["FI"]))
    tests = {}
    for seed in options.seeds:
        for model in options.models:
            tests[model, seed] = train_model(model, seed, options, splits)
            rows += rows_of(model, seed, tests[model, seed])
            print(*rows[-3:], sep="\n", flush=True)
    rows.sort(key=lambda row: (*CONTROLS, *MODELS).index(row["model"]))
    output: Path = options.output
    output.parent.mkdir(parents=True, exist_ok=True)
    write(output.with_suffix(".csv"), rows)
    write(output.with_name(f"{output.name}_summary.csv"), list(summarise(rows)))
    if set(options.models) == set(MODELS):
        compared = list(differences(tests, options.seeds))
        write(output.with_name(f"{output.name}_difference.csv"), compared)


if __name__ == "__main__":
    main()
