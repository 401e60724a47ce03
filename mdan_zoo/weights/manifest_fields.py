"""Validation of manifest entries, for `load_manifest`.

`weights_manifest.schema.json` states the same rules for other tools; a test compares the two.
Every error is a `ManifestError` with its place, such as manifest.json: mdan_fi8.sources[0].path.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from mdan_zoo.errors import ManifestError, did_you_mean

LICENCE_FIELDS = ("code", "weights", "data")
SOURCE_FIELDS = ("path", "repo", "revision", "url")
_REQUIRED_FIELDS = ("status", "parameters", "command", "licences")
_WEIGHT_FIELDS = ("file", "size", "sha256", "sources")
_DETAILS = ("config", "training", "metrics", "input", "hierarchy", "libraries", "golden")


class _Rule(NamedTuple):
    """What a value must be, as a function and in words."""

    accepts: Callable[[Any], bool]
    words: str


def _text(pattern: str, words: str) -> _Rule:
    """Return the rule for a string that a regular expression matches as a whole."""
    return _Rule(lambda v: isinstance(v, str) and re.fullmatch(pattern, v) is not None, words)


# One portable name is at most 255 bytes long, and neither "..", nor "C:", nor in need of quoting
# in a URL.
NAME = "[A-Za-z0-9_][A-Za-z0-9._-]{0,254}"
_PART_WORDS = (
    "1 to 255 letters (a-z), digits, '.', '_' and '-' that begin with a letter, digit or '_'"
)
_PATH = _text(
    rf"{NAME}(/{NAME})*",
    f"a relative path such as 'weights/model.safetensors', each part of it {_PART_WORDS}",
)
WEB_URL = _text(
    r"(https://[A-Za-z0-9._-]+|http://(localhost|127\.0\.0\.1|\[::1\]))(:[0-9]{1,5})?"
    r"([/?#][!-~]*)?",
    "an https:// URL (http:// for localhost, 127.0.0.1 and [::1] only), percent-encoded and "
    "without a user name",
)
_TEXT = _Rule(lambda v: isinstance(v, str), "a text")
OBJECT = _Rule(lambda v: isinstance(v, Mapping), "an object")
_LIST = _Rule(lambda v: isinstance(v, list), "a list of objects")
_COUNT = _Rule(lambda v: type(v) is int and v >= 1, "a whole number above 0")  # True is an int too

ENTRY_RULES = {  # by the name of the field; no others are known
    "status": _text("released|unreleased", "'released' or 'unreleased'"),
    "parameters": _COUNT,
    "command": _TEXT,
    "licences": OBJECT,
    "reason": _TEXT,
    "file": _text(
        r"[A-Za-z0-9_][A-Za-z0-9._-]{0,242}\.safetensors",
        f"one name that ends in '.safetensors': {_PART_WORDS}",
    ),
    "size": _COUNT,
    "sha256": _text("[0-9a-f]{64}", "64 lowercase hexadecimal digits"),
    "sources": _LIST,
    "version": _TEXT,  # of the weights, for people; the SHA-256 identifies a file
    **dict.fromkeys(_DETAILS, OBJECT),
}

_SOURCE_RULES = {
    "package": {"path": _PATH},
    "huggingface": {
        "repo": _text(rf"{NAME}/{NAME}", f"'owner/name', each {_PART_WORDS}"),
        "revision": _text(
            "[0-9a-f]{40}", "a commit of 40 lowercase hexadecimal digits; a branch could be moved"
        ),
        "path": _PATH,
    },
    "https": {"url": WEB_URL},
    "file": {
        "url": _text(
            "file:///(?!.*%00)[!-~]+",
            "file:// with an absolute, percent-encoded path, such as "
            "'file:///srv/model.safetensors'",
        )
    },
    "relative": {"path": _PATH},
}


def shown(value: object) -> str:
    """Return a value for a message, truncated if it is long."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def check_models(models: Mapping[str, Any], place: str) -> None:
    """Check the entries of a manifest, and their names."""
    for name, values in models.items():
        check(name, _text(NAME, _PART_WORDS), f"{place}: a model's name")
        _check_entry(values, f"{place}: {name}")


def check(value: object, rule: _Rule, place: str) -> None:
    """Raise a `ManifestError` unless a value is as its rule says."""
    if not rule.accepts(value):
        raise ManifestError(f"{place} is {shown(value)}; it must be {rule.words}")


def _check_fields(
    values: Any, rules: Mapping[str, _Rule], required: Iterable[str], place: str, note: str = ""
) -> None:
    check(values, OBJECT, place)
    missing = [field for field in required if field not in values]
    if missing:
        raise ManifestError(f"{place}{note} lacks {', '.join(missing)}")
    for field, rule in rules.items():
        if field in values:
            check(values[field], rule, f"{place}.{field}")


def _check_entry(values: Any, place: str) -> None:
    _check_fields(values, ENTRY_RULES, _REQUIRED_FIELDS, place)
    licences = dict.fromkeys(LICENCE_FIELDS, _TEXT)
    _check_fields(values["licences"], licences, licences, f"{place}.licences")
    for i, source in enumerate(values.get("sources", [])):
        _check_source(source, f"{place}.sources[{i}]")
    rows = values.get("metrics", {}).get("rows", [])
    check(rows, _LIST, f"{place}.metrics.rows")
    for i, row in enumerate(rows):
        check(row, OBJECT, f"{place}.metrics.rows[{i}]")
    needed = _WEIGHT_FIELDS if values["status"] == "released" else ("reason",)
    given = {field: value for field, value in values.items() if value not in ("", [])}
    _check_fields(given, {}, needed, place, f" (status {values['status']!r})")


def _check_source(values: Any, place: str) -> None:
    _check_fields(values, {}, ("type",), place)
    kind = values["type"]
    if not isinstance(kind, str) or kind not in _SOURCE_RULES:
        hint = did_you_mean(str(kind), _SOURCE_RULES)
        raise ManifestError(f"{place}.type is {shown(kind)}; {hint}")
    rules = _SOURCE_RULES[kind]
    for field in SOURCE_FIELDS:
        if field in values and field not in rules:
            raise ManifestError(
                f"{place}.{field} is {shown(values[field])}; a source of type {kind!r} has only "
                + ", ".join(rules)
            )
    _check_fields(values, rules, rules, place, f" (type {kind!r})")
