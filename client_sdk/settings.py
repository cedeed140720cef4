"""Settings are looked at when they are given: `ConfigError` names the one that can not be, and says why."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import UnionType
from typing import Any

from client_sdk.config import ConfigError

Check = Callable[[Any], Any]
"""Returns what a setting means; raises ValueError with what is wrong of it."""

LONGEST_SHOWN = 80


def checked_settings(checks: Mapping[str, Check], **settings: Any) -> dict[str, Any]:
    """What these settings mean, by their names. Raises `ConfigError` for the first that can not be."""
    meant = {}
    for name, value in settings.items():
        try:
            meant[name] = checks[name](value)
        except ValueError as wrong:
            raise ConfigError(f"{name}: {wrong}") from None
    return meant


def shown(value: object) -> str:
    """A value as errors show it."""
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def _is_number(value: object, kind: type | UnionType) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def seconds(value: Any) -> float:
    """A length of time, above 0 and finite."""
    if not _is_number(value, int | float) or not 0 < value < math.inf:
        raise ValueError(f"{shown(value)} is no finite number of seconds above 0")
    return float(value)


def seconds_from_0(value: Any) -> float:
    """The same, or 0."""
    if not _is_number(value, int | float) or not 0 <= value < math.inf:
        raise ValueError(f"{shown(value)} is no finite number of seconds from 0")
    return float(value)


def count(most: int | None = None) -> Check:
    """A whole number from 1, to `most` if there is one."""

    def check(value: Any) -> int:
        if not _is_number(value, int) or value < 1 or (most is not None and value > most):
            raise ValueError(f"{shown(value)} is no whole number from 1" + ("" if most is None else f" to {most}"))
        return int(value)

    return check


def text(value: Any) -> str:
    """A text that says something."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{shown(value)} is no text, or an empty one")
    return value


def one_of(*words: str) -> Check:
    """One of these words."""

    def check(value: Any) -> str:
        if value not in words:
            raise ValueError(f"{shown(value)} is none of {', '.join(words)}")
        return str(value)

    return check


def function(value: Any) -> Any:
    """What can be called. What else is given in its place is not shown: it may be a secret."""
    if not callable(value):
        raise ValueError(f"give a function, not a value of the type {type(value).__name__}")
    return value


def or_none(check: Check) -> Check:
    """The same, or nothing."""
    return lambda value: None if value is None else check(value)
