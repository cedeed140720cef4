"""API tokens and login sessions: what a user holds to be let in.

A token's secret is never here, only its hash. How they are revoked is `gateway.store.revocation`'s. Every write is one
atomic write and returns the `seq` of its commit.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from gateway.core.clock import DAY_MS
from gateway.core.principal import CredentialKind, Principal
from gateway.errors import AuthFailed, Conflict, GatewayError, NotFound, RateLimited
from gateway.store.audit import Store
from gateway.store.database import Reader, Row, Statement
from gateway.store.driver import Value
from gateway.store.foreign_text import place_after, read_shown, scopes_of
from gateway.store.guards import Guard, guard, guarded_write
from gateway.store.refusals import refusals

TOO_MANY_RETRY_AFTER_S = 3600.0


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


class Place(NamedTuple):
    """A place in a list of credentials, the oldest first: `created_at` (milliseconds since 1970 UTC) and id of one."""

    created_at: int
    id: str


_TOKEN_COLUMNS = "id, user_id, name, scopes, created_at, expires_at, revoked_at, last_used_at"  # noqa: S105
_SESSION_COLUMNS = "id, user_id, created_at, expires_at, revoked_at, instance_id, ip, user_agent, last_seen_at"
_TABLES = {CredentialKind.API_TOKEN: "api_tokens", CredentialKind.LOGIN_SESSION: "login_sessions"}


# --- what a write may hang on ---

_IN_FORCE = "c.user_id = ?1 AND c.id = ?2 AND c.revoked_at IS NULL AND (c.expires_at IS NULL OR c.expires_at > ?3)"
_SAME_TOKEN = "c.token_hash = ?4"  # noqa: S105 - SQL, not a secret
_SAME_KEY = (
    "(?4 = '' OR EXISTS (SELECT 1 FROM signing_keys AS k"
    " WHERE k.kid = ?4 AND (k.verifies_until IS NULL OR k.verifies_until > ?3)))"
)


def in_force(kind: CredentialKind, credential_id: str, user_id: str, now: int, refusal: GatewayError) -> Guard:
    """A guard that holds where a user has this credential, and it is neither revoked nor at its end at `now`
    (milliseconds since 1970 UTC)."""
    condition = f"id = ?1 AND EXISTS (SELECT 1 FROM {_TABLES[kind]} AS c WHERE {_IN_FORCE})"  # noqa: S608 - no input
    return guard("users", condition, (user_id, credential_id, now), refusal)


def credential_holds(caller: Principal, now: int) -> Guard:
    """A guard that holds where the credential of a user who asks is still good at `now` (milliseconds since 1970 UTC),
    with the secret or key that it was checked with, and not narrowed since; AuthFailed where not.

    For whatever outlives the credential: a revocation may be committed after the caller was checked, and other nodes
    have not heard of it for a moment. An access token and a ticket hold with their login session.
    """
    same = _SAME_KEY
    if caller.credential_kind is CredentialKind.API_TOKEN:
        same = _SAME_TOKEN if caller.permissions is not None else f"{_SAME_TOKEN} AND c.scopes = '{{}}'"
    table = _TABLES[caller.credential_kind]
    holds = f"EXISTS (SELECT 1 FROM {table} AS c WHERE {_IN_FORCE} AND {same})"  # noqa: S608 - no input in it
    args = (caller.id, caller.credential_id, now, caller.credential_mark)
    return guard("users", f"id = ?1 AND status = 'active' AND {holds}", args, AuthFailed("The token is not valid."))


async def owner_of(db: Reader, kind: CredentialKind, credential_id: str) -> str:
    """The id of the user whose credential this is; NotFound when there is none."""
    [rows] = await db.read(Statement(f"SELECT user_id FROM {_TABLES[kind]} WHERE id = ?", (credential_id,)))  # noqa: S608
    if not rows:
        what = "session" if kind is CredentialKind.LOGIN_SESSION else "token"
        raise NotFound(f"There is no such {what}.")
    return str(rows[0][0])


# --- API tokens and login sessions ---


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


class TokenBounds(NamedTuple):
    """How many API tokens a user may have in force, and have made within a day, the revoked ones too: instances are
    told of each that is revoked, and what one user revokes must not crowd out what others do."""

    in_force: int
    made_in_a_day: int


async def add_token_for(
    db: Store, caller: Principal, token: ApiToken, token_hash: str, bounds: TokenBounds, now: int
) -> int:
    """As `add_token`, for a caller whose credential holds at `now` (milliseconds since 1970 UTC), else AuthFailed; and
    unless the token's user has too many in force, Conflict, or made too many within a day, RateLimited."""
    of_user = "id = ?1 AND (SELECT count(*) FROM api_tokens AS t WHERE t.user_id = ?1 AND"
    room = guard(
        "users",
        f"{of_user} t.revoked_at IS NULL AND (t.expires_at IS NULL OR t.expires_at > ?2)) < ?3",
        (token.user_id, now, bounds.in_force),
        Conflict(f"There are {bounds.in_force} tokens already; revoke one that is not needed."),
    )
    text = f"{bounds.made_in_a_day} tokens were made within a day; that is enough."
    calm = guard(
        "users",
        f"{of_user} t.created_at > ?2) < ?3",
        (token.user_id, now - DAY_MS, bounds.made_in_a_day),
        RateLimited(text, retry_after_s=TOO_MANY_RETRY_AFTER_S),
    )
    guards = [credential_holds(caller, now), room, calm]
    with refusals(missing=f"There is no user {token.user_id}.", taken="There is such a token already."):
        return (await guarded_write(db, guards, insert_token(token, token_hash))).seq


