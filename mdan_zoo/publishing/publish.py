"""Publishing a checkpoint to a Hugging Face repository, or to a folder for any web server.

    publication = prepare("mdan_oasis4", "model.safetensors", licence="Apache-2.0")
    entry = publish_to_hub(publication, "OWNER/REPO")

Both return the manifest entry. Nothing is uploaded or written unless the checkpoint loads.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd

from mdan_zoo._util.files import remove_leftovers, write_atomically
from mdan_zoo._util.locks import process_lock
from mdan_zoo._util.numbers import is_number
from mdan_zoo.datasets.registry import OWN_IMAGES
from mdan_zoo.errors import CheckpointError, InputError, PublishingError, WeightsUnavailableError
from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.inference.verification import WeightFile, read_weight_file
from mdan_zoo.models.config import ModelConfig
from mdan_zoo.publishing.model_card import model_card
from mdan_zoo.publishing.publication import Publication
from mdan_zoo.training.report import read_report
from mdan_zoo.weights.cache import CACHE_VARIABLE, lock_file
from mdan_zoo.weights.checkpoint import Checkpoint, open_checkpoint
from mdan_zoo.weights.hub_api import (
    PUBLISHING_TIMEOUT,
    WEIGHTS_FILE,
    check_repo,
    find_hub,
    find_remote,
    hub_client,
)
from mdan_zoo.weights.manifest import SCHEMA_VERSION, Licences, load_manifest
from mdan_zoo.zoo.configs import REGISTERED

MANIFEST_FILE = "weights_manifest.json"
CODE_LICENCE = "Apache-2.0"
UNKNOWN_LICENCE = "unknown"
UNKNOWN_DATA_TERMS = "not stated; ask the publisher of the weights"
UNKNOWN_COMMAND = "not recorded"

_STAGING_PREFIX = ".publishing-"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,95}")


def check_weights(name: str, path: str | os.PathLike[str]) -> WeightFile:
    """Check that a checkpoint can be published under a name; return its description.

    The name is new, or that of a registered model, whose config and hierarchy the file must have.

    Raises:
        InputError: The name is not valid for a model.
        CheckpointError: The file is missing, damaged, not safetensors, or another model's.
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            f"a model's name has letters, digits, '_' and '-' only, such as mdan_fi8, not {name!r}"
        )
    checkpoint = open_checkpoint(path)
    if name in REGISTERED:
        _check_registered(REGISTERED[name], checkpoint)
    return read_weight_file(checkpoint)


def _check_registered(expected: ModelConfig, checkpoint: Checkpoint) -> None:
    config, hierarchy = checkpoint.config, checkpoint.hierarchy
    if config.name != expected.name:
        problem = f"belongs to the model {config.name}, not to {expected.name}"
    else:
        theirs, ours = config.to_dict(), expected.to_dict()
        differing = [f"{k} {theirs[k]!r}, not {ours[k]!r}" for k in ours if theirs[k] != ours[k]]
        if hierarchy != get_hierarchy(expected.hierarchy):
            sizes = "/".join(map(str, hierarchy.sizes))
            about = f"the hierarchy {hierarchy.name!r} ({sizes} classes)"
            differing.append(f"{about}, not {expected.hierarchy}")
        if not differing:
            return
        problem = f"is not {expected.name} as it is registered: it has {'; '.join(differing)}"
    raise CheckpointError(
        f"{checkpoint.path} {problem}; publish it under another name, such as my_model"
    )


def prepare(
    name: str,
    path: str | os.PathLike[str],
    *,
    licence: str | None = None,
    metrics: str | os.PathLike[str] | None = None,
    base_model: str = "",
) -> Publication:
    """Check a checkpoint, and collect its licences, command and metrics.

    A training.json of `mdan-zoo train` in the same folder provides the command and the metrics. For
    a name in the manifest, the terms of the training data and, if necessary, the command are taken
    from there; so are licence and metrics, unless given, if the file is the released one.

    Args:
        name: A registered model or a new name; see `check_weights`.
        path: The checkpoint.
        licence: Of the weights, such as "Apache-2.0".
        metrics: A JSON file {"protocol": how they were measured, "rows": [{"polarity_accuracy":
            0.75, ...}, ...]}, and "dataset" if it was not the one of the training.
        base_model: Hugging Face repository of the weights that the training started from.

    Raises:
        InputError: The name, the metrics or `base_model` is malformed.
        CheckpointError: See `check_weights`.
    """
    measured = None if metrics is None else read_metrics(metrics)
    if base_model:
        check_repo(base_model)
    weights = check_weights(name, path)
    command, recorded = _training_record(weights.path, weights.sha256)
    known = load_manifest().get(name)
    data, known_licence = UNKNOWN_DATA_TERMS, UNKNOWN_LICENCE
    if known is not None:
        data, command = known.licences.data, command or known.command
        if known.sha256 == weights.sha256:
            known_licence = known.licences.weights
            measured = measured or (known.details or {}).get("metrics")
    return Publication(
        name,
        weights,
        Licences(CODE_LICENCE, licence or known_licence, data),
        command or UNKNOWN_COMMAND,
        measured or recorded,
        base_model,
    )


