"""A user's quotas as the document tells them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from client_sdk.wire import Reply


class Quota(msgspec.Struct, frozen=True):
    """One quota. `limit` and `remaining` are None when it is unlimited, `resets_at` (RFC 3339, UTC) when it never
    resets.

    `level` is ``ok``, ``low`` (80 % taken), ``critical`` (95 %) or ``exhausted``. A limit that is not `hard` may be
    passed. Of an organization's pool `cap` is how much this member may take of it in a period, and `cap_remaining` what
    is left of that; None without a cap.
    """

    used: int = 0
    reserved: int = 0
    limit: int | None = None
    remaining: int | None = None
    period: str = ""
    hard: bool = False
    resets_at: str | None = None
    level: str = "ok"
    cap: int | None = None
    cap_remaining: int | None = None


class Balance(Quota, frozen=True, kw_only=True):
    """What a quota stands at after something was spent. `quota` is its name, `org` the organization whose pool it is,
    `seq` the position of that commit in the change log: `Channel.wait_for` waits until the document shows it.
    """

    quota: str = ""
    org: str | None = None
    seq: int = 0


def balance_of(reply: Reply) -> Balance:
    """The balance that a reply tells of."""
    return msgspec.convert(reply, Balance, from_attributes=True)


def quotas_of(document: Mapping[str, Any]) -> dict[str, Quota]:
    """The quotas of a user's or an organization's document, by name."""
    return {name: msgspec.convert(entry, Quota) for name, entry in document.get("quotas", {}).items()}


def permissions_of(document: Mapping[str, Any]) -> frozenset[str]:
    """The permissions that a user's document grants."""
    return frozenset(name for name, granted in document.get("permissions", {}).items() if granted is True)
