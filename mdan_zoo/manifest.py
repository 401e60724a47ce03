"""The weights manifest: for every model whether weights are released, where, and what they must be.

`weights_manifest.json` is the one truth about weight files. This module reads it and needs no
torch; `mdan_zoo.hub` finds and verifies the files that it names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mdan_zoo.errors import ManifestError

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
class Source:
    """One place where a weight file is.

    Attributes:
        type: "package" (`path` below the package), "huggingface" (`path` in the repository `repo`
            at the commit `revision`), "https" (`url`), "file" (`url`, file://), or "relative"
            (`path` beside the manifest that names it, whose own folder or address is `base`).
        path: See `type`; "/" separates folders.
        repo: Owner and name, such as "owner/name".
        revision: The commit, 40 hexadecimal digits: a branch could be moved to other weights.
        url: See `type`.
        base: Folder or address of the manifest, ending in "/".
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
        return f"{self.type} {self.base}{self.path}{self.url}"


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
        sources: Where to get it, in the order to try.
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
        fields["sources"] = tuple(Source(**source) for source in values.get("sources", ()))
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