def _training_record(weights: Path, sha256: str) -> tuple[str, dict[str, Any] | None]:
    """Return a checkpoint's training command ("" if unknown) and metrics on held-out images.

    A training.json of weights with another SHA-256, from an earlier training run, is ignored.
    """
    try:
        report = read_report(weights.parent)
    except (OSError, ValueError):
        return "", None
    if not isinstance(report, dict) or report.get("weights_sha256") != sha256:
        return "", None
    return str(report.get("command") or ""), _measured(report)


def _measured(report: Mapping[str, Any]) -> dict[str, Any] | None:
    if "splits" in report:  # several datasets: that of the first one with a test
        kinds = ("test", "cross_validation")
        tested = {kind: report.get(kind, {}) for kind in kinds}
        names = [name for name in report["splits"] if any(name in tested[kind] for kind in kinds)]
        if not names:
            return None
        name = names[0]
        found = {kind: tested[kind][name] for kind in kinds if name in tested[kind]}
        rest = {key: value for key, value in report.items() if key not in ("splits", *kinds)}
        report = {**rest, **report["splits"][name], **found, "dataset": name}
    split = f"{report['split']}, SHA-256 {report['split_sha256'][:16]}..."
    row: dict[str, Any] = {"branch": "overall"}
    if "cross_validation" in report:
        protocol = (
            f"Mean and standard deviation over the folds of {report['images']} images "
            f"({split}), one network per fold."
        )
        for level, values in report["cross_validation"]["accuracy"].items():
            row[f"{level}_accuracy"] = values["mean"]
            row[f"{level}_accuracy_sd_folds"] = values["sd"]
    elif "test" in report:
        test = report["test"]
        known = ""
        if test.get("trained_on") is None:
            known = "; whether the initial weights were trained on them is not known"
        elif test["trained_on"]:
            known = f"; the initial weights were trained on {test['trained_on']} of them"
        count = test.get("images", "the")  # earlier records have no count
        protocol = f"{count} held-out images ({split}), one training run{known}."
        row |= {f"{level}_accuracy": value for level, value in test["accuracy"].items()}
    else:
        return None
    dataset = "" if report["dataset"] in OWN_IMAGES else report["dataset"]
    return {"protocol": protocol, "dataset": dataset, "rows": [row]}


def read_metrics(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read measured values from a JSON file (see `prepare`); `InputError` if it is malformed."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the metrics {path}: {error}") from error
    fields = content if isinstance(content, dict) else {}
    rows = fields.get("rows")
    texts = [fields.get("protocol"), fields.get("dataset", "-")]
    are_texts = all(isinstance(text, str) and text for text in texts)
    if not are_texts or not isinstance(rows, list) or not rows or not all(map(_is_row, rows)):
        raise InputError(
            f'{path} is not {{"protocol": "how they were measured", "rows": [{{"polarity_accuracy":'
            " 0.75, ...}, ...]}: each row needs a finite number, and may have texts and null"
        )
    return fields


def _is_row(row: object) -> bool:
    values = list(row.values()) if isinstance(row, dict) else []
    numbers = [value for value in values if not isinstance(value, (str, type(None)))]
    return bool(numbers) and all(map(is_number, numbers))


