"""The weights manifest: release status, sources, size and SHA-256 of the weights of every model.

MDAN_ZOO_MANIFEST names another manifest, by path or URL, whose entries take precedence over those
of `weights_manifest.json`. Needs no torch.
"""

from __future__ import annotations

import functools
import json
import math
import os
import warnings
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urljoin

from mdan_zoo.errors import ManifestError, without_secrets
from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.models.config import ModelConfig
from mdan_zoo.weights import manifest_fields as checks

T = TypeVar("T")

SCHEMA_VERSION = 1

MANIFEST_VARIABLE = "MDAN_ZOO_MANIFEST"
OFFLINE_VARIABLES = ("MDAN_ZOO_OFFLINE", "HF_HUB_OFFLINE")

URL_TIMEOUT = 20.0  # seconds for a whole manifest
MAX_URL_BYTES = 4 << 20

_PACKAGE = Path(__file__).parents[1]
_TOP_FIELDS = ("$schema", "schema_version", "models")
_PLAIN_FIELDS = ("status", "parameters", "command", "reason", "file", "size", "sha256")
_ENTRY_FIELDS = (*_PLAIN_FIELDS, "licences", "sources")
_TRUE = ("1", "ON", "YES", "TRUE")  # as huggingface_hub reads them


class ManifestWarning(UserWarning):
    """A manifest has fields that this version does not know; a newer one may."""


@dataclass(frozen=True)
class Licences:
    """Licences of this library and of the checkpoint, and terms of the training data."""

    code: str
    weights: str
    data: str


@dataclass(frozen=True)
class Source:
    """One place where a checkpoint is stored.

    `type` is "package" (`path` below the package), "huggingface" (`path` in the repository `repo`
    at the commit `revision`), "https" (`url`), "file" (`url`, file://), or "relative": `path`
    relative to `base`, the URL of the manifest's folder, https:// or file://, that ends in "/".
    """

    type: str
    path: str = ""
    repo: str = ""
    revision: str = ""
    url: str = ""
    base: str = ""

    def __str__(self) -> str:
        if self.type == "huggingface":
            return f"Hugging Face {self.repo}@{self.revision[:8]}/{self.path}"
        return without_secrets(f"{self.type} {self.base}{self.path}{self.url}".rstrip())


@dataclass(frozen=True)
class ManifestEntry:
    """The manifest entry of one model.

    Attributes:
        status: "released" or "unreleased".
        parameters: Number of trainable parameters.
        command: The command that trains the model.
        reason: Why there are no released weights; empty if there are.
        file, size, sha256: Name, size in bytes and full SHA-256 of the checkpoint.
        sources: Where to get it, in the order to try.
        details: The other fields of the manifest, such as config, hierarchy, metrics and golden;
            also unknown ones. Unknown fields of licences and sources are there under "licences" and
            "sources", the latter as a list with an object for each source.
    """

    name: str
    status: str
    parameters: int
    licences: Licences
    command: str
    reason: str = ""
    file: str = ""
    size: int = 0
    sha256: str = ""
    sources: tuple[Source, ...] = ()
    details: Mapping[str, Any] | None = None

    @property
    def released(self) -> bool:
        """Whether the model has released weights."""
        return self.status == "released"


def manifest_path() -> Path:
    """Return the manifest's path: in an installed package, or above the package in a checkout."""
    for folder in (_PACKAGE, _PACKAGE.parent):
        path = folder / "weights_manifest.json"
        if path.is_file():
            return path
    raise ManifestError(
        f"weights_manifest.json is missing; it must be in {_PACKAGE} or {_PACKAGE.parent}"
    )


def is_offline() -> bool:
    """Return whether MDAN_ZOO_OFFLINE or HF_HUB_OFFLINE forbids the use of the network."""
    return any(os.environ.get(name, "").upper() in _TRUE for name in OFFLINE_VARIABLES)


def load_manifest(path: str | Path | None = None) -> dict[str, ManifestEntry]:
    """Return the entries of a manifest by model name.

    By default that of the package and the one that MDAN_ZOO_MANIFEST names by path or https:// URL:
    an entry there replaces the package's entry of that name. Files are read at every call, a URL
    once in a process. With `path`, only that file is read. A `ManifestWarning` names unknown
    fields, which are kept in the `details` of the entry.

    Raises:
        ManifestError: The manifest is not available, is not JSON, or does not match
            `weights_manifest.schema.json`.
    """
    if path is not None:
        return _load_file(Path(path), str(path))
    builtin = manifest_path()
    entries = _load_file(builtin, str(builtin))
    if other := os.environ.get(MANIFEST_VARIABLE):
        is_url = "://" in other
        place = f"{without_secrets(other)} (named by {MANIFEST_VARIABLE})"
        entries.update(_load_url(other, place) if is_url else _load_file(Path(other), place))
    return entries


