"""What stands in bodies and queries: checked on the way in, written for clients on the way out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from gateway.core.clock import parse_rfc3339, rfc3339
from gateway.core.text import MAX_LABEL, TEXT_CHECKS, check_attributes, check_text
from gateway.errors import BadRequest, NotFound, Unprocessable

FIRST_MOMENT = parse_rfc3339("0001-01-01T00:00:00Z")
LAST_MOMENT = parse_rfc3339("9999-12-31T23:59:59.999Z")

Kind = TypeVar("Kind", bound=msgspec.Struct)
Checked = TypeVar("Checked")


def unprocessable(error: Exception) -> Unprocessable:
    """The refusal of a value, in the words of the check that refused it."""
    text = str(error)[:300]
    shown = "".join(character if character.isprintable() else "?" for character in text)
    return Unprocessable(f"{shown[:1].upper()}{shown[1:].rstrip('.')}.")


def checked(check: Callable[[Any], Checked], value: Any) -> Checked:
    """What `check` makes of a value of the body. Raises `Unprocessable`."""
    try:
        return check(value)
    except ValueError as error:
        raise unprocessable(error) from None


def checked_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a row as they may be stored: texts by `TEXT_CHECKS`, attributes, and moments as milliseconds since
    1970 UTC. Raises `Unprocessable`.
    """
    stored: dict[str, Any] = {}
    for name, value in fields.items():
        if name == "attributes":
            stored[name] = checked(check_attributes, value)
        elif name.endswith("_at"):
            stored[name] = stored_moment(value, name)
        elif isinstance(value, str) and name in TEXT_CHECKS:
            stored[name] = checked(TEXT_CHECKS[name], value)
        else:
            stored[name] = value
    return stored


def given(body: msgspec.Struct) -> dict[str, Any]:
    """What a body says, in plain values. Attributes are looked at first: nothing may go through them that nests without
    end. Raises `Unprocessable`.
    """
    attributes = getattr(body, "attributes", None)
    if isinstance(attributes, dict):
        checked(check_attributes, attributes)
    plain: dict[str, Any] = msgspec.to_builtins(body)
    return plain


def converted(fields: Mapping[str, Any], kind: type[Kind]) -> Kind:
    """The body that these fields make. Raises `Unprocessable`."""
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        raise unprocessable(error) from None


def stored_moment(text: str | None, name: str) -> int | None:
    """A moment of a body in milliseconds since 1970 UTC. Raises `Unprocessable` unless it is RFC 3339."""
    try:
        return None if text is None else parse_rfc3339(text)
    except ValueError:
        raise Unprocessable(f"{name} has to be an RFC 3339 date and time such as 2026-11-21T19:10:00.000Z.") from None


def period(starts_at: str | None, expires_at: str | None) -> tuple[int | None, int | None]:
    """From when until when a row counts, in milliseconds since 1970 UTC. Raises `Unprocessable`, also for an end that
    does not come after the beginning."""
    start, end = stored_moment(starts_at, "starts_at"), stored_moment(expires_at, "expires_at")
    if start is not None and end is not None and end <= start:
        raise Unprocessable("expires_at has to come after starts_at.")
    return start, end


def moment(ms: int) -> str:
    """A moment of a row as clients read it; one that RFC 3339 has no words for becomes the nearest it has."""
    return rfc3339(min(max(ms, FIRST_MOMENT), LAST_MOMENT))


def moment_or_null(ms: int | None) -> str | None:
    """As `moment`; None stays."""
    return None if ms is None else moment(ms)


def searched(text: str | None, what: str = "what is looked for") -> str | None:
    """A text of the query. Raises `BadRequest` for one that nothing is called."""
    try:
        return None if text is None else check_text(text, what, MAX_LABEL)
    except ValueError as error:
        raise BadRequest(unprocessable(error).message) from None


def path_name(check: Callable[[str], str], text: str) -> str:
    """A part of the path that names something. Raises `NotFound` where nothing can be called that."""
    try:
        return check(text)
    except ValueError:
        raise NotFound("No such resource.") from None
