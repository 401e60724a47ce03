"""Hierarchy files: strict parsing and writing of JSON and TOML."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Mapping
from typing import Any

from mdan_zoo.errors import HierarchyError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found, unused-ignore]


def parse(text: str, suffix: str) -> Any:
    """Parse a JSON or TOML text; duplicate keys are errors, as in TOML."""
    toml = _is_toml(suffix)
    try:
        if toml:
            return tomllib.loads(text)
        return json.loads(text, object_pairs_hook=_without_duplicates)
    except HierarchyError:
        raise
    except (ValueError, RecursionError) as error:
        raise HierarchyError(f"not valid {'TOML' if toml else 'JSON'}: {error}") from error


def render(data: Mapping[str, Any], suffix: str) -> str:
    """Return the JSON or TOML text of the output of `Hierarchy.to_dict`."""
    if not _is_toml(suffix):
        return json.dumps(data, ensure_ascii=False, indent=2) + "\n"
    # JSON strings, integers and lists of strings are valid TOML values.
    value = functools.partial(json.dumps, ensure_ascii=False)

    def rows(table: Mapping[str, Any]) -> list[str]:
        return [f"{value(key)} = {value(entry)}" for key, entry in table.items()]

    lines = [f"{field} = {value(data[field])}" for field in ("name", "level_names")]
    lines += ["levels = [", *(f"    {value(names)}," for names in data["levels"]), "]"]
    for parents in data["parents"]:
        lines += ["", "[[parents]]", *rows(parents)]
    lines += ["", "[aliases]", *rows(data["aliases"])]
    for release, ids in data["release_ids"].items():
        lines += ["", f"[release_ids.{value(release)}]", *rows(ids)]
    return "\n".join(lines) + "\n"


def _is_toml(suffix: str) -> bool:
    if suffix.lower() not in (".json", ".toml"):
        raise HierarchyError(f"a hierarchy file must end in .json or .toml, got {suffix!r}")
    return suffix.lower() == ".toml"


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build a JSON object, rejecting duplicate keys, which the json module would ignore."""
    values: dict[str, Any] = {}
    for key, value in pairs:
        if key in values:
            raise HierarchyError(
                f"the key {key!r} is given twice, with {values[key]!r} and with {value!r}; "
                "every class has one parent and every field one value"
            )
        values[key] = value
    return values
