"""Documents: canonical JSON, revision, merge patch.

The client computes a revision itself, so that it can prove what it holds.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

MAX_SAFE_INTEGER = 2**53 - 1

_encode_sorted = msgspec.json.Encoder(order="sorted").encode


def canonical(value: Any) -> bytes:
    """Canonical JSON (RFC 8785).

    Raises ValueError for what JSON can not hold: NaN, infinities, lone surrogates, other types.
    """
    if _is_plain(value):
        return _encode_sorted(value)
    return b"".join(_parts(value))


def revision(document: Mapping[str, Any]) -> str:
    """The entity tag of a document: the first 16 hexadecimal digits of SHA-256 over its canonical JSON."""
    return hashlib.sha256(canonical(document)).hexdigest()[:16]


def apply(document: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """The document after a merge patch (RFC 7396 §2); it shares its unchanged parts with `document`, which stays."""
    result = dict(document)
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, dict):
            held = result.get(name)
            result[name] = apply(held if isinstance(held, dict) else {}, value)
        else:
            result[name] = value
    return result


def diff(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The merge patch (RFC 7396) that leads from one document to another; empty when they are equal.

    Documents hold no null.
    """
    patch: dict[str, Any] = {name: None for name in before if name not in after}
    for name, value in after.items():
        held = before.get(name)
        if isinstance(value, dict) and isinstance(held, dict):
            if inner := diff(held, value):
                patch[name] = inner
        elif not _same(held, value):
            patch[name] = value
    return patch


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(value, other[name]) for name, value in one.items())
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _is_plain(value: Any) -> bool:
    """Whether the fast encoder is right: no floats, no large integers, no names that sort differently in UTF-16."""
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return True
    if kind is int:
        return bool(abs(value) <= MAX_SAFE_INTEGER)
    if kind is dict:
        for name, inner in value.items():
            if type(name) is not str or not name.isascii() or not _is_plain(inner):
                return False
        return True
    if kind is list:
        return all(map(_is_plain, value))
    return False


def _parts(value: Any) -> list[bytes]:
    if isinstance(value, str | bool) or value is None:
        return [_encode_sorted(value)]
    if isinstance(value, int | float):
        return [_number(value).encode()]
    if isinstance(value, list | tuple):
        return [b"[", *_joined([_parts(inner) for inner in value]), b"]"]
    if isinstance(value, Mapping):
        if not all(isinstance(name, str) for name in value):
            raise ValueError("the names in an object must be strings")
        # RFC 8785 §3.2.3: names sort as UTF-16 code units.
        names = sorted(value, key=lambda name: name.encode("utf-16-be"))
        return [b"{", *_joined([[_encode_sorted(name), b":", *_parts(value[name])] for name in names]), b"}"]
    raise ValueError(f"{type(value).__name__} is no JSON value")


def _joined(items: list[list[bytes]]) -> list[bytes]:
    parts: list[bytes] = []
    for item in items:
        if parts:
            parts.append(b",")
        parts += item
    return parts


def _number(value: int | float) -> str:
    """A number as ECMAScript writes it (RFC 8785 §3.2.2.3): the shortest digits that lead back to the same double."""
    if isinstance(value, int) and -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER:
        return str(value)
    try:
        double = float(value)
    except OverflowError as exc:
        raise ValueError("the integer is larger than any JSON number") from exc
    if not math.isfinite(double):
        raise ValueError("NaN and infinities are no JSON values")
    if double == 0:
        return "0"
    sign, digit_tuple, exponent = Decimal(repr(double)).normalize().as_tuple()
    digits = "".join(map(str, digit_tuple))
    point = len(digits) + int(exponent)  # where the decimal point stands, counted from the first digit
    return "-" * sign + _decimal(digits, point)


def _decimal(digits: str, point: int) -> str:
    if len(digits) <= point <= 21:
        return digits + "0" * (point - len(digits))
    if 0 < point <= 21:
        return f"{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"0.{'0' * -point}{digits}"
    fraction = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{digits[0]}{fraction}e{point - 1:+d}"