async def find_token(db: Reader, token_hash: str) -> ApiToken:
    """The API token with this hash, in force or not; NotFound when there is none."""
    sql = f"SELECT {_TOKEN_COLUMNS} FROM api_tokens WHERE token_hash = ?"  # noqa: S608
    [rows] = await read_shown(db.read, Statement(sql, (token_hash,)))
    if not rows:
        raise NotFound("There is no such token.")
    return _token(rows[0])


async def list_tokens(
    db: Store,
    user_id: str | None = None,
    *,
    in_force_at: int | None = None,
    after: Place | None = None,
    limit: int | None = None,
) -> list[ApiToken]:
    """The API tokens of a user, or of everybody, the oldest first; revoked and expired ones too, unless `in_force_at`
    (milliseconds since 1970 UTC) asks for those in force then. At most `limit`, of those behind the place `after`.
    """
    [rows] = await _list(db, "api_tokens", _TOKEN_COLUMNS, user_id, in_force_at, after, limit)
    return [_token(row) for row in rows]


async def list_sessions(
    db: Store,
    user_id: str | None = None,
    *,
    in_force_at: int | None = None,
    after: Place | None = None,
    limit: int | None = None,
) -> list[LoginSession]:
    """The same of login sessions."""
    [rows] = await _list(db, "login_sessions", _SESSION_COLUMNS, user_id, in_force_at, after, limit)
    return [_session(row) for row in rows]


async def _list(
    db: Store,
    table: str,
    columns: str,
    user_id: str | None,
    in_force_at: int | None,
    after: Place | None,
    limit: int | None,
) -> list[list[Row]]:
    conditions, args = ["true"], list[Value]()
    if user_id is not None:
        conditions.append("user_id = ?")
        args.append(user_id)
    if in_force_at is not None:
        conditions.append("revoked_at IS NULL AND (expires_at IS NULL OR expires_at > ?)")
        args.append(in_force_at)
    if after is not None:
        conditions.append("(created_at, id) > (?, CAST(? AS TEXT))")
        args += [after.created_at, await place_after(db.scan, table, "id", after.id)]
    where = " AND ".join(conditions)
    sql = f"SELECT {columns} FROM {table} WHERE {where} ORDER BY created_at, id LIMIT ?"  # noqa: S608 - no input in it
    return await read_shown(db.scan, Statement(sql, (*args, -1 if limit is None else limit)))


def _token(row: Row) -> ApiToken:
    token_id, user_id, name, scopes, created_at, expires_at, revoked_at, last_used_at = row
    return ApiToken(
        id=token_id,
        user_id=user_id,
        name=name,
        scopes=scopes_of(scopes),
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
