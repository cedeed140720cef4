"""A user's quotas as the document tells them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec


class Quota(msgspec.Struct, frozen=True):
    """One quota. `limit` and `remaining` are None when it is unlimited, `resets_at` (RFC 3339, UTC) when it never
    resets.

    `level` is ``ok``, ``low`` (80 % taken), ``critical`` (95 %) or ``exhausted``. A limit that is not `hard` may be
    passed.
    """

    used: int = 0
    reserved: int = 0
    limit: int | None = None
    remaining: int | None = None
    period: str = ""
    hard: bool = False
    resets_at: str | None = None
    level: str = "ok"


def quotas_of(document: Mapping[str, Any]) -> dict[str, Quota]:
    """The quotas of a user's or an organization's document, by name."""
    return {name: msgspec.convert(entry, Quota) for name, entry in document.get("quotas", {}).items()}


def permissions_of(document: Mapping[str, Any]) -> frozenset[str]:
    """The permissions that a user's document grants."""
    return frozenset(name for name, granted in document.get("permissions", {}).items() if granted is True)
