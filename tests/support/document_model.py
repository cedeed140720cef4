"""Documents worked out from plain rows by the words of the data model, for comparison with the gateway's faster way.

Rows are dictionaries by column. Only the bounds of periods are taken from the gateway; they have tests of their own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import rfc8785

from gateway.core.quotas import period_bounds

Row = dict[str, Any]
Tables = dict[str, list[Row]]


def user_document(tables: Tables, user: str, now: int) -> dict[str, Any] | None:
    """The document of ``user:ID`` at `now` (milliseconds since 1970 UTC); None when there is no such user."""
    found = list(_where(tables, "users", id=user))
    if not found:
        return None
    [row] = found
    return {
        "identity": _identity(row),
        "permissions": dict.fromkeys(_permissions(tables, row, now), True),
        "quotas": _own_quotas(tables, row, now),
        "organizations": dict(_organizations(tables, row, now)),
    }


def organization_document(tables: Tables, organization: str, now: int, *, members: bool) -> dict[str, Any] | None:
    """The document of ``org:ID``, with the member list or without; None when there is no such organization."""
    found = list(_where(tables, "organizations", id=organization))
    if not found:
        return None
    [row] = found
    shown = ("id", "name", "plan", "status")
    profile = {name: row[name] for name in shown} | _dates(row) | {"attributes": _without_nulls(row["attributes"])}
    document: dict[str, Any] = {"organization": profile, "quotas": _pool(tables, row, now)}
    if members:
        document["members"] = {
            membership["user_id"]: {"role": membership["role"], "since": _date(membership["created_at"])}
            for membership in _where(tables, "memberships", org_id=organization)
        }
    return document


def canonical_bytes(document: dict[str, Any]) -> bytes:
    """RFC 8785 by another author's hand."""
    return rfc8785.dumps(document)


def _where(tables: Tables, table: str, **columns: Any) -> Iterator[Row]:
    for row in tables.get(table, ()):
        if all(row[name] == value for name, value in columns.items()):
            yield row


def _date(ms: int) -> str:
    moment = datetime.fromtimestamp(ms // 1000, UTC).replace(microsecond=ms % 1000 * 1000)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{ms % 1000:03d}Z"


def _dates(row: Row) -> dict[str, str]:
    return {name: _date(row[name]) for name in ("created_at", "updated_at")}


def _without_nulls(text: str) -> Any:
    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: clean(item) for key, item in value.items() if item is not None}
        if isinstance(value, list):
            return [clean(item) for item in value if item is not None]
        return int(value) if isinstance(value, float) and value.is_integer() else value

    return clean(json.loads(text))


def _identity(row: Row) -> dict[str, Any]:
    shown = {name: row[name] for name in ("id", "username", "name", "email", "plan", "status")} | _dates(row)
    attributes = _without_nulls(row["attributes"])
    return {name: value for name, value in shown.items() if value is not None} | {
        "is_admin": row["is_admin"] == 1,
        "attributes": attributes,
    }


def _in_force(row: Row, now: int) -> bool:
    starts_at, expires_at = row.get("starts_at"), row.get("expires_at")
    return (starts_at is None or starts_at <= now) and (expires_at is None or now < expires_at)


def _permissions(tables: Tables, user: Row, now: int) -> set[str]:
    if user["status"] != "active":
        return set()
    held = {row["permission"] for row in _where(tables, "plan_permissions", plan=user["plan"])}
    for grant in _where(tables, "user_roles", user_id=user["id"]):
        if _in_force(grant, now):
            held |= {row["permission"] for row in _where(tables, "role_permissions", role=grant["role"])}
    own = [row for row in _where(tables, "user_permissions", user_id=user["id"]) if _in_force(row, now)]
    held |= {row["permission"] for row in own if row["effect"] == "allow"}
    return held - {row["permission"] for row in own if row["effect"] == "deny"}


def _own_quotas(tables: Tables, user: Row, now: int) -> dict[str, Any]:
    limits = {row["quota"]: row for row in _where(tables, "plan_quotas", plan=user["plan"])}
    for row in _where(tables, "user_quotas", user_id=user["id"]):
        if _in_force(row, now):
            limits[row["quota"]] = row
    return {quota: _balance(tables, f"user:{user['id']}", user, row, now) for quota, row in limits.items()}


def _pool(tables: Tables, organization: Row, now: int) -> dict[str, Any]:
    owner = f"org:{organization['id']}"
    limits = _where(tables, "plan_quotas", plan=organization["plan"])
    return {row["quota"]: _balance(tables, owner, organization, row, now) for row in limits}


def _balance(tables: Tables, owner: str, who: Row, limit: Row, now: int) -> dict[str, Any]:
    start, end = period_bounds(limit["period"], who["anchor_at"], who["timezone"], now)
    rows = [
        row
        for row in _where(tables, "quota_usage", owner=owner, quota=limit["quota"])
        if start <= row["period_start"] <= now
    ]
    used, reserved = sum(row["used"] for row in rows), sum(row["reserved"] for row in rows)
    allowed = limit["limit_value"]
    entry: dict[str, Any] = {"used": used, "period": limit["period"], "level": _level(allowed, used + reserved)}
    if end is not None and limit["period"] != "never":
        entry["resets_at"] = _date(end)
    if allowed is not None:
        remaining = max(0, allowed - used - reserved)
        entry |= {"limit": allowed, "reserved": reserved, "remaining": remaining, "hard": limit["hard"] == 1}
    return entry


def _taken(tables: Tables, organization: Row, cap: Row, now: int) -> int:
    """What the member with this cap took of the pool in its present period."""
    [limit] = _where(tables, "plan_quotas", plan=organization["plan"], quota=cap["quota"])
    start, _ = period_bounds(limit["period"], organization["anchor_at"], organization["timezone"], now)
    whose = {name: cap[name] for name in ("org_id", "user_id", "quota")}
    rows = _where(tables, "member_usage", **whose)
    return sum(row["used"] + row["reserved"] for row in rows if start <= row["period_start"] <= now)


def _level(allowed: int | None, taken: int) -> str:
    if allowed is None:
        return "ok"
    share: Callable[[int], bool] = lambda percent: 100 * taken >= percent * allowed  # noqa: E731
    return "exhausted" if share(100) else "critical" if share(95) else "low" if share(80) else "ok"


def _organizations(tables: Tables, user: Row, now: int) -> Iterator[tuple[str, dict[str, Any]]]:
    for membership in _where(tables, "memberships", user_id=user["id"]):
        for organization in _where(tables, "organizations", id=membership["org_id"], status="active"):
            pool = _pool(tables, organization, now)
            for cap in _where(tables, "member_caps", user_id=user["id"], org_id=organization["id"]):
                if cap["quota"] in pool and cap["limit_value"] is not None:
                    left = cap["limit_value"] - _taken(tables, organization, cap, now)
                    pool[cap["quota"]] |= {"cap": cap["limit_value"], "cap_remaining": max(0, left)}
            granted = _where(tables, "org_role_permissions", role=membership["role"])
            permissions = [row["permission"] for row in granted] if user["status"] == "active" else []
            yield (
                organization["id"],
                {
                    "name": organization["name"],
                    "role": membership["role"],
                    "permissions": dict.fromkeys(permissions, True),
                    "quotas": pool,
                },
            )
