"""The weights manifest, and from it the weight files.

`weights_manifest.json` says for every model whether weights are released, where they are and what
their bytes must be. This module finds and verifies files; it needs no torch. Loading them into a
network is `mdan_zoo.checkpoint`'s work.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mdan_zoo.errors import CheckpointError, ManifestError, WeightsUnavailableError

SCHEMA_VERSION = 1

_PACKAGE = Path(__file__).parent


@dataclass(frozen=True)
class Licences:
    """Three licences, because they are three things.

    Attributes:
        code: Of this library.
        weights: Of the weight file.
        data: Terms of the pictures and labels that the weights were trained on.
    """

    code: str
    weights: str
    data: str


@dataclass(frozen=True)
class ManifestEntry:
    """What the manifest says of one model.

    Attributes:
        name: The model's name.
        status: "released" or "unreleased".
        parameters: Number of trainable parameters.
        licences: Licences of code, weights and training data.
        command: The command that trains the model.
        reason: Why there are no released weights; empty if there are.
        file: Name of the weight file.
        size: Its size in bytes.
        sha256: Its full SHA-256, in hexadecimal.
        sources: Where to get it, in the order to try, such as {"type": "package", "path": ...}.
        details: The rest, as it stands in the manifest: training, metrics with their spread,
            input, hierarchy, library versions, golden input and output.
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
    sources: tuple[Mapping[str, str], ...] = ()
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
        f"weights_manifest.json is missing: it was looked for in {_PACKAGE} and {_PACKAGE.parent}"
    )


def load_manifest(path: Path | None = None) -> dict[str, ManifestEntry]:
    """Read a manifest.

    Args:
        path: The file; by default the one that comes with the package.

    Returns:
        The entries by model name.

    Raises:
        ManifestError: The file is missing, is not JSON, or is not a manifest of this version.
    """
    path = path or manifest_path()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ManifestError(f"cannot read the weights manifest {path}: {error}") from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA_VERSION:
        raise ManifestError(
            f"{path} has schema version {version!r}; this mdan_zoo reads {SCHEMA_VERSION}"
        )
    models = content.get("models")
    if not isinstance(models, dict):
        raise ManifestError(f"{path} has no object 'models'")
    return {name: _read_entry(name, values, path) for name, values in models.items()}


def _read_entry(name: str, values: Mapping[str, Any], path: Path) -> ManifestEntry:
    try:
        fields = {f: values[f] for f in ManifestEntry.__dataclass_fields__ if f in values}
        _check_types(fields)
        fields["licences"] = Licences(**values["licences"])
        fields["sources"] = tuple(values.get("sources", ()))
        fields["details"] = {k: v for k, v in values.items() if k not in fields}
        entry = ManifestEntry(**{**fields, "name": name})
    except (KeyError, TypeError) as error:
        raise ManifestError(f"{path}: the entry of {name} is malformed: {error}") from error
    needed = ("file", "size", "sha256", "sources") if entry.released else ("reason",)
    missing = [field for field in needed if not getattr(entry, field)]
    if entry.status not in ("released", "unreleased") or missing:
        raise ManifestError(
            f"{path}: the entry of {name} (status {entry.status!r}) lacks {', '.join(missing)}"
            if missing
            else f"{path}: {name} has status {entry.status!r}, not released or unreleased"
        )
    return entry


def _check_types(fields: Mapping[str, Any]) -> None:
    """Raise `TypeError` for a field that is not of the type that `ManifestEntry` has."""
    for field, value in fields.items():
        if field in ("size", "parameters") and type(value) is not int:
            raise TypeError(f"{field} is {value!r}, not a whole number")
        if field in ("status", "command", "reason", "file", "sha256") and type(value) is not str:
            raise TypeError(f"{field} is {value!r}, not a text")
    for source in fields.get("sources", ()):
        texts = isinstance(source, Mapping) and all(isinstance(v, str) for v in source.values())
        if not texts:
            raise TypeError(f"a source is {source!r}, not an object of texts")


def find_weights(entry: ManifestEntry) -> Path:
    """Return the path of a model's verified weight file.

    Args:
        entry: A released entry of the manifest.

    Raises:
        WeightsUnavailableError: No source of the entry has the file.
        CheckpointError: The file is there, but it is not the one that was released.
    """
    for source in entry.sources:
        path = _from_package(source) if source.get("type") == "package" else None
        if path is not None:
            verify_file(path, entry)
            return path
    raise WeightsUnavailableError(
        f"the weights of {entry.name} ({entry.file}) are in none of their sources: "
        + ", ".join(f"{source.get('type')} {source.get('path', '')}" for source in entry.sources)
    )


def _from_package(source: Mapping[str, str]) -> Path | None:
    path = _PACKAGE / source.get("path", "")
    return path if path.is_file() else None


def verify_file(path: Path, entry: ManifestEntry) -> None:
    """Raise `CheckpointError` unless the file has the size and SHA-256 of the entry."""
    size = path.stat().st_size
    if size != entry.size:
        raise CheckpointError(
            f"{path} has {size:,} bytes, the released {entry.file} has {entry.size:,}: "
            "the file is damaged; install mdan-zoo again"
        )
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    if digest.hexdigest() != entry.sha256:
        raise CheckpointError(
            f"{path} has SHA-256 {digest.hexdigest()}, the released {entry.file} has "
            f"{entry.sha256}: the file is damaged; install mdan-zoo again"
        )
