"""Values from text: conversion to the type of a field of a dataclass."""

from __future__ import annotations

from typing import Any, get_args, get_origin

from mdan_zoo.errors import InputError

_KINDS = {int: "a whole number", float: "a number", bool: "true or false"}


def convert(name: str, value: object, kind: Any) -> Any:
    """Convert a value from TOML or the command line, such as "2,4,8", to the type of a field.

    `kind` is int, float, bool, str or a literal, one of these or None, or a tuple of integers.

    Raises:
        InputError: The value is of another type.
    """
    text, arguments = str(value), get_args(kind)
    if type(None) in arguments:
        if text.lower() == "none":
            return None
        kind = arguments[0]
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        if get_origin(kind) is tuple:
            return tuple(int(part) for part in text.strip("()[]").removesuffix(",").split(","))
        if kind is int:
            return int(text)  # of the text, so that 2.5 is not truncated to 2
        return float(text) if kind is float else text
    except (ValueError, KeyError) as error:
        words = _KINDS.get(kind, "whole numbers, such as 4,3,2")
        raise InputError(f"{name} must be {words}, not {text!r}") from error
