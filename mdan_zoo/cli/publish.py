"""The commands `mdan-zoo publish` and `release`. torch is imported only when they run."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from mdan_zoo.cli.options import FILE, FOLDER, add_command
from mdan_zoo.errors import InputError
from mdan_zoo.weights.hub_api import check_repo
from mdan_zoo.zoo.configs import REGISTERED


def add_parser(subparsers: Any) -> None:
    """Add `publish` and `release` to the subcommands of `mdan-zoo`."""
    parser = add_command(
        subparsers,
        "publish",
        _publish,
        "publish weights to the Hugging Face Hub or to a folder",
        "Verifies a checkpoint and publishes it with a model card, to a Hugging Face repository in "
        "one commit, or to a folder that any web server can serve. Prints the manifest entry.",
    )
    add = parser.add_argument
    add("name", metavar="NAME", help="name of a registered model, or a new name")
    add("--weights", required=True, **FILE, help="checkpoint to publish")
    target = parser.add_mutually_exclusive_group(required=True).add_argument
    target("--repo", metavar="OWNER/REPO", help="repository, created if missing")
    target("--folder", **FOLDER, help="folder, created if missing")
    licence = "licence of the weights, such as CC-BY-4.0 (required unless in the manifest)"
    add("--licence", metavar="NAME", help=licence)
    metrics = "JSON file with metrics for the model card (default: from training.json, if any)"
    add("--metrics", **FILE, help=metrics)
    add("--base-model", default="", metavar="OWNER/REPO", help="repository of the initial weights")
    private = "create the repository as private; do not upload to a public one"
    add("--private", action="store_true", help=private)
    summary = "for maintainers: copy trained weights into the package (run in a checkout)"
    details = "Copies checkpoints of training runs and updates weights_manifest.json."
    add = add_command(subparsers, "release", _release, summary, details).add_argument
    add("runs", type=Path, nargs="+", metavar="RUN", help="output folder of `mdan-zoo train`")
    metrics = "summary of the validation or cross-validation, written by a script in benchmarks/"
    add("--metrics", type=Path, required=True, metavar="CSV", help=metrics)


def _release(options: argparse.Namespace) -> int:
    from mdan_zoo.publishing.release import write_release

    write_release(options.runs, options.metrics)
    return 0


def _publish(options: argparse.Namespace) -> int:
    from mdan_zoo.publishing import publish

    name, repo, folder = options.name, options.repo, options.folder
    if options.private and folder:
        raise InputError("--private applies to --repo; a web server decides who reads a folder")
    if repo is not None:
        check_repo(repo)
    publication = publish.prepare(
        name,
        options.weights,
        licence=options.licence,
        metrics=options.metrics,
        base_model=options.base_model,
    )
    if publication.licences.weights == publish.UNKNOWN_LICENCE and options.licence is None:
        raise InputError(
            "give the licence of the weights, such as --licence CC-BY-4.0, or --licence unknown; "
            "without one, users do not know what is allowed"
        )
    notes = []
    if name not in REGISTERED:
        notes.append(
            f"{name} is not a registered model; it is published as a new model whose config is "
            f"that of {publication.weights.config.name}"
        )
    if publication.metrics is None:
        notes.append("no metrics found (see --metrics): the model card says 'not measured'")
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    if repo is not None:
        entry = publish.publish_to_hub(publication, repo, private=options.private)
        where = f"{repo} at commit {entry['sources'][0]['revision']}"
    else:
        entry = publish.publish_to_folder(publication, folder)
        where = f"{folder}; set MDAN_ZOO_MANIFEST to its {publish.MANIFEST_FILE}"
    print(publish.to_json(entry), end="")
    print(f"published {name} in {where}", file=sys.stderr)
    return 0
