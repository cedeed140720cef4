"""API tokens and login sessions: what a user holds to be let in.

A token's secret is never here, only its hash. How they are revoked is `gateway.store.revocation`'s. Every write is one
atomic write and returns the `seq` of its commit.
"""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.errors import Conflict, NotFound
from gateway.store.audit import Store
from gateway.store.database import Reader, Row, Statement
from gateway.store.guards import guard, guarded_write
from gateway.store.refusals import refusals


class ApiToken(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `api_tokens` without its hash; times in milliseconds since 1970 UTC, `created_at` the database's to
    set.
    """

    id: str
    user_id: str
    name: str = ""
    scopes: dict[str, Any] = {}
    created_at: int = 0
    expires_at: int | None = None
    revoked_at: int | None = None
    last_used_at: int | None = None


class LoginSession(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `login_sessions`; times in milliseconds since 1970 UTC."""

    id: str
    user_id: str
    created_at: int
    expires_at: int
    revoked_at: int | None
    instance_id: str | None
    ip: str | None
    user_agent: str | None
    last_seen_at: int | None


_TOKEN_COLUMNS = "id, user_id, name, scopes, created_at, expires_at, revoked_at, last_used_at"  # noqa: S105
_SESSION_COLUMNS = "id, user_id, created_at, expires_at, revoked_at, instance_id, ip, user_agent, last_seen_at"

MOST_IN_FORCE = 1000
"""How many credentials of one user are listed: nobody has so many but by mistake or mischief."""


def insert_token(token: ApiToken, token_hash: str) -> Statement:
    """The statement that adds `token`, for a write of several."""
    return Statement(
        "INSERT INTO api_tokens (id, user_id, name, token_hash, scopes, expires_at) VALUES (?, ?, ?, ?, ?, ?)",
        (
            *(token.id, token.user_id, token.name, token_hash),
            *(msgspec.json.encode(token.scopes).decode(), token.expires_at),
        ),
    )


async def add_token(db: Store, token: ApiToken, token_hash: str) -> int:
    """Store an API token by the hash of its secret; NotFound when there is no such user."""
    with refusals(missing=f"There is no user {token.user_id}.", taken="There is such a token already."):
        return (await db.write(insert_token(token, token_hash))).seq


async def add_token_within(db: Store, token: ApiToken, token_hash: str, most: int, now: int) -> int:
    """As `add_token`, unless the user has `most` tokens in force at `now` (milliseconds since 1970 UTC): Conflict."""
    room = guard(
        "users",
        "id = ?1 AND (SELECT count(*) FROM api_tokens AS t WHERE t.user_id = ?1 AND t.revoked_at IS NULL"
        " AND (t.expires_at IS NULL OR t.expires_at > ?2)) < ?3",
        (token.user_id, now, most),
        Conflict(f"There are {most} tokens already; revoke one that is not needed."),
    )
    with refusals(missing=f"There is no user {token.user_id}.", taken="There is such a token already."):
        return (await guarded_write(db, [room], insert_token(token, token_hash))).seq


async def find_token(db: Reader, token_hash: str) -> ApiToken:
    """The API token with this hash, in force or not; NotFound when there is none."""
    [rows] = await db.read(Statement(f"SELECT {_TOKEN_COLUMNS} FROM api_tokens WHERE token_hash = ?", (token_hash,)))  # noqa: S608
    if not rows:
        raise NotFound("There is no such token.")
    return _token(rows[0])


async def list_tokens(db: Store, user_id: str | None = None) -> list[ApiToken]:
    """The API tokens of a user, or of everybody, the oldest first; revoked and expired ones too."""
    where, args = _of_user(user_id)
    [rows] = await db.scan(Statement(f"SELECT {_TOKEN_COLUMNS} FROM api_tokens{where} ORDER BY created_at, id", args))  # noqa: S608
    return [_token(row) for row in rows]


async def list_sessions(db: Store, user_id: str | None = None) -> list[LoginSession]:
    """The login sessions of a user, or of everybody, the oldest first; those that ended too."""
    where, args = _of_user(user_id)
    sql = f"SELECT {_SESSION_COLUMNS} FROM login_sessions{where} ORDER BY created_at, id"  # noqa: S608
    [rows] = await db.scan(Statement(sql, args))
    return [_session(row) for row in rows]


def _of_user(user_id: str | None) -> tuple[str, tuple[str, ...]]:
    """The condition that the index on the user finds, or none."""
    return ("", ()) if user_id is None else (" WHERE user_id = ?", (user_id,))


async def tokens_in_force(db: Store, user_id: str, now: int, *, token_id: str | None = None) -> list[ApiToken]:
    """The API tokens of a user in force at `now` (milliseconds since 1970 UTC), the oldest first: the newest
    `MOST_IN_FORCE`, or the one with this id."""
    lasts = "(expires_at IS NULL OR expires_at > ?2)"
    return [_token(row) for row in await _in_force(db, "api_tokens", _TOKEN_COLUMNS, lasts, user_id, now, token_id)]


async def sessions_in_force(db: Store, user_id: str, now: int, *, session_id: str | None = None) -> list[LoginSession]:
    """The same of login sessions."""
    rows = await _in_force(db, "login_sessions", _SESSION_COLUMNS, "expires_at > ?2", user_id, now, session_id)
    return [_session(row) for row in rows]


async def _in_force(
    db: Store, table: str, columns: str, lasts: str, user_id: str, now: int, wanted: str | None
) -> list[Row]:
    one = "" if wanted is None else " AND id = ?4"
    sql = (
        f"SELECT {columns} FROM {table} WHERE user_id = ?1 AND revoked_at IS NULL AND {lasts}{one}"  # noqa: S608
        " ORDER BY created_at DESC, id DESC LIMIT ?3"
    )
    args = (user_id, now, MOST_IN_FORCE, *(() if wanted is None else (wanted,)))
    [rows] = await db.scan(Statement(sql, args))
    return rows[::-1]


def _token(row: Row) -> ApiToken:
    token_id, user_id, name, scopes, created_at, expires_at, revoked_at, last_used_at = row
    return ApiToken(
        id=token_id,
        user_id=user_id,
        name=name,
        scopes=msgspec.json.decode(scopes),
        created_at=created_at,
        expires_at=expires_at,
        revoked_at=revoked_at,
        last_used_at=last_used_at,
    )


def _session(row: Row) -> LoginSession:
    session_id, user_id, created_at, expires_at, revoked_at, instance_id, ip, user_agent, last_seen_at = row
    return LoginSession(
        id=session_id,
        user_id=user_id,
        created_at=created_at,
        expires_at=expires_at,
        revoked_at=revoked_at,
        instance_id=instance_id,
        ip=ip,
        user_agent=user_agent,
        last_seen_at=last_seen_at,
    )


async def set_token_end(db: Store, token_id: str, expires_at: int | None) -> int:
    """Let a token end at `expires_at` (milliseconds since 1970 UTC; None: never); NotFound for an unknown token."""
    with refusals(missing=f"There is no token {token_id}."):
        statement = Statement(
            "UPDATE api_tokens SET expires_at = ? WHERE id = ?", (expires_at, token_id), must_change=True
        )
        return (await db.write(statement)).seq
