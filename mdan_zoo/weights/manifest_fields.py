"""Validation of manifest entries, for `load_manifest`.

`weights_manifest.schema.json` states the same rules for other tools; a test holds the two together.
Every function raises `ManifestError` with the place of the error, such as
manifest.json: mdan_fi8.sources[0].path.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mdan_zoo.errors import ManifestError, did_you_mean

REQUIRED_FIELDS = ("status", "parameters", "command", "licences")
WEIGHT_FIELDS = ("file", "size", "sha256", "sources")
ENTRY_FIELDS = (*REQUIRED_FIELDS, "reason", *WEIGHT_FIELDS)
DETAIL_OBJECTS = ("config", "training", "metrics", "input", "hierarchy", "libraries", "golden")
# The SHA-256 identifies a file; the version of the weights is for people to read.
DETAIL_FIELDS = (*DETAIL_OBJECTS, "version")
LICENCE_FIELDS = ("code", "weights", "data")
SOURCE_FIELDS = ("path", "repo", "revision", "url")


@dataclass(frozen=True)
class _Rule:
    """What a text must be: a regular expression for all of it, and the same in words."""

    pattern: str
    words: str

    def check(self, value: object, place: str) -> None:
        if not isinstance(value, str) or re.fullmatch(self.pattern, value) is None:
            raise ManifestError(f"{place} is {shown(value)}; it must be {self.words}")


# One portable name is at most 255 bytes long, and neither "..", nor "C:", nor in need of quoting
# in a URL.
_PART = "[A-Za-z0-9_][A-Za-z0-9._-]{0,254}"
_PART_WORDS = (
    "1 to 255 letters (a-z), digits, '.', '_' and '-' that begin with a letter, digit or '_'"
)
_NAME = _Rule(_PART, _PART_WORDS)
_PATH = _Rule(
    rf"{_PART}(/{_PART})*",
    f"a relative path such as 'weights/model.safetensors', each part of it {_PART_WORDS}",
)
_REPO = _Rule(rf"{_PART}/{_PART}", f"'owner/name', each {_PART_WORDS}")
_COMMIT = _Rule(
    "[0-9a-f]{40}", "a commit of 40 lowercase hexadecimal digits; a branch could be moved"
)
_WEB_URL = _Rule(
    r"(https://[A-Za-z0-9._-]+|http://(localhost|127\.0\.0\.1|\[::1\]))(:[0-9]{1,5})?"
    r"([/?#][!-~]*)?",
    "an https:// URL (http:// for localhost, 127.0.0.1 and [::1] only), percent-encoded and "
    "without a user name",
)
_FILE_URL = _Rule(
    "file:///(?!.*%00)[!-~]+",
    "file:// with an absolute, percent-encoded path, such as 'file:///srv/model.safetensors'",
)
_TEXT = _Rule(r"[\s\S]*", "a text")

_ENTRY_TEXTS = {
    "status": _Rule("released|unreleased", "'released' or 'unreleased'"),
    "command": _TEXT,
    "reason": _TEXT,
    "file": _Rule(
        r"[A-Za-z0-9_][A-Za-z0-9._-]{0,242}\.safetensors",
        f"one name that ends in '.safetensors': {_PART_WORDS}",
    ),
    "sha256": _Rule("[0-9a-f]{64}", "64 lowercase hexadecimal digits"),
    "version": _TEXT,
}

_SOURCE_TYPES = {
    "package": {"path": _PATH},
    "huggingface": {"repo": _REPO, "revision": _COMMIT, "path": _PATH},
    "https": {"url": _WEB_URL},
    "file": {"url": _FILE_URL},
    "relative": {"path": _PATH},
}


def shown(value: object) -> str:
    """Return a value as a message shows it: not more than the beginning of a long one."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def without_secrets(url: str) -> str:
    """Return a URL without user name, password, query and fragment, to be shown."""
    return re.sub("//[^/]*@", "//", re.split("[?#]", url)[0])


