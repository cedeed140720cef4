"""Documents: canonical JSON, revision, merge patch.

A document is a JSON object without nulls (null and absent mean the same), of numbers that every client reads alike. It
is held as canonical bytes by section, so that an unchanged section costs one comparison of bytes, and its revision is a
hash of those bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from functools import lru_cache
from hashlib import sha256
from typing import Any, TypeVar

import msgspec

MAX_INTEGER = 2**53 - 1
"""The largest integer that every JSON reader holds exactly (RFC 7493 §2.2)."""

KEPT_BYTES = 8192
"""How large two sections may be together for the patch between them to be kept."""

MAX_DEPTH = 64
"""How many objects and arrays a JSON column may nest."""

_encode = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder().decode
_decode_raw = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

_Json = TypeVar("_Json", bytes, msgspec.Raw)

_PLAIN = frozenset((str, bool, type(None)))


def canonical(value: Any) -> bytes:
    """The canonical JSON of a JSON value: RFC 8785.

    Takes dicts with string keys, lists, tuples, strings, booleans, numbers and None. Raises ValueError for an integer
    beyond 2^53 - 1, a number that is not finite and a lone surrogate, TypeError for anything that is not JSON.
    """
    if _is_plain(value.values() if type(value) is dict else (value,)):
        encoded = _encode(value)
        if encoded.isascii() or not _may_be_misordered(encoded):
            return encoded
    return _written(value).encode()


def _is_plain(values: Iterable[Any]) -> bool:
    """Whether msgspec writes all of `values` as RFC 8785 wants, order of keys aside: not floats and huge integers."""
    for value in values:
        if (kind := type(value)) not in _PLAIN:
            if kind is int:
                if not -9007199254740991 <= value <= 9007199254740991:
                    return False
            elif kind is dict:
                if not _is_plain(value.values()):
                    return False
            elif kind is not list or not _is_plain(value):
                return False
    return True


def _may_be_misordered(encoded: bytes) -> bool:
    """Whether keys sorted by code point may not be sorted by UTF-16 code unit.

    The two orders differ only between a character beyond U+FFFF and one from U+E000 to U+FFFF: both must occur (their
    UTF-8 begins with F0 to F4, and with EE or EF).
    """
    return (0xEF in encoded or 0xEE in encoded) and max(encoded) >= 0xF0


def _written(value: Any) -> str:
    """`canonical` for every case, one value at a time."""
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise TypeError("the keys of a JSON object are strings")
        members = sorted(value.items(), key=lambda member: member[0].encode("utf-16-be"))
        return "{" + ",".join(f"{_written(key)}:{_written(member)}" for key, member in members) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_written, value)) + "]"
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, int) and not isinstance(value, bool) and not -MAX_INTEGER <= value <= MAX_INTEGER:
        raise ValueError("an integer beyond 2^53 - 1 is not the same number for every reader")
    if value is None or isinstance(value, str | int):
        return _encode(value).decode()
    raise TypeError(f"{type(value).__name__} is not a JSON value")


def _number(value: float) -> str:
    """A float as ECMAScript prints it (ECMA-262, Number::toString), which RFC 8785 §3.2.2.3 prescribes."""
    if not math.isfinite(value):
        raise ValueError("a number must be finite")
    if value == 0:
        return "0"
    sign, numerals, exponent = Decimal(repr(value)).as_tuple()
    digits = "".join(map(str, numerals))
    point = len(digits) + int(exponent)  # the decimal point stands behind this many digits
    digits = digits.rstrip("0")
    if len(digits) <= point <= 21:
        text = digits.ljust(point, "0")
    elif 0 < point <= 21:
        text = f"{digits[:point]}.{digits[point:]}"
    elif -6 < point <= 0:
        text = f"0.{'0' * -point}{digits}"
    else:
        text = f"{digits[0]}{'.' if len(digits) > 1 else ''}{digits[1:]}e{point - 1:+d}"
    return "-" + text if sign else text


def revision(canonical_json: bytes) -> str:
    """The entity tag of a document: the first 16 hexadecimal digits of SHA-256 over its canonical JSON."""
    return sha256(canonical_json).hexdigest()[:16]


def parse_object(text: str) -> dict[str, Any]:
    """A JSON column's object as a document may hold it.

    Nulls are dropped, in arrays too; a number without a fraction becomes an int; of a key that occurs twice the last
    counts. Raises ValueError for anything but an object, integers beyond 2^53 - 1, numbers that are not finite, lone
    surrogates, and nesting deeper than `MAX_DEPTH`.
    """
    if text == "{}":
        return {}
    try:
        value = _decode(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return plain_object(value)


def plain_object(value: Any) -> dict[str, Any]:
    """A decoded JSON object as a document may hold it: a new object, by the rules of `parse_object`."""
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return _plain_members(value, MAX_DEPTH)


def _plain_members(members: dict[str, Any], depth: int) -> dict[str, Any]:
    """`members` without nulls, every value made plain; `depth` levels are left, this one included."""
    return {_plain_text(key): _plain_value(value, depth) for key, value in members.items() if value is not None}


def _plain_value(value: Any, depth: int) -> Any:
    """A value (not null) as a document may hold it."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _plain_text(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("a number must be finite")
        if not value.is_integer():
            return value
        value = int(value)
    if isinstance(value, int):
        if not -MAX_INTEGER <= value <= MAX_INTEGER:
            raise ValueError("an integer must lie within 2^53 - 1")
        return value
    if depth == 1:
        raise ValueError("nested too deeply")
    if isinstance(value, dict):
        return _plain_members(value, depth - 1)
    if isinstance(value, list):
        return [_plain_value(item, depth - 1) for item in value if item is not None]
    raise ValueError(f"{type(value).__name__} is not a JSON value")


