"""The commands `mdan-zoo download`, `verify` and `cache`. Only `verify` imports torch."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mdan_zoo.cli.options import add_command
from mdan_zoo.errors import (
    CheckpointError,
    InputError,
    MdanZooError,
    UnknownNameError,
    WeightsUnavailableError,
    did_you_mean,
    mask_urls,
)
from mdan_zoo.weights import cache, fetch
from mdan_zoo.weights.manifest import ManifestEntry, load_manifest
from mdan_zoo.zoo.factory import released_entry

if TYPE_CHECKING:
    from mdan_zoo.inference.verification import WeightFile

_GOLDEN_TOLERANCE = 1e-3
"""Scores differ by about 1e-5 between machines; other weights or preprocessing differ by more."""


def add_parser(subparsers: Any) -> None:
    """Add `download`, `verify` and `cache` to the subcommands of `mdan-zoo`."""
    summary = "download released weights, for use without a network"
    add = add_command(subparsers, "download", _download, summary).add_argument
    add("names", nargs="*", metavar="NAME", help="model with released weights")
    add("--all", action="store_true", help="download every released model")
    summary = "verify checkpoints: size, SHA-256, tensors, and the prediction for a known image"
    add = add_command(subparsers, "verify", _verify, summary).add_argument
    default = "(default: every released model on this machine)"
    add("weights", nargs="*", metavar="NAME|FILE", help=f"model or checkpoint {default}")
    add("--repair", action="store_true", help="download damaged files again")
    cache = add_command(subparsers, "cache", _cache_list, "list or clear downloaded weights")
    actions = cache.add_subparsers(metavar="[ACTION]")
    add_command(actions, "list", _cache_list, "list downloaded files (the default)")
    add = add_command(actions, "clear", _cache_clear, "delete downloaded files").add_argument
    add("names", nargs="*", metavar="NAME", help="only files of these models")


def _download(options: argparse.Namespace) -> int:
    manifest = load_manifest()
    if bool(options.names) == options.all:
        raise InputError("give the names of models, or --all")
    names = options.names or [name for name, entry in manifest.items() if entry.released]
    for name in names:
        if name not in manifest:
            raise UnknownNameError(f"there is no model {name!r}; {did_you_mean(name, manifest)}")
    status = 0
    for name in names:
        try:
            entry = released_entry(name)
            print(f"{name}  {fetch.find_weights(entry)}  {entry.size:,} bytes")
        except MdanZooError as error:
            print(f"mdan-zoo: error: {error}", file=sys.stderr)
            status = 1
    return status


def _verify(options: argparse.Namespace) -> int:
    manifest = load_manifest()
    subjects = options.weights or [
        name for name, entry in manifest.items() if entry.released and _place(entry)
    ]
    status = 0
    for subject in subjects:
        try:
            print(_verified(subject, manifest, options.repair))
        except MdanZooError as error:
            print(mask_urls(f"{subject}  FAILED: {error}"), file=sys.stderr)
            status = 1
    return status


def _place(entry: ManifestEntry) -> Path | None:
    """Return the path of a model's checkpoint, or of whatever has its path in the cache."""
    cached = cache.cached_path(entry)
    return fetch.find_local(entry) or (cached if os.path.lexists(cached) else None)


def _verified(subject: str, manifest: Mapping[str, ManifestEntry], repair: bool) -> str:
    """Verify a model, a download or another checkpoint, and return the line to print."""
    from mdan_zoo.inference.verification import read_weight_file
    from mdan_zoo.weights.checkpoint import open_checkpoint
    from mdan_zoo.zoo.factory import create_model

    downloads = {str(cache.cached_path(e)): e for e in manifest.values() if e.released}
    entry = manifest.get(subject) or downloads.get(os.path.abspath(subject))
    if entry is None:
        return _verified_file(subject, manifest, repair)
    path: Path | None
    if repair:
        path = fetch.repair(released_entry(entry.name))
    elif subject in manifest:
        path = _place(released_entry(subject))
    else:
        path = cache.cached_path(entry)
    if path is None:
        raise WeightsUnavailableError(
            f"its weights are not on this machine; `mdan-zoo download {subject}` fetches them"
        )
    checkpoint = open_checkpoint(fetch.verify_file(path, entry))
    create_model(entry.name, checkpoint=checkpoint)  # a right file may be named for another model
    _check_golden(read_weight_file(checkpoint), entry)
    return f"{entry.name}  ok  {path}"


def _verified_file(subject: str, manifest: Mapping[str, ManifestEntry], repair: bool) -> str:
    """Verify a checkpoint that is not a download, and return the line to print."""
    from mdan_zoo.inference.verification import read_weight_file

    if not os.path.lexists(subject):
        raise UnknownNameError(
            f"there is neither a model nor a file {subject!r}; {did_you_mean(subject, manifest)}"
        )
    if repair:
        raise InputError(
            f"--repair is for models and their files in the cache; {subject} is neither, so its "
            "source is not known"
        )
    found = read_weight_file(subject)
    for entry in manifest.values():
        if entry.sha256 == found.sha256:
            _check_golden(found, entry)
            return f"{found.path}  ok: the released weights of {entry.name}"
    about = f"{found.config.name}, but not the released weights of any known model"
    return f"{found.path}  complete: {about}"


def _check_golden(weights: WeightFile, entry: ManifestEntry) -> None:
    """Compare the scores for a known image with the recorded ones, if there are any."""
    golden = (entry.details or {}).get("golden", {}).get("output")
    if golden is None:
        return
    try:
        error = max(
            abs(score - golden[level][label])
            for level, scores in weights.golden.items()
            for label, score in scores.items()
        )
    except (KeyError, TypeError) as problem:
        raise CheckpointError(
            f"the manifest's golden output of {entry.name} does not have the classes and "
            f"dimensions of {weights.path}"
        ) from problem
    if error > _GOLDEN_TOLERANCE:
        raise CheckpointError(
            f"{weights.path} gives scores for the known image that differ by up to {error:.4f} "
            "from the recorded ones, although its bytes are right: an installed library computes "
            "different values"
        )


def _cache_list(_: argparse.Namespace) -> int:
    files = cache.list_cache()
    for file in files:
        print(f"{file.model}  {file.state}  {file.size:,} bytes  {file.path}")
    if not files:
        print(f"the cache {cache.cache_folder()} is empty", file=sys.stderr)
    return 0


def _cache_clear(options: argparse.Namespace) -> int:
    known = {file.model for file in cache.list_cache()} if options.names else set()
    for name in options.names:
        if name not in known:
            there = f"it has {', '.join(sorted(known))}" if known else "it is empty"
            raise UnknownNameError(f"the cache has nothing of {name!r}; {there}")
    freed = cache.clear_cache(options.names or None)
    print(f"{freed:,} bytes freed in {cache.cache_folder()}")
    return 0
