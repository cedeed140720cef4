"""Users, plans and tokens for tests that run the gateway's objects in process, by plain SQL."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Sequence
from typing import Any

from gateway.core.tokens import hash_token, new_api_token
from gateway.store.database import Database, Statement

_numbers = itertools.count(1)


def insert(table: str, **columns: Any) -> Statement:
    """One new row."""
    names, marks = ", ".join(columns), ", ".join("?" * len(columns))
    return Statement(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(columns.values()))


def token_text(seed: object = None) -> str:
    """A well-formed API token: always the same for a seed, else one that no other test has."""
    name = f"number {next(_numbers)}" if seed is None else f"seed {seed}"
    return new_api_token(hashlib.sha256(name.encode()).digest())


def add_plan(
    id: str, permissions: Sequence[str] = (), **quotas: int | tuple[int | None, str] | None
) -> list[Statement]:
    """A plan; a quota is its limit for a month, or limit and period."""
    statements = [insert("plans", id=id)]
    statements += [insert("plan_permissions", plan=id, permission=permission) for permission in permissions]
    for quota, limit in quotas.items():
        value, period = limit if isinstance(limit, tuple) else (limit, "month")
        statements.append(insert("plan_quotas", plan=id, quota=quota, limit_value=value, period=period))
    return statements


def add_user(id: str, plan: str = "free", **columns: Any) -> Statement:
    """A user whose user name is the id."""
    return insert("users", **{"id": id, "username": id, "plan": plan} | columns)


def add_token(user: str, text: str, *, id: str = "", scopes: Any = None, **columns: Any) -> Statement:
    """An API token of a user; its row's id is ``t_USER`` unless told otherwise."""
    return insert(
        "api_tokens",
        **{"id": id or f"t_{user}", "user_id": user, "token_hash": hash_token(text)}
        | ({} if scopes is None else {"scopes": json.dumps(scopes)})
        | columns,
    )


async def run(database: Database, sql: str, *args: Any) -> int:
    """One statement as a commit; its `seq`."""
    return (await database.write(Statement(sql, args))).seq
