"""What an export file is made of: the kinds of its lines, and the tables that each kind holds.

A record is one thing with all that belongs to it. Fields are called as the columns are, times are in milliseconds since
1970 UTC, and every list is in the order of its keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import msgspec
from msgspec import UNSET, UnsetType

FORMAT = "gateway-export"
VERSION = 1
"""Grows with every change that an older program would misread."""

MAX_LINE_BYTES = 16 * 1024 * 1024
"""One line of a file, its end included."""


class _Line(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """One line of the file, told from others by its field `kind`."""


class _Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One row of a table that belongs to a record."""


class Header(_Line, frozen=True, kw_only=True, tag="header"):
    """The first line. `epoch` and `seq` say which moment of which database the file holds, `schema` is the number of
    its newest migration, `tables` what was read."""

    format: str
    version: int
    exported_at: str
    epoch: str
    seq: int
    schema: int
    tables: list[str]


class Manifest(_Line, frozen=True, kw_only=True, tag="manifest"):
    """The last line: how many records of each kind, and the SHA-256 of all bytes before this line, hexadecimal."""

    counts: dict[str, int]
    sha256: str


class RoleRecord(_Line, frozen=True, kw_only=True, tag="role"):
    """A role and what it grants."""

    id: str
    name: str = ""
    permissions: list[str] = []


class PlanQuotaRow(_Row, frozen=True):
    """A row of `plan_quotas`."""

    quota: str
    limit_value: int | None = None
    period: str = "month"
    hard: bool = True


class PlanRecord(_Line, frozen=True, kw_only=True, tag="plan"):
    """A plan, what it permits and limits."""

    id: str
    name: str = ""
    permissions: list[str] = []
    quotas: list[PlanQuotaRow] = []


class OrganizationRoleRecord(_Line, frozen=True, kw_only=True, tag="organization_role"):
    """What a membership's role (`id`: owner, admin or member) grants in every organization."""

    id: str
    permissions: list[str] = []


class UsageRow(_Row, frozen=True):
    """A row of `quota_usage`: a balance, to be set and never added.

    One of 0 says nothing and is left out. `reserved` is 0 and counts for nothing: what it says is held by leases, which
    stay where they are.
    """

    quota: str
    period_start: int
    used: int = 0
    reserved: int = 0


class OrganizationRecord(_Line, frozen=True, kw_only=True, tag="organization"):
    """An organization and its balances. Its members are told by the users' records."""

    id: str
    name: str = ""
    plan: str
    attributes: dict[str, Any] = {}
    timezone: str = "UTC"
    anchor_at: int | None = None
    status: str = "active"
    created_at: int
    updated_at: int
    usage: list[UsageRow] = []


class UserRoleRow(_Row, frozen=True):
    """A row of `user_roles`."""

    role: str
    expires_at: int | None = None


class UserPermissionRow(_Row, frozen=True):
    """A row of `user_permissions`."""

    permission: str
    effect: str = "allow"
    starts_at: int | None = None
    expires_at: int | None = None


class UserQuotaRow(_Row, frozen=True):
    """A row of `user_quotas`."""

    quota: str
    limit_value: int | None = None
    period: str = "month"
    hard: bool = True
    starts_at: int | None = None
    expires_at: int | None = None


class TokenRow(_Row, frozen=True, kw_only=True):
    """A row of `api_tokens`: the hash of the token, never its text."""

    id: str
    name: str = ""
    token_hash: str
    scopes: dict[str, Any] = {}
    created_at: int
    expires_at: int | None = None
    revoked_at: int | None = None
    last_used_at: int | None = None


class MembershipRow(_Row, frozen=True, kw_only=True):
    """A row of `memberships`."""

    org_id: str
    role: str = "member"
    created_at: int


class CapRow(_Row, frozen=True):
    """A row of `member_caps`."""

    org_id: str
    quota: str
    limit_value: int | None = None


class MemberUsageRow(_Row, frozen=True):
    """A row of `member_usage`: what the user took of a pool, by which the user's cap is judged; to be set and never
    added. One of 0 says nothing and is left out. What leases hold stays where it is.
    """

    org_id: str
    quota: str
    period_start: int
    used: int = 0


class UserRecord(_Line, frozen=True, kw_only=True, tag="user"):
    """A user with everything that was given to this user alone, credentials and balances included.

    Without `member_usage`, which older files do not have, it stays as it is where the record goes.
    """

    id: str
    username: str
    name: str = ""
    email: str | None = None
    plan: str
    is_admin: bool = False
    status: str = "active"
    attributes: dict[str, Any] = {}
    timezone: str = "UTC"
    anchor_at: int | None = None
    password_hash: str | None = None
    created_at: int
    updated_at: int
    roles: list[UserRoleRow] = []
    permissions: list[UserPermissionRow] = []
    quotas: list[UserQuotaRow] = []
    usage: list[UsageRow] = []
    tokens: list[TokenRow] = []
    memberships: list[MembershipRow] = []
    caps: list[CapRow] = []
    member_usage: list[MemberUsageRow] | UnsetType = UNSET


class RevocationRecord(_Line, frozen=True, kw_only=True, tag="revocation"):
    """A credential that was revoked or deleted. `credential` is its kind: login_session or api_token."""

    id: str
    credential: str
    user_id: str
    expires_at: int | None = None