def _plain_text(text: str) -> str:
    """`text`, when it has no lone surrogates: those have no UTF-8, so no client could be sent them."""
    if not text.isascii():
        text.encode()
    return text


def diff(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The merge patch (RFC 7396) that leads from `old` to `new`; ``{}`` when they are the same JSON.

    Both are objects without nulls. The patch shares values with `new`. True and 1 differ, 1 and 1.0 do not: as in
    canonical JSON.
    """
    patch: dict[str, Any] = {key: None for key in old if key not in new}
    for key, value in new.items():
        before = old.get(key)
        if before is value:
            continue
        if isinstance(value, dict) and isinstance(before, dict):
            if inner := diff(before, value):
                patch[key] = inner
        elif not _same(before, value):
            patch[key] = value
    return patch


def _same(one: Any, other: Any) -> bool:
    """Whether two values, not both objects, are the same JSON. Python's own answer takes True for 1, in lists too."""
    if one != other:
        return False
    if isinstance(one, list):
        return canonical(one) == canonical(other)
    return isinstance(one, bool) == isinstance(other, bool)


def apply(document: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """`document` after the merge patch (RFC 7396 §2): a new object, which shares what was not touched with the old.

    Neither argument is changed.
    """
    result = dict(document)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            target = result.get(key)
            result[key] = apply(target if isinstance(target, dict) else {}, value)
        else:
            result[key] = value
    return result


class Document:
    """One document at one revision; never changed after it was made. Two documents are equal when their revisions are.

    `sections` are the members of the whole, each value as canonical JSON bytes without nulls; they are kept sorted by
    name. Raises ValueError for a name that occurs twice.
    """

    __slots__ = ("contents", "names", "rev", "size")

    names: tuple[str, ...]
    contents: tuple[bytes, ...]
    rev: str
    size: int
    """Bytes of the whole as canonical JSON."""

    def __init__(self, sections: Iterable[tuple[str, bytes]]) -> None:
        ordered = in_order(sections)
        self.names = tuple(name for name, _ in ordered)
        self.contents = tuple(content for _, content in ordered)
        whole = self.json()
        self.rev = revision(whole)
        self.size = len(whole)

    @classmethod
    def of(cls, names: tuple[str, ...], contents: tuple[bytes, ...]) -> Document:
        """A document whose section names the caller has sorted already and gives apart: the quick way."""
        document = cls.__new__(cls)
        document.names = names
        document.contents = contents
        whole = _form(names) % contents
        document.rev = sha256(whole).hexdigest()[:16]
        document.size = len(whole)
        return document

    @property
    def sections(self) -> tuple[tuple[str, bytes], ...]:
        """The members by name, in order."""
        return tuple(zip(self.names, self.contents, strict=True))

    def json(self) -> bytes:
        """The canonical JSON of the whole."""
        return _form(self.names) % self.contents

    def data(self) -> dict[str, Any]:
        """The whole, decoded: a new object at every call."""
        return {name: _decode(value) for name, value in zip(self.names, self.contents, strict=True)}

    def section(self, name: str) -> bytes | None:
        """The canonical JSON of one member; None when there is none of that name."""
        return self.contents[self.names.index(name)] if name in self.names else None

    def patch_from(self, old: Document) -> bytes:
        """The merge patch (RFC 7396) that leads from `old` here, as canonical JSON; ``{}`` when they are equal."""
        return patch_between(old, self)

    def __eq__(self, other: object) -> bool:
        return self.rev == other.rev if isinstance(other, Document) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.rev)

    def __repr__(self) -> str:
        return f"Document(rev={self.rev!r}, sections={list(self.names)})"


@lru_cache(maxsize=1024)
def _key(name: str) -> bytes:
    """A member's name as canonical JSON, and the colon behind it."""
    return _encode(name) + b":"


@lru_cache(maxsize=64)
def _form(names: tuple[str, ...]) -> bytes:
    """An object with these names, and a place for each member's value."""
    return b"{" + b",".join(_key(name).replace(b"%", b"%%") + b"%b" for name in names) + b"}"


def in_order(members: Iterable[tuple[str, bytes]]) -> tuple[tuple[str, bytes], ...]:
    """`members` in the order of RFC 8785 §3.2.3; ValueError for a name that occurs twice."""
    ordered = sorted(members)
    previous, plain = None, True
    for name, _ in ordered:
        if name == previous:
            raise ValueError(f"two members are called {name}")
        previous, plain = name, plain and name.isascii()
    if not plain:
        ordered.sort(key=lambda member: member[0].encode("utf-16-be"))
    return tuple(ordered)


def patch_between(old: Document, new: Document) -> bytes:
    """The merge patch (RFC 7396) that leads from `old` to `new`, as canonical JSON; ``{}`` when they are equal.

    Members are compared as bytes, in two levels; only what differs is decoded.
    """
    if old.names != new.names:
        return member_changes(dict(old.sections), dict(new.sections), section_patch)
    changes: list[bytes] = []
    for name, before, after in zip(new.names, old.contents, new.contents, strict=True):
        if before is not after and before != after:
            changes.append(_key(name) + section_patch(before, after))
    return b"{" + b",".join(changes) + b"}"


def section_patch(old: bytes, new: bytes) -> bytes:
    """The patch's value for a section that differs."""
    return _kept_patch(old, new) if len(old) + len(new) <= KEPT_BYTES else _made_patch(old, new)


@lru_cache(maxsize=256)
def _kept_patch(old: bytes, new: bytes) -> bytes:
    """Kept for a while: many documents may share both sections."""
    return _made_patch(old, new)


def _made_patch(old: bytes, new: bytes) -> bytes:
    if old[:1] == b"{" == new[:1]:
        return member_changes(_decode_raw(old), _decode_raw(new), _member_patch)
    return new


def _member_patch(old: msgspec.Raw, new: msgspec.Raw) -> bytes:
    """The patch's value for a section's member that differs."""
    after = bytes(new)
    if after[:1] == b"{" == bytes(old)[:1]:
        return canonical(diff(_decode(old), _decode(after)))
    return after


def member_changes(old: dict[str, _Json], new: dict[str, _Json], patch: Callable[[_Json, _Json], bytes]) -> bytes:
    """The merge patch from the members `old` to `new` (sorted).

    `patch` gives the value for a member that both have.
    """
    changes: list[tuple[str, bytes]] = []
    kept = 0
    for name, value in new.items():
        before = old.get(name)
        if before is None:
            changes.append((name, bytes(value)))
            continue
        kept += 1
        if before != value:
            changes.append((name, patch(before, value)))
    if kept < len(old):
        changes = list(in_order([*changes, *((name, b"null") for name in old if name not in new)]))
    return b"{" + b",".join([_key(name) + value for name, value in changes]) + b"}"
