"""Looks up what credentials stand for, many at a time, and which login sessions stand for nothing any more."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import NamedTuple

import msgspec

from gateway.store.database import Database, Reader, Row, Statement


class TokenRow(NamedTuple):
    """An API token that is not revoked, of a user who is active. `expires_at`, `last_used_at` in milliseconds since
    1970 UTC.
    """

    id: str
    user_id: str
    token_hash: str
    expires_at: int | None
    scopes: str
    last_used_at: int | None


_COLUMNS = "t.id, t.user_id, t.token_hash, t.expires_at, t.scopes, t.last_used_at"
_BY_HASH = f"""
SELECT t.token_hash, {_COLUMNS}
FROM json_each(?1) AS wanted CROSS JOIN api_tokens AS t ON t.token_hash = wanted.value
JOIN users AS u ON u.id = t.user_id
WHERE t.revoked_at IS NULL AND u.status = 'active'"""  # noqa: S608 - no input in it
_BY_ID = f"""
SELECT t.id, {_COLUMNS}
FROM json_each(?1) AS wanted CROSS JOIN api_tokens AS t ON t.id = wanted.value
JOIN users AS u ON u.id = t.user_id
WHERE t.revoked_at IS NULL AND u.status = 'active'"""  # noqa: S608 - no input in it


async def tokens_by_hash(reader: Reader, hashes: Iterable[str]) -> dict[str, TokenRow]:
    """The tokens with these hashes (SHA-256, hexadecimal) that are in force but for their end."""
    return {key: TokenRow(*row) for key, row in (await _rows_by_key(reader, _BY_HASH, list(hashes))).items()}


async def tokens_by_id(reader: Reader, ids: Iterable[str]) -> dict[str, TokenRow]:
    """The same by id, to see whether what was accepted once still holds."""
    return {key: TokenRow(*row) for key, row in (await _rows_by_key(reader, _BY_ID, list(ids))).items()}


def token_by_id(token_id: str) -> Statement:
    """Reads one such token, for a write of several statements: the columns of `TokenRow`."""
    sql = f"SELECT {_COLUMNS} FROM api_tokens AS t JOIN users AS u ON u.id = t.user_id"  # noqa: S608 - no input in it
    return Statement(f"{sql} WHERE t.id = ? AND t.revoked_at IS NULL AND u.status = 'active'", (token_id,))


_USED = """
UPDATE api_tokens SET last_used_at = used.value FROM json_each(?1) AS used WHERE api_tokens.id = used.key"""


async def record_use(database: Database, used: dict[str, int]) -> None:
    """Note when tokens were used last: ``{token id: milliseconds since 1970 UTC}``.

    The change log has it as `use`, which no document and no right hangs on.
    """
    await database.write(Statement(_USED, (msgspec.json.encode(used).decode(),)))


# --- login sessions ---


class SessionRow(NamedTuple):
    """A login session. `in_force`: not revoked, and its user is active; `expires_at` in milliseconds since 1970 UTC."""

    user_id: str
    expires_at: int
    in_force: bool


_SESSION_COLUMNS = """s.user_id, s.expires_at,
s.revoked_at IS NULL AND EXISTS (SELECT 1 FROM users AS u WHERE u.id = s.user_id AND u.status = 'active')"""
_SESSIONS_BY_ID = f"""
SELECT s.id, {_SESSION_COLUMNS}
FROM json_each(?1) AS wanted CROSS JOIN login_sessions AS s ON s.id = wanted.value"""  # noqa: S608 - no input in it


async def sessions_by_id(reader: Reader, ids: Iterable[str]) -> dict[str, SessionRow]:
    """The login sessions with these ids that there are, in force or not."""
    return {key: session_row(row) for key, row in (await _rows_by_key(reader, _SESSIONS_BY_ID, list(ids))).items()}


def session_by_id(session_id: str) -> Statement:
    """Reads one login session, for a write of several statements; its row is for `session_row`."""
    sql = f"SELECT {_SESSION_COLUMNS} FROM login_sessions AS s WHERE s.id = ?"  # noqa: S608 - no input in it
    return Statement(sql, (session_id,))


def session_row(row: Row) -> SessionRow:
    """What the statements here read of a login session."""
    user_id, expires_at, in_force = row
    return SessionRow(user_id, expires_at, bool(in_force))


async def _rows_by_key(reader: Reader, sql: str, keys: Sequence[str]) -> dict[str, Row]:
    """The rows by their first column, which is one of `keys`."""
    found: dict[str, Row] = {}
    try:
        [rows] = await reader.read(Statement(sql, (msgspec.json.encode(keys).decode(),)))
    except UnicodeDecodeError:
        # A row that is not text stands for nobody, and keeps nobody out.
        for key in keys if len(keys) > 1 else ():
            found |= await _rows_by_key(reader, sql, (key,))
        return found
    for row in rows:
        found[row[0]] = row[1:]
    return found


# --- what is void ---


class Voids(NamedTuple):
    """What stands for nothing of some users' logins: `users` are not active or not there; `sessions` are ``(user,
    session, since)``, milliseconds since 1970 UTC, 0 where it was revoked, and may come twice.
    """

    users: set[str]
    sessions: list[tuple[str, str, int]]


# Texts come as bytes: one that is not UTF-8 is nobody whom a token could name, and must not hide the others.
_INACTIVE = """
SELECT CAST(wanted.value AS BLOB) FROM json_each(?1) AS wanted
WHERE NOT EXISTS (SELECT 1 FROM users AS u WHERE u.id = wanted.value AND u.status = 'active')"""
# A session in force is right: a trigger that was dropped may have left the table of revocations behind. What ended so
# long ago that no token of it is in force is left out; the revocations have the latest end that a token may have.
_VOID = """
SELECT CAST(r.user_id AS BLOB), CAST(r.id AS BLOB), 0
FROM json_each(?1) AS wanted CROSS JOIN revocations AS r ON r.user_id = wanted.value
WHERE r.kind = 'login_session' AND r.expires_at > ?2 - ?3 AND NOT EXISTS (
  SELECT 1 FROM login_sessions AS s
  WHERE s.id = r.id AND s.user_id = r.user_id AND s.revoked_at IS NULL AND s.expires_at > ?2)
