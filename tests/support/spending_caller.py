"""What is spent, held and left, asked by HTTP and looked up in the database."""

from __future__ import annotations

import itertools
from typing import Any
from urllib.parse import quote

from tests.support.api_caller import ApiCaller, Json, rows

CONSUME = "/api/quotas/voice_minutes/consume"
LEASES = "/api/quotas/voice_minutes/leases"

_numbers = itertools.count(1)


def next_key() -> str:
    """A key that nobody used."""
    return f"key {next(_numbers)}"


def spend(caller: ApiCaller, amount: int = 1, path: str = CONSUME, **fields: Any) -> Json:
    """What is answered to units taken under a new key."""
    return caller.done("POST", path, {"amount": amount, "key": next_key(), **fields})


def reserve(caller: ApiCaller, lease: str = "call", amount: int = 10, *, status: int = 201, **fields: Any) -> Json:
    """What is answered to units reserved for a minute."""
    return caller.done("POST", LEASES, {"lease": lease, "amount": amount, "ttl_s": 60, **fields}, status=status)


def place(lease: str = "call", action: str = "", quota: str = "voice_minutes") -> str:
    """The path of a lease, or of what is done to it."""
    return f"/api/quotas/{quota}/leases/{quote(lease, safe='')}" + (f"/{action}" if action else "")


def written(caller: ApiCaller, text: str | bytes, path: str = CONSUME, **headers: str) -> Any:
    """The response to a body as it is written, under a new key."""
    sent = caller.headers | {"content-type": "application/json", "idempotency-key": next_key()} | headers
    return caller.site.client.post(path, content=text, headers=sent)


def taken(site: Any) -> list[tuple[Any, ...]]:
    """All balances, and how many entries the ledger has."""
    balances = rows(site, "SELECT owner, quota, used, reserved FROM quota_usage ORDER BY 1, 2")
    return [*balances, *rows(site, "SELECT count(*) FROM quota_ledger")]


def held(site: Any) -> list[tuple[Any, ...]]:
    """All balances, how many entries the ledger has, and all leases."""
    return [*taken(site), *rows(site, "SELECT * FROM leases ORDER BY 1, 2")]


def balance(site: Any, owner: str = "user:u_ada") -> tuple[Any, ...]:
    """What is used, and what is reserved."""
    [found] = rows(
        site, "SELECT coalesce(sum(used), 0), coalesce(sum(reserved), 0) FROM quota_usage WHERE owner = ?", owner
    )
    return found
