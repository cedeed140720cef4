"""Reads the plans and roles that documents share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gateway.core.facts import Catalog, Plan
from gateway.core.quotas import Limit
from gateway.store.database import Row, Snapshot, Statement
from gateway.store.documents import by_first_column


async def load_catalog(snapshot: Snapshot) -> Catalog:
    """Read all plans and roles; organizations are loaded as documents mention them.

    Names are read as bytes: one that is not UTF-8, which nobody can have, does not keep the others from being read.
    """
    answers = await snapshot.read(
        Statement("SELECT CAST(id AS BLOB) FROM plans"),
        Statement("SELECT CAST(plan AS BLOB), CAST(permission AS BLOB) FROM plan_permissions"),
        Statement("SELECT CAST(plan AS BLOB), CAST(quota AS BLOB), limit_value, period, hard FROM plan_quotas"),
        Statement("SELECT CAST(id AS BLOB) FROM roles"),
        Statement("SELECT CAST(role AS BLOB), CAST(permission AS BLOB) FROM role_permissions"),
        Statement("SELECT CAST(role AS BLOB), CAST(permission AS BLOB) FROM org_role_permissions"),
    )
    plans, permissions, quotas, roles, granted, organization_roles = map(decoded, answers)
    catalog = Catalog()
    permissions_of = by_first_column(permissions)
    quotas_of = by_first_column(quotas)
    granted_to = by_first_column(granted)
    key: Any
    for (key,) in plans:
        catalog.plans[key] = _plan(permissions_of.get(key, []), quotas_of.get(key, []))
    for (key,) in roles:
        catalog.roles[key] = _names(granted_to.get(key, []))
    for key, rows in by_first_column(organization_roles).items():
        catalog.organization_roles[key] = _names(rows)
    return catalog


def decoded(rows: list[Row]) -> list[Row]:
    """Rows whose texts were read as bytes, with U+FFFD where they are not UTF-8."""
    return [tuple(v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in row) for row in rows]


def _plan(permissions: list[Row], quotas: list[Row]) -> Plan:
    limits: dict[Any, Limit] = {}
    for _, quota, limit_value, period, hard in quotas:
        limits[quota] = Limit(limit_value, period, bool(hard))
    return Plan(_names(permissions), limits)


def _names(rows: Iterable[Row]) -> frozenset[str]:
    return frozenset(row[1] for row in rows)