def is_web_url(url: str) -> bool:
    """Tell whether a URL is https, or http on this machine, and has no user name in it."""
    return re.fullmatch(_WEB_URL.pattern, url) is not None


def check_web_url(url: str, place: str) -> None:
    """Check a URL that may hold secrets: `place` alone says which."""
    if not is_web_url(url):
        raise ManifestError(f"{place} must be a path or {_WEB_URL.words}")


def check_models(models: Mapping[str, Any], place: str) -> None:
    """Check the entries of a manifest, and their names."""
    for name, values in models.items():
        _NAME.check(name, f"{place}: a model's name")
        _check_entry(values, f"{place}: {name}")


def as_object(value: object, place: str) -> Mapping[str, Any]:
    """Return a JSON object as it is."""
    if not isinstance(value, Mapping):
        raise ManifestError(f"{place} is {shown(value)}; it must be an object")
    return value


def _check_entry(values: object, place: str) -> None:
    values = as_object(values, place)
    _check_present(values, REQUIRED_FIELDS, place)
    for field, rule in _ENTRY_TEXTS.items():
        if field in values:
            rule.check(values[field], f"{place}.{field}")
    for field in ("parameters", "size"):
        _check_count(values.get(field, 1), f"{place}.{field}")
    _check_licences(values["licences"], f"{place}.licences")
    _check_sources(values.get("sources", []), f"{place}.sources")
    for field in DETAIL_OBJECTS:
        as_object(values.get(field, {}), f"{place}.{field}")
    _check_rows(values.get("metrics", {}).get("rows", []), f"{place}.metrics.rows")
    needed = WEIGHT_FIELDS if values["status"] == "released" else ("reason",)
    present = {field: value for field, value in values.items() if value not in ("", [])}
    _check_present(present, needed, f"{place} (status {values['status']!r})")


def _check_rows(rows: object, place: str) -> None:
    if not isinstance(rows, list):
        raise ManifestError(f"{place} is {shown(rows)}; it must be a list of objects")
    for i, row in enumerate(rows):
        as_object(row, f"{place}[{i}]")


def _check_present(values: Mapping[str, Any], fields: Iterable[str], place: str) -> None:
    missing = [field for field in fields if field not in values]
    if missing:
        raise ManifestError(f"{place} lacks {', '.join(missing)}")


def _check_count(value: object, place: str) -> None:
    # Not isinstance: True is an int too.
    if type(value) is not int or value < 1:
        raise ManifestError(f"{place} is {shown(value)}; it must be a whole number above 0")


def _check_licences(values: object, place: str) -> None:
    values = as_object(values, place)
    _check_present(values, LICENCE_FIELDS, place)
    for field in LICENCE_FIELDS:
        _TEXT.check(values[field], f"{place}.{field}")


def _check_sources(sources: object, place: str) -> None:
    if not isinstance(sources, list):
        raise ManifestError(f"{place} is {shown(sources)}; it must be a list of objects")
    for i, source in enumerate(sources):
        _check_source(source, f"{place}[{i}]")


def _check_source(values: object, place: str) -> None:
    values = as_object(values, place)
    _check_present(values, ("type",), place)
    kind = values["type"]
    if not isinstance(kind, str) or kind not in _SOURCE_TYPES:
        hint = did_you_mean(str(kind), _SOURCE_TYPES)
        raise ManifestError(f"{place}.type is {shown(kind)}; {hint}")
    rules = _SOURCE_TYPES[kind]
    for field in SOURCE_FIELDS:
        if field in values and field not in rules:
            raise ManifestError(
                f"{place}.{field} is {shown(values[field])}; a source of type {kind!r} has only "
                + ", ".join(rules)
            )
    _check_present(values, rules, f"{place} (type {kind!r})")
    for field, rule in rules.items():
        rule.check(values[field], f"{place}.{field}")
