"""Which values an import takes: those that the gateway's own commands take, or, where it is asked to, those that the
database takes."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

import msgspec

from gateway.core.clock import rfc3339
from gateway.core.document import MAX_INTEGER, canonical, plain_object
from gateway.core.password_hash import MAX_LENGTH, parse_hash
from gateway.core.text import MAX_ATTRIBUTES_BYTES, TEXT_CHECKS, check_attributes
from gateway.store.transfer.records import KIND_OF, MemberUsageRow, Part, Record, UsageRow

_HASH = re.compile(r"[\x21-\x7e]+")
_TOKEN_HASH = re.compile(r"[0-9a-f]{64}")


def check_password_hash(value: str) -> str:
    """A password's hash as it came from wherever it was made: of a form that a login can verify, at a cost that one is
    worth.

    The one place where hashes from outside are looked at; `gateway.core.password_hash` has the forms and bounds.
    """
    if len(value) > MAX_LENGTH or not _HASH.fullmatch(value):
        raise ValueError(f"must have 1 to {MAX_LENGTH} printable ASCII characters without spaces")
    parse_hash(value)
    return value


def check_record(record: Record, *, as_stored: bool = False) -> Record:
    """The record as it is to be written, its lists in the order of their keys; `as_stored` takes names, attributes and
    texts that the commands would refuse and SQL does not. Balances of 0, which say nothing, are left out.

    Raises ValueError with one sentence, which begins with the field and never repeats a value.
    """
    kind = KIND_OF[type(record)]
    values = _checked(type(record).__name__, record, kind.fields, as_stored)
    for part in kind.parts:
        if getattr(record, part.field) is not msgspec.UNSET:
            values[part.field] = _checked_rows(record, part, as_stored)
    checked: Record = kind.record(**values)
    return checked


def _checked_rows(record: Record, part: Part, as_stored: bool) -> list[Any]:
    rows: list[Any] = getattr(record, part.field)
    try:
        if part.row is str:
            rows = [_check("permission", "permission", row, as_stored) for row in rows]
        else:
            owner, fields = part.row.__name__, part.row.__struct_fields__
            rows = [part.row(**_checked(owner, row, fields, as_stored)) for row in rows]
    except ValueError as error:
        raise ValueError(f"{part.field}: {error}") from None
    keyed = {values[: part.keys]: row for values, row in zip(_values(rows), rows, strict=True)}
    if len(keyed) < len(rows):
        raise ValueError(f"{part.field}: two rows have the same {' and '.join(part.columns[: part.keys])}")
    return [row for _, row in sorted(keyed.items()) if not isinstance(row, UsageRow | MemberUsageRow) or row.used]


def _values(rows: list[Any]) -> list[tuple[Any, ...]]:
    return [(row,) if isinstance(row, str) else msgspec.structs.astuple(row) for row in rows]


def _checked(owner: str, struct: Any, fields: Collection[str], as_stored: bool) -> dict[str, Any]:
    return {name: _check(owner, name, getattr(struct, name), as_stored) for name in fields}


def _check(owner: str, name: str, value: Any, as_stored: bool) -> Any:
    """`value`, which has the field's type, in the form in which it is to be written."""
    if value is None or isinstance(value, bool):
        return value
    special = f"{owner}.{name}"
    check = _ALWAYS.get(special) or _ALWAYS.get(name)
    if check is None:
        check = _STORED[type(value)] if as_stored else (_EDGE.get(special) or _EDGE[name])
    try:
        return check(value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _moment(value: int) -> int:
    try:
        rfc3339(value)
    except (ValueError, OverflowError):
        raise ValueError("must lie in the years 1 to 9999") from None
    return value


def _amount(value: int) -> int:
    if not 0 <= value <= MAX_INTEGER:
        raise ValueError("must be 0 to 2^53 - 1")
    return value


def _nothing(value: int) -> int:
    """What leases held where the file comes from: they did not come along."""
    return _amount(value) * 0


def _one_of(*words: str) -> Callable[[str], str]:
    def check(value: str) -> str:
        if value not in words:
            raise ValueError(f"must be {', '.join(words[:-1])} or {words[-1]}")
        return value

    return check


def _token_hash(value: str) -> str:
    if not _TOKEN_HASH.fullmatch(value):
        raise ValueError("must be the SHA-256 of the token, 64 hexadecimal digits in lower case")
    return value


def _scopes(value: Any) -> dict[str, Any]:
    scopes = plain_object(value)
    if len(canonical(scopes)) > MAX_ATTRIBUTES_BYTES:
        raise ValueError(f"must have at most {MAX_ATTRIBUTES_BYTES} bytes as JSON")
    return scopes


def _stored_text(value: str) -> str:
    """Text that every driver carries whole."""
    if "\0" in value:
        raise ValueError("must not contain NUL")
    value.encode()
    return value


def _stored_integer(value: int) -> int:
    if not -(2**63) <= value < 2**63:
        raise ValueError("must have 64 bits at most")
    return value


Check = Callable[[Any], Any]

_role_of_member = _one_of("owner", "admin", "member")

_ALWAYS: Mapping[str, Check] = {
    **dict.fromkeys(("limit_value", "used", "reserved"), _amount),
    "UsageRow.reserved": _nothing,
    "status": _one_of("active", "disabled"),
    "effect": _one_of("allow", "deny"),
    "period": _one_of("hour", "day", "week", "month", "year", "never"),
    "credential": _one_of("login_session", "api_token"),
    "MembershipRow.role": _role_of_member,
    "OrganizationRoleRecord.id": _role_of_member,
    "password_hash": check_password_hash,
}
"""What the tables themselves demand; by field, or by the field of one kind of row."""

_EDGE: Mapping[str, Check] = {
    **dict.fromkeys(("created_at", "updated_at", "expires_at", "revoked_at", "last_used_at"), _moment),
    **dict.fromkeys(("starts_at", "anchor_at", "period_start"), _moment),
    **TEXT_CHECKS,
    **dict.fromkeys(("user_id", "org_id"), TEXT_CHECKS["id"]),
    "PlanRecord.id": TEXT_CHECKS["plan"],
    "RoleRecord.id": TEXT_CHECKS["role"],
    "attributes": check_attributes,
    "scopes": _scopes,
    "token_hash": _token_hash,
}
"""What the commands demand."""

_STORED: Mapping[type[Any], Check] = {str: _stored_text, int: _stored_integer, dict: plain_object}
"""What the database takes, by type."""
