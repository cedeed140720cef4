"""The document that the database gives, worked out anew: from the tables by a simple model of the rules, and by a
gateway that was just started on the same file."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.support.foreign_writer import ForeignWriter
from tests.support.gateway_process import GatewayProcess
from tests.support.replica import Held, revision
from tests.support.seed import Person, now_ms


def fresh_document(gateway: GatewayProcess, person: Person) -> Held:
    """What a second gateway, started now on the same database, answers to ``GET /api/document``."""
    with gateway.sibling() as second:
        body = second.request("GET", "/api/document", person.token).json()
        return Held(body["data"], body["rev"], body["seq"])


def user_document(foreign: ForeignWriter, user: str, *, at_ms: int | None = None) -> Held:
    """A user's document by the tables, now or at a moment. For users in UTC without an anchor."""
    return _Tables(foreign, now_ms() if at_ms is None else at_ms).user(user)


class _Tables:
    def __init__(self, foreign: ForeignWriter, now: int) -> None:
        self._sql = foreign.execute
        self._now = now

    def user(self, user: str) -> Held:
        columns = (
            "id, username, name, email, plan, status, is_admin, created_at, updated_at, attributes, timezone, anchor_at"
        )
        [row] = self._sql(f"SELECT {columns} FROM users WHERE id = ?", user)
        assert row[10:] == ("UTC", None), "not in this model"
        identity = dict(zip(columns.split(", ")[:10], row[:10], strict=True))
        identity["is_admin"] = bool(identity["is_admin"])
        identity["created_at"], identity["updated_at"] = _time(row[7]), _time(row[8])
        identity["attributes"] = json.loads(row[9])
        active = row[5] == "active"
        data = _without_nulls(
            {
                "identity": identity,
                "permissions": dict.fromkeys(self._permissions(user, row[4]) if active else (), True),
                "quotas": self._quotas(f"user:{user}", row[4], self._overrides(user)),
                "organizations": self._organizations(user, active),
            }
        )
        [(seq,)] = self._sql("SELECT coalesce(max(seq), 0) FROM change_log")
        return Held(data, revision(data), seq)

    def _permissions(self, user: str, plan: str) -> set[str]:
        held = {name for (name,) in self._sql("SELECT permission FROM plan_permissions WHERE plan = ?", plan)}
        held |= {
            name
            for name, ends in self._sql(
                "SELECT permission, expires_at FROM user_roles JOIN role_permissions USING (role) WHERE user_id = ?",
                user,
            )
            if self._in_force(None, ends)
        }
        denied = set()
        rows = self._sql(
            "SELECT permission, effect, starts_at, expires_at FROM user_permissions WHERE user_id = ?", user
        )
        for name, effect, starts, ends in rows:
            if self._in_force(starts, ends):
                (held if effect == "allow" else denied).add(name)
        return held - denied

    def _overrides(self, user: str) -> dict[str, tuple[Any, ...]]:
        rows = self._sql(
            "SELECT quota, limit_value, period, hard, starts_at, expires_at FROM user_quotas WHERE user_id = ?", user
        )
        return {row[0]: row[1:4] for row in rows if self._in_force(row[4], row[5])}

    def _quotas(self, owner: str, plan: str, overrides: dict[str, tuple[Any, ...]]) -> dict[str, Any]:
        rows = self._sql("SELECT quota, limit_value, period, hard FROM plan_quotas WHERE plan = ?", plan)
        limits = {row[0]: row[1:] for row in rows} | overrides
        quotas = {}
        for quota, (limit, period, hard) in limits.items():
            start, end = _period(period, self._now)
            [(used, reserved)] = self._sql(
                "SELECT coalesce(sum(used), 0), coalesce(sum(reserved), 0) FROM quota_usage"
                " WHERE owner = ? AND quota = ? AND period_start BETWEEN ? AND ?",
                *(owner, quota, start, self._now),
            )
            entry = {"used": used, "period": period, "level": _level(limit, used + reserved)}
            if end is not None:
                entry["resets_at"] = _time(end)
            if limit is not None:
                remaining = max(0, limit - used - reserved)
                entry |= {"limit": limit, "reserved": reserved, "remaining": remaining, "hard": bool(hard)}
            quotas[quota] = entry
        return quotas

    def _taken(self, organization: str, user: str, quota: str, period: str) -> int:
        start, _ = _period(period, self._now)
        [(taken,)] = self._sql(
            "SELECT coalesce(sum(used + reserved), 0) FROM member_usage WHERE org_id = ? AND user_id = ? AND quota = ?"
            " AND period_start BETWEEN ? AND ?",
            *(organization, user, quota, start, self._now),
        )
        return int(taken)

    def _organizations(self, user: str, active: bool) -> dict[str, Any]:
        rows = self._sql(
            "SELECT o.id, o.name, o.plan, m.role, o.timezone, o.anchor_at FROM memberships m JOIN organizations o"
            " ON o.id = m.org_id WHERE m.user_id = ? AND o.status = 'active'",
            user,
        )
        organizations = {}
        for id, name, plan, role, timezone, anchor in rows:
            assert (timezone, anchor) == ("UTC", None), "not in this model"
            granted = self._sql("SELECT permission FROM org_role_permissions WHERE role = ?", role) if active else []
            quotas = self._quotas(f"org:{id}", plan, {})
            for quota, cap in self._sql(
                "SELECT quota, limit_value FROM member_caps WHERE org_id = ? AND user_id = ?", id, user
            ):
                if quota in quotas and cap is not None:
                    left = cap - self._taken(id, user, quota, quotas[quota]["period"])
                    quotas[quota] |= {"cap": cap, "cap_remaining": max(0, left)}
            permissions = {permission: True for (permission,) in granted}
            organizations[id] = {"name": name, "role": role, "permissions": permissions, "quotas": quotas}
        return organizations

    def _in_force(self, starts: int | None, ends: int | None) -> bool:
        return (starts is None or starts <= self._now) and (ends is None or self._now < ends)


def _time(ms: int) -> str:
    at = datetime.fromtimestamp(ms // 1000, UTC).replace(microsecond=ms % 1000 * 1000)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _period(period: str, now: int) -> tuple[int, int | None]:
    """The calendar's period in UTC around now, in milliseconds since 1970."""
    at = datetime.fromtimestamp(now // 1000, UTC)
    hour = at.replace(minute=0, second=0)
    day = hour.replace(hour=0)
    match period:
        case "hour":
            start, end = hour, hour + timedelta(hours=1)
        case "day":
            start, end = day, day + timedelta(days=1)
        case "week":
            start = day - timedelta(days=day.weekday())
            end = start + timedelta(days=7)
        case "month":
            start = day.replace(day=1)
            end = (start + timedelta(days=32)).replace(day=1)
        case "year":
            start = day.replace(month=1, day=1)
            end = start.replace(year=start.year + 1)
        case _:
            return 0, None
    return int(start.timestamp()) * 1000, int(end.timestamp()) * 1000


def _level(limit: int | None, taken: int) -> str:
    if limit is None:
        return "ok"
    for word, percent in (("exhausted", 100), ("critical", 95), ("low", 80)):
        if taken * 100 >= limit * percent:
            return word
    return "ok"


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value if item is not None]
    return value
