"""The users of a benchmark's database: who they are, and how the foreign writer puts them there.

Index `i` names user, token and session everywhere in the benchmark.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.core.tokens import hash_token, new_api_token

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

PLAN = "bench"
PERMISSIONS = ("can_use_sms", "can_use_video", "can_use_voice")
QUOTAS = (("sms_messages", 1_000), ("voice_minutes", 500))
FIRST_LIMIT = 500
CHUNK = 1_000

MARK = "UPDATE users SET name = ? WHERE id = ?"
MARK_AND_PAD = "UPDATE users SET name = ?, attributes = json_object('pad', ?) WHERE id = ?"
REVOKE = "UPDATE api_tokens SET revoked_at = ? WHERE id = ?"
REVOKE_SESSION = "UPDATE login_sessions SET revoked_at = ? WHERE user_id = ? AND revoked_at IS NULL"
DISABLE = "UPDATE users SET status = 'disabled' WHERE id = ?"
DENY = "INSERT INTO user_permissions (user_id, permission, effect) VALUES (?, ?, 'deny')"
DROP_INSTANCE = "DELETE FROM instances WHERE id = ?"
INSTANCE = "INSERT INTO instances (id, name) VALUES (?, 'Bench')"
INSTANCE_KEY = "INSERT INTO instance_keys (id, instance_id, secret) VALUES (?, ?, ?)"
LIMIT = "UPDATE plan_quotas SET limit_value = ? WHERE plan = ? AND quota = ?"


def user_id(index: int) -> str:
    """The id of user `index`."""
    return f"u_{index:06}"


def username(index: int) -> str:
    """The name that user `index` logs in with."""
    return f"user{index:06}"


def token_id(index: int) -> str:
    """The id of the API token of user `index`."""
    return f"t_{index:06}"


def change_of(how: str, user: int, now: int) -> tuple[str, tuple[str | int, ...]]:
    """The statement that ends a user's only login (`how` is ``revoke``), disables the user (``disable``) or takes the
    last of `PERMISSIONS` away (``deny``), with its arguments; `now` is in ms since 1970 UTC.
    """
    if how == "revoke":
        return REVOKE_SESSION, (now, user_id(user))
    if how == "disable":
        return DISABLE, (user_id(user),)
    return DENY, (user_id(user), PERMISSIONS[-1])


def read_tokens(path: Path) -> list[str]:
    """The API tokens that `populate` wrote, in the order of their users."""
    return path.read_text().split()


def new_tokens(count: int, path: Path) -> list[str]:
    """New API tokens of so many users, written to `path`, one a line."""
    secrets = [new_api_token(os.urandom(32)) for _ in range(count)]
    path.write_text("\n".join(secrets))
    return secrets


def populate(connection: sqlite3.Connection, count: int, tokens: Path) -> Iterator[int]:
    """Insert the plan and `count` users with one API token each; yields how many there are after every transaction.

    The tokens themselves are written to `tokens`, one a line: the database holds their hashes alone.
    """
    secrets = new_tokens(count, tokens)
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO plans (id, name) VALUES (?, ?)", (PLAN, "Bench"))
    connection.executemany(
        "INSERT INTO plan_permissions (plan, permission) VALUES (?, ?)", [(PLAN, p) for p in PERMISSIONS]
    )
    connection.executemany(
        "INSERT INTO plan_quotas (plan, quota, limit_value, period, hard) VALUES (?, ?, ?, 'month', 1)",
        [(PLAN, quota, limit) for quota, limit in QUOTAS],
    )
    connection.execute("COMMIT")
    for start in range(0, count, CHUNK):
        chunk = range(start, min(start + CHUNK, count))
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(
            "INSERT INTO users (id, username, name, plan) VALUES (?, ?, ?, ?)",
            [(user_id(i), username(i), f"User {i:06}", PLAN) for i in chunk],
        )
        connection.executemany(
            "INSERT INTO api_tokens (id, user_id, name, token_hash) VALUES (?, ?, 'bench', ?)",
            [(token_id(i), user_id(i), hash_token(secrets[i])) for i in chunk],
        )
        connection.execute("COMMIT")
        yield chunk.stop