def _load_file(path: Path, place: str) -> dict[str, ManifestEntry]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ManifestError(f"cannot read the weights manifest {place}: {error}") from error
    # Resolved as the system does it: ".." after a link leads elsewhere than up in its name.
    folder = path.parent.resolve()
    return _parse(content, f"{folder.as_uri().rstrip('/')}/", place)


@functools.cache
def _load_url(url: str, place: str) -> dict[str, ManifestEntry]:
    if not checks.WEB_URL.accepts(url):
        raise ManifestError(f"{place} must be a path or {checks.WEB_URL.words}")
    if is_offline():
        raise ManifestError(
            f"cannot read the weights manifest {place}: {' or '.join(OFFLINE_VARIABLES)} forbids "
            "the use of the network; a path to a copy of it works offline"
        )
    from mdan_zoo._util.http import TransferError, fetch_bytes  # slow to import

    try:
        content = fetch_bytes(url, URL_TIMEOUT, MAX_URL_BYTES, private=True)
    except TransferError as error:
        raise ManifestError(f"cannot read the weights manifest {place}: {error}") from None
    return _parse(content, urljoin(url, "."), place)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a finite number")
    return value


def _parse(content: bytes, base: str, place: str) -> dict[str, ManifestEntry]:
    """Return the entries. `base` is the URL of the manifest's folder, `place` its name."""
    try:
        values = json.loads(content, parse_constant=_finite, parse_float=_finite)
        json.dumps(values, ensure_ascii=False).encode()  # fails on half a character
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"cannot read the weights manifest {place}: {error}") from error
    checks.check(values, checks.OBJECT, place)
    version = values.get("schema_version")
    if isinstance(version, bool) or version != SCHEMA_VERSION:
        raise ManifestError(
            f"{place} has schema version {checks.shown(version)}; this mdan_zoo reads "
            f"{SCHEMA_VERSION}"
        )
    if not isinstance(values.get("models"), Mapping):
        raise ManifestError(f"{place} has no object 'models'")
    checks.check_models(values["models"], place)
    _unknown(values, _TOP_FIELDS, place)
    return {
        name: _read_entry(name, entry, base, f"{place}: {name}")
        for name, entry in values["models"].items()
    }


def _read_entry(name: str, values: Mapping[str, Any], base: str, place: str) -> ManifestEntry:
    """Return an entry that `check_models` has accepted."""
    _unknown(values, checks.ENTRY_RULES, place)
    details = {field: value for field, value in values.items() if field not in _ENTRY_FIELDS}
    licences = values["licences"]
    if unknown := _unknown(licences, checks.LICENCE_FIELDS, f"{place}.licences"):
        details["licences"] = unknown
    sources = values.get("sources", [])
    known = ("type", *checks.SOURCE_FIELDS)
    extra = [_unknown(source, known, f"{place}.sources[{i}]") for i, source in enumerate(sources)]
    if any(extra):
        details["sources"] = extra
    return ManifestEntry(
        name=name,
        licences=Licences(**{field: licences[field] for field in checks.LICENCE_FIELDS}),
        sources=tuple(
            Source(
                **{field: source[field] for field in known if field in source},
                base=base if source["type"] == "relative" else "",
            )
            for source in sources
        ),
        details=details,
        **{field: values[field] for field in _PLAIN_FIELDS if field in values},
    )


def _unknown(values: Mapping[str, Any], known: Container[str], place: str) -> dict[str, Any]:
    """Return the fields that are not known, with a warning."""
    unknown = {field: value for field, value in values.items() if field not in known}
    if unknown:
        warnings.warn(
            f"{place} has fields that this version of mdan_zoo does not know: {', '.join(unknown)}",
            ManifestWarning,
            stacklevel=2,
        )
    return unknown


def config_of(entry: ManifestEntry) -> ModelConfig:
    """Return the config of an entry's checkpoint, or raise `ManifestError`.

    Its `name` may differ from the entry's: weights that were fine-tuned from a registered model
    keep that model's name.
    """
    return _read(entry, "config", ModelConfig.from_dict)


def hierarchy_of(entry: ManifestEntry) -> Hierarchy:
    """Return the hierarchy of an entry's checkpoint, or raise `ManifestError`."""
    return _read(entry, "hierarchy", Hierarchy.from_dict)


def _read(entry: ManifestEntry, field: str, parse: Callable[[Any], T]) -> T:
    place, details = f"the manifest's entry of {entry.name}", entry.details or {}
    if field not in details:
        raise ManifestError(f"{place} has no {field!r}; `mdan-zoo publish` writes one")
    try:
        return parse(details[field])
    except ValueError as error:  # InputError and HierarchyError
        raise ManifestError(f"{place}: {error}") from error