UNION ALL
SELECT CAST(s.user_id AS BLOB), CAST(s.id AS BLOB), iif(s.revoked_at IS NULL, s.expires_at, 0)
FROM json_each(?1) AS wanted CROSS JOIN login_sessions AS s ON s.user_id = wanted.value
WHERE (s.revoked_at IS NOT NULL OR s.expires_at <= ?2 + ?3) AND s.expires_at > ?2 - ?3"""


async def read_voids(reader: Reader, users: Sequence[str], now: int, life_ms: int) -> Voids:
    """What is void of these users' logins, of one moment. `life_ms`: how long the longest access token lives; a session
    that ends within that time is told of too, for a token may be older than its end."""
    names = msgspec.json.encode(users).decode()
    inactive, void = await reader.read(Statement(_INACTIVE, (names,)), Statement(_VOID, (names, now, life_ms)))
    return Voids(
        {_text(user) for (user,) in inactive}, [(_text(user), _text(session), since) for user, session, since in void]
    )


VOID_PAGE = 1_000
"""Rows looked at in one read: a file is read on the event loop."""
_REVOKED_USERS = """
SELECT DISTINCT CAST(user_id AS BLOB) FROM revocations
WHERE user_id > CAST(?1 AS TEXT) AND kind = 'login_session' AND expires_at > ?2 ORDER BY user_id LIMIT ?3"""
_VOID_PAGE = """
WITH page AS MATERIALIZED (
  SELECT rowid AS place, user_id, expires_at, revoked_at FROM login_sessions
  WHERE (expires_at, rowid) > (?1, ?2) ORDER BY expires_at, rowid LIMIT ?4)
SELECT expires_at, place, CAST(user_id AS BLOB), revoked_at IS NOT NULL OR expires_at <= ?3
  OR NOT EXISTS (SELECT 1 FROM users AS u WHERE u.id = user_id AND u.status = 'active') AS void
FROM page WHERE void OR place = (SELECT place FROM page ORDER BY expires_at DESC, place DESC LIMIT 1)
ORDER BY expires_at, place"""


async def users_with_voids(reader: Reader, now: int, life_ms: int) -> AsyncIterator[list[str]]:
    """Everybody of whom something is void that could still be shown, by the revocations and by the sessions themselves;
    page by page, so a user may come twice."""
    after = b""
    while True:
        [rows] = await reader.read(Statement(_REVOKED_USERS, (after, now - life_ms, VOID_PAGE)))
        yield [_text(user) for (user,) in rows]
        if len(rows) < VOID_PAGE:
            break
        after = rows[-1][0]
    place = (now - life_ms, 0)
    while True:
        [rows] = await reader.read(Statement(_VOID_PAGE, (*place, now + life_ms, VOID_PAGE)))
        if not rows:
            return
        yield [_text(user) for _, _, user, void in rows if void]
        place = rows[-1][:2]


def _text(raw: bytes) -> str:
    return raw.decode(errors="replace")
