"""Strict JSON for security-relevant files: no coercion, no infinities, no unknown keys.

Python's reader takes ``1e400`` for infinity, ``NaN`` for a number, the last of two equal keys, and
``int()`` makes 2 of 2.9 and 1 of ``true``. None of that may happen to what a budget depends on.
"""

import json
import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

LARGEST = 10**9
"""No count of rounds, steps or clients is larger; what is, is damage."""


def read_strict(path: Path) -> Any:  # JSON is of any shape
    """Read a JSON file.

    Raises:
        ValueError: It is not valid JSON, or has infinite numbers, equal keys or nests too deeply.
        OSError: It cannot be read.
    """
    return parse_strict(path.read_bytes().decode())  # UnicodeDecodeError is a ValueError


def parse_strict(content: str) -> Any:  # JSON is of any shape
    """Read JSON; see `read_strict`.

    Raises:
        ValueError: It is not valid JSON, or has infinite numbers, equal keys or nests too deeply.
    """
    try:
        return json.loads(
            content,
            object_pairs_hook=_without_equal_keys,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def has_schema(file: Path, schema: str) -> bool:
    """Whether a file holds a record whose ``schema`` is this one."""
    try:
        found = read_strict(file)
    except ValueError:
        return False
    return isinstance(found, dict) and found.get("schema") == schema


def fields(record: object, required: Collection[str], optional: Collection[str] = ()) -> Any:
    """Check that a value is an object with exactly the expected keys; returns it.

    Args:
        record: The value.
        required: Keys that must be there.
        optional: Keys that may be there.

    Raises:
        ValueError: It is no object, or a key is missing or unknown.
    """
    if not isinstance(record, dict):
        raise ValueError(f"expected an object with {sorted(required)}, got {_shown(record)}")
    if missing := sorted(set(required) - set(record)):
        raise ValueError(f"{', '.join(missing)} missing")
    if unknown := sorted(set(record) - {*required, *optional}):
        raise ValueError(f"unknown keys: {', '.join(unknown)}")
    return record


def integer(value: object, what: str, least: int = 0, most: int = LARGEST) -> int:
    """Check that a value is an integer in a range; ``true`` and 2.0 are not integers.

    Raises:
        ValueError: It is not.
    """
    if type(value) is not int or not least <= value <= most:
        raise ValueError(
            f"{what} must be a whole number from {least} to {most}, got {_shown(value)}"
        )
    return value


def number(value: object, what: str, least: float = 0.0) -> float:
    """Check that a value is a finite number of at least ``least``.

    Raises:
        ValueError: It is not.
    """
    if type(value) is int and abs(value) > 2**53:
        raise ValueError(f"{what} is too large")
    if type(value) not in (int, float) or not least <= value < math.inf:  # type: ignore[operator]  # mypy does not narrow by `type(...) in`
        raise ValueError(f"{what} must be a number of at least {least:g}, got {_shown(value)}")
    return value  # type: ignore[return-value]  # as above


def text(value: object, what: str) -> str:
    """Check that a value is a short text.

    Raises:
        ValueError: It is not.
    """
    if not isinstance(value, str) or len(value) > 1000:
        raise ValueError(f"{what} must be a text, got {_shown(value)}")
    return value


def items(value: object, what: str) -> list[Any]:
    """Check that a value is a list.

    Raises:
        ValueError: It is not.
    """
    if not isinstance(value, list):
        raise ValueError(f"{what} must be a list, got {_shown(value)}")
    return value


def _shown(value: object) -> str:
    if type(value) is int and abs(value) > 10**30:
        return "a number of very many digits"
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."


def _without_equal_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"equal keys: {sorted({n for n in names if names.count(n) > 1})}")
    return record


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits[:30]} is too large")
    return value