def publish_to_hub(publication: Publication, repo: str, *, private: bool = False) -> dict[str, Any]:
    """Upload weights, config and model card to a Hugging Face repository, in one commit.

    Returns the manifest entry, whose source is pinned to the commit.

    The hub is the one that HF_ENDPOINT names; set it before Python starts, since huggingface_hub
    1.0 reads it at import. `repo` is OWNER/REPO, created if missing; with `private`, only a private
    one is used. An existing README.md is replaced.

    Raises:
        InputError: `repo`, the token or HF_ENDPOINT is malformed.
        CheckpointError: The checkpoint has changed since it was checked.
        PublishingError: The hub refuses, cannot be reached, would get the token unencrypted, or
            has other weights afterwards.
    """
    check_repo(repo)
    hub = find_hub()
    files = _files(publication, repo)
    operations = [CommitOperationAdd(path, content) for path, content in files.items()]
    with hub_client(hub, f"cannot publish {repo}") as api:
        api.create_repo(repo, private=private or None, exist_ok=True)
        # The hub ignores `private` for a repository that exists already.
        if private and not api.model_info(repo, timeout=PUBLISHING_TIMEOUT).private:
            raise PublishingError(
                f"the repository {repo} exists and is public; make it private in its settings, or "
                "leave out --private"
            )
        message = f"Publish {publication.name}"
        commit = api.create_commit(repo, operations, commit_message=message).oid
    source = {"type": "huggingface", "repo": repo, "revision": commit, "path": WEIGHTS_FILE}
    entry = publication.entry(source)
    try:
        remote = find_remote(repo, commit, use_cache=False)
    except WeightsUnavailableError as error:
        raise PublishingError(
            f"{repo} was published as commit {commit}, but this could not be checked: {error}. Its "
            f"manifest entry is\n{to_json(entry)}"
        ) from error
    if (remote.sources[0].revision, remote.sha256) != (commit, publication.weights.sha256):
        raise PublishingError(
            f"{hub}/{repo} at {commit} does not have the weights that were uploaded: "
            f"their SHA-256 is {publication.weights.sha256}, the hub says {remote.sha256}"
        )
    return entry


def publish_to_folder(publication: Publication, folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Write weights, config and model card to a folder that a web server can serve as it is.

    They go to NAME/SHA/, with SHA the first 16 digits of the SHA-256, so earlier weights of the
    same name stay. The folder's weights_manifest.json keeps the entries of other names.
    Publications of one machine and user wait for each other, and remove leftovers of killed ones.
    A missing folder is created. The source of the returned entry is relative to the manifest.

    Raises:
        InputError: `folder` is a file.
        ManifestError: The folder's manifest is malformed; nothing is written then.
        CheckpointError: The checkpoint has changed since it was checked.
        PublishingError: The cache cannot have a lock.
        OSError: The folder cannot be written; what was there before is unharmed.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--folder must be a folder, and {folder} is a file")
    files = _files(publication)
    place = f"{publication.name}/{publication.weights.sha256[:16]}"
    entry = publication.entry({"type": "relative", "path": f"{place}/{WEIGHTS_FILE}"})
    with _locked(folder):
        manifest = merged_manifest(folder / MANIFEST_FILE, {publication.name: entry})
        remove_leftovers(folder)
        for leftover in folder.glob(f"{_STAGING_PREFIX}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=_STAGING_PREFIX) as staging:
            target = folder / place
            version = Path(staging) / target.name
            version.mkdir()  # unlike `staging` readable for a web server
            for name, content in files.items():
                write_atomically(version / name, content)
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.exists():  # the same weights again, perhaps with another card
                for name in files:
                    (version / name).replace(target / name)
            else:  # all files or none
                version.rename(target)
        # Last: it must not name what is not there.
        write_atomically(folder / MANIFEST_FILE, manifest)
    return entry


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Wait for other publications into a folder. The lock is kept in the cache, not in it."""
    name = hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()[:16]
    path = lock_file(f"publish-{name}")
    with ExitStack() as stack:
        try:
            stack.enter_context(process_lock(path, f"publishes into {folder}"))
        except (OSError, NotImplementedError) as error:  # some file systems have no locks
            raise PublishingError(
                f"{path.parent} cannot have the lock of publications into {folder}: "
                f"{getattr(error, 'strerror', '') or error}; set {CACHE_VARIABLE} to another folder"
            ) from error
        yield


def _files(publication: Publication, repo: str = "") -> dict[str, bytes]:
    weights = publication.weights
    content = weights.path.read_bytes()
    if hashlib.sha256(content).hexdigest() != weights.sha256:
        raise CheckpointError(f"{weights.path} has changed since it was checked; publish it again")
    about = {"config": weights.config.to_dict(), "hierarchy": weights.hierarchy.to_dict()}
    return {
        WEIGHTS_FILE: content,
        "config.json": to_json(about).encode(),
        "README.md": model_card(publication, repo).encode(),
    }


def merged_manifest(path: Path, entries: Mapping[str, Any]) -> bytes:
    """Return the manifest at a path, which may be missing, with entries added or replaced."""
    content: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "models": {}}
    if path.exists():
        load_manifest(path)
        content = json.loads(path.read_bytes())
    content["models"].update(entries)
    return to_json(content).encode()


def to_json(content: object) -> str:
    """Return JSON as the manifest is written."""
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