Record: TypeAlias = (
    RoleRecord | PlanRecord | OrganizationRoleRecord | OrganizationRecord | UserRecord | RevocationRecord
)


ColumnType: TypeAlias = Literal["text", "integer", "boolean", "json"]


class Part(NamedTuple):
    """A table whose rows stand in a list of the record: those whose column `owner` is `prefix` and the record's id."""

    field: str
    row: type[Any]
    """What a row becomes: a struct with fields called as the columns, or `str` for a name alone."""
    table: str
    owner: str
    keys: int
    """How many columns, the first ones, tell the rows of one owner apart."""
    prefix: str
    columns: tuple[str, ...]
    """The first fields of `row`: what comes after them does not move."""
    types: tuple[ColumnType, ...]


class Kind(NamedTuple):
    """One kind of record: its table and the tables of its parts."""

    name: str
    record: type[Any]
    table: str
    columns: tuple[str, ...]
    """The table's, the key first; `fields` are the record's for them."""
    fields: tuple[str, ...]
    types: tuple[ColumnType, ...]
    parts: tuple[Part, ...]
    doc: str
    """What stands before the id in the change log's `doc`; empty: the log does not name it."""


def _types(struct: type[Any]) -> dict[str, ColumnType]:
    words: dict[Any, ColumnType] = {str: "text", int: "integer", bool: "boolean", dict[str, Any]: "json"}
    found: dict[str, ColumnType] = {}
    for field in msgspec.structs.fields(struct):
        options = [kind for kind in get_args(field.type) if kind in words] or [field.type]
        found[field.name] = words.get(field.type) or words.get(options[0], "json")
    return found


def _part(field: str, row: type[Any], table: str, owner: str, keys: int = 1, prefix: str = "") -> Part:
    types: dict[str, ColumnType] = {"permission": "text"} if row is str else _types(row)
    if row is UsageRow:
        del types["reserved"]
    return Part(field, row, table, owner, keys, prefix, tuple(types), tuple(types.values()))


def _kind(record: type[Any], table: str, *parts: Part, doc: str = "", **columns: str) -> Kind:
    lists = {part.field for part in parts}
    types = {name: kind for name, kind in _types(record).items() if name not in lists}
    names = tuple(columns.get(name, name) for name in types)
    tag = str(record.__struct_config__.tag)
    return Kind(tag, record, table, names, tuple(types), tuple(types.values()), parts, doc)


ROLE = _kind(RoleRecord, "roles", _part("permissions", str, "role_permissions", "role"), doc="role:")
PLAN = _kind(
    PlanRecord,
    "plans",
    _part("permissions", str, "plan_permissions", "plan"),
    _part("quotas", PlanQuotaRow, "plan_quotas", "plan", 1),
    doc="plan:",
)
ORGANIZATION_ROLE = _kind(
    OrganizationRoleRecord,
    "org_role_permissions",
    _part("permissions", str, "org_role_permissions", "role"),
    doc="role:org.",
    id="role",
)
ORGANIZATION = _kind(
    OrganizationRecord,
    "organizations",
    _part("usage", UsageRow, "quota_usage", "owner", 2, prefix="org:"),
    doc="org:",
)
USER = _kind(
    UserRecord,
    "users",
    _part("roles", UserRoleRow, "user_roles", "user_id", 1),
    _part("permissions", UserPermissionRow, "user_permissions", "user_id", 2),
    _part("quotas", UserQuotaRow, "user_quotas", "user_id", 1),
    _part("usage", UsageRow, "quota_usage", "owner", 2, prefix="user:"),
    _part("tokens", TokenRow, "api_tokens", "user_id", 1),
    _part("memberships", MembershipRow, "memberships", "user_id", 1),
    _part("caps", CapRow, "member_caps", "user_id", 2),
    _part("member_usage", MemberUsageRow, "member_usage", "user_id", 3),
    doc="user:",
)
REVOCATION = _kind(RevocationRecord, "revocations", credential="kind")

KINDS: tuple[Kind, ...] = (ROLE, PLAN, ORGANIZATION_ROLE, ORGANIZATION, USER, REVOCATION)
"""In the order of the file: what is referred to comes first."""

KIND_OF: Mapping[type[Any], Kind] = {kind.record: kind for kind in KINDS}
RANK: Mapping[str, int] = {kind.name: rank for rank, kind in enumerate(KINDS)}
BALANCES = frozenset({"quota_usage", "member_usage"})
"""Tables whose rows are kept for good, and hold what leases reserved besides: that part of a row does not move."""

TABLES: tuple[str, ...] = tuple(
    sorted({table for kind in KINDS for table in (kind.table, *(p.table for p in kind.parts))})
)

_encode = msgspec.json.Encoder(order="deterministic").encode


def line(value: Record | Header | Manifest) -> bytes:
    """One line of the file, its end included; equal values give equal bytes."""
    return _encode(value) + b"\n"


def own_row(record: Record) -> tuple[Any, ...]:
    """The values of the record's own columns, the id first."""
    return tuple(getattr(record, name) for name in KIND_OF[type(record)].fields)


def part_rows(record: Record, part: Part) -> list[tuple[Any, ...]]:
    """The rows of one part, in the order of `Part.columns`; none where the record says nothing of it."""
    rows: list[Any] = getattr(record, part.field) or []
    width = len(part.columns)
    return [(row,) if isinstance(row, str) else msgspec.structs.astuple(row)[:width] for row in rows]
