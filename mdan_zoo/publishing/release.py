"""Releases, for `mdan-zoo release`: put trained weights into a checkout and its manifest."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mdan_zoo
from mdan_zoo._util.files import write_atomically
from mdan_zoo.errors import InputError
from mdan_zoo.publishing.publication import Publication
from mdan_zoo.publishing.publish import CODE_LICENCE, MANIFEST_FILE, check_weights, merged_manifest
from mdan_zoo.training.report import read_report
from mdan_zoo.weights.checkpoint import read_identity
from mdan_zoo.weights.hub_api import WEIGHTS_FILE
from mdan_zoo.weights.manifest import Licences
from mdan_zoo.zoo.configs import MODELS

CHECKOUT = Path(mdan_zoo.__file__).parents[1]
WEIGHTS_LICENCE = "Apache-2.0"
_FI = (
    "Photographs from Flickr and Instagram that belong to their authors, collected for research "
    "(FI; You, Luo, Jin and Yang, 2016)."
)
_OASIS = (
    "Photographs from Pixabay, Wikimedia, Flickr and free-image sites, each under its own terms; "
    "the authors of OASIS offer the images and ratings for research use online and offline."
)
_NO_IMAGES = "The package contains no images."
DATA_TERMS = {
    "OASIS": f"{_OASIS} {_NO_IMAGES}",
    "FI+OASIS": f"{_FI} {_OASIS} {_NO_IMAGES} Check whether weights trained on them suit your use.",
}
PROTOCOLS = {
    "OASIS": "5-fold cross-validation by theme, pooled folds; mean over seeds, standard deviation "
    "over seeds and folds",
    "FI+OASIS": "on 2,619 images of FI and 130 of OASIS that are not in the training data, without "
    "near-duplicates or themes of the training images; mean and standard deviation over seeds, of "
    "which the released weights are seed 0",
}
_HELD_OUT = ("FI+OASIS",)  # whose protocol says that the released weights are those of seed 0


def released_entry(run: Path, metrics: Path) -> tuple[str, dict[str, Any]]:
    """Return name and manifest entry of a run of `mdan-zoo train`."""
    path = run / WEIGHTS_FILE
    config, _ = read_identity(path)
    name = config.name
    if name not in MODELS or config.dataset not in DATA_TERMS.keys() & PROTOCOLS.keys():
        raise InputError(
            f"{path} cannot be released: its model {name} must be one of mdan_zoo.zoo.configs, and "
            f"its dataset {config.dataset} must be in DATA_TERMS and PROTOCOLS of {__name__}"
        )
    weights = check_weights(name, path)
    try:
        report = read_report(run)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the training report in {run}: {error}") from error
    if not isinstance(report, dict) or report.get("weights_sha256") != weights.sha256:
        raise InputError(f"the training report in {run} is not that of its {WEIGHTS_FILE}")
    if not report.get("command"):
        raise InputError(f"the training report in {run} must have the command of the training")
    seed = report.get("recipe", {}).get("seed")
    if config.dataset in _HELD_OUT and (seed != 0 or not report.get("test")):
        raise InputError(
            f"the run in {run} must have seed 0 and test results on images that it was not trained "
            f"on (--split), as the protocol of {config.dataset} says, not seed {seed} and "
            + ("test results" if report.get("test") else "no test results")
        )
    file = f"{name}.safetensors"
    publication = Publication(
        name,
        weights,
        Licences(CODE_LICENCE, WEIGHTS_LICENCE, DATA_TERMS[config.dataset]),
        report["command"],
        read_metrics(metrics, name, PROTOCOLS[config.dataset]),
    )
    source = {"type": "package", "path": f"weights/{file}"}
    return name, {**publication.entry(source, file), "training": report}


def read_metrics(path: Path, model: str, protocol: str) -> dict[str, Any]:
    """Return the rows of a summary, the model's branches and the controls, with its protocol."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [
                {
                    key: value if key in ("model", "branch") else _number(value)
                    for key, value in row.items()
                }
                for row in csv.DictReader(file)
            ]
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise InputError(f"cannot read the metrics {path}: {error}") from error
    if not any(row.get("model") == model for row in rows):
        raise InputError(f"{path} has no row of {model}")
    return {
        "protocol": protocol,
        "source": f"benchmarks/results/{path.name}",
        "rows": rows,
    }


def _number(text: str) -> int | float | None:
    value = float(text) if text else None  # raises for what a row too long ends with, a list
    return int(text) if value is not None and text.isdecimal() else value


def write_release(runs: Sequence[Path], metrics: Path, checkout: Path = CHECKOUT) -> None:
    """Copy the weights of runs into the package, and put their entries into the manifest.

    Each output folder of `mdan-zoo train` gets an entry with its hash, metrics and golden output;
    the entries of other models stay. Nothing is written unless every run can be released. `metrics`
    is the summary of their validation, a CSV file; `checkout` is the folder of the repository.

    Raises:
        InputError: `checkout` has no manifest, a run cannot be released, or `metrics` does not fit.
        CheckpointError: A checkpoint is missing, damaged, or not as its model is registered.
    """
    path = checkout / MANIFEST_FILE
    if not path.exists():
        raise InputError(f"a release needs a checkout of mdan-zoo, and there is no {path}")
    released = {run: released_entry(run, metrics) for run in runs}
    manifest = merged_manifest(path, dict(released.values()))
    for run, (name, _) in released.items():
        weights = (run / WEIGHTS_FILE).read_bytes()
        write_atomically(checkout / "mdan_zoo" / "weights" / f"{name}.safetensors", weights)
    write_atomically(path, manifest)
