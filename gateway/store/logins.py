"""Login sessions, their refresh tokens, and the counts of failed logins: all SQL of logging in.

Times are in milliseconds since 1970 UTC. What belongs together is one atomic write, built by the functions here and
made by their callers, who may add statements of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from gateway.core.clock import CLOCK_SKEW_MS, DAY_MS
from gateway.core.principal import Principal
from gateway.errors import GatewayError
from gateway.store.audit import Entry, Lookup, record
from gateway.store.database import Database, Reader, Statement
from gateway.store.guards import Guard, guard
from gateway.store.pruning import PRUNE_GROUP, in_groups

KEEP_SESSIONS_MS = 30 * DAY_MS
"""How long a login session is kept after its end, for those who ask what was there."""
KEEP_TOKENS_MS = DAY_MS
"""How long a refresh token is kept after its end: a clock that goes wrong for an hour must not log everybody out."""
LIFE_STEP_MS = 600_000
"""How much later than the last access token of its kind its life is kept in mind, at the least."""
GRACE_MS = 10_000
"""How long a refresh token that was used still leads to its successor: for a lost answer, and for several tabs."""

# The database's own clock, as the schema has it: one for all nodes, whatever theirs say. That it is set back by no more
# than CLOCK_SKEW_MS does no harm.
_NOW = "CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)"


class AccountRow(NamedTuple):
    """What a login needs to know of a user."""

    id: str
    active: bool
    password_hash: str | None


_ACCOUNT = """
SELECT id, status = 'active', password_hash FROM users WHERE username = ?1 OR email = ?1
ORDER BY username = ?1 DESC LIMIT 1"""


async def read_account(reader: Reader, name: str) -> AccountRow | None:
    """The user with this user name, else with this e-mail address."""
    return await _account(reader, Statement(_ACCOUNT, (name,)))


async def read_account_of(reader: Reader, user_id: str) -> AccountRow | None:
    """The user with this id."""
    sql = "SELECT id, status = 'active', password_hash FROM users WHERE id = ?"
    return await _account(reader, Statement(sql, (user_id,)))


async def _account(reader: Reader, statement: Statement) -> AccountRow | None:
    try:
        [rows] = await reader.read(statement)
    except UnicodeDecodeError:
        return None  # a row that is not text stands for nobody
    return AccountRow(rows[0][0], bool(rows[0][1]), rows[0][2]) if rows else None


# --- sessions and their refresh tokens --------------------------------------------------------------------------------


class NewSession(NamedTuple):
    """A login session as it begins, with its first refresh token; both end at `expires_at`. `instance`: the id of the
    server instance by which the user signs in."""

    id: str
    user: str
    refresh_hash: str
    now: int
    expires_at: int
    address: str
    user_agent: str
    instance: str | None = None


def begin_session(session: NewSession, password_hash: str) -> list[Statement]:
    """Adds the session, unless the user is not active any more or has another password by now: then the first
    statement changes no row."""
    return [
        Statement(
            "INSERT INTO login_sessions(id, user_id, created_at, expires_at, ip, user_agent, last_seen_at, instance_id)"
            " SELECT ?1, id, ?3, ?4, ?5, ?6, ?3, ?8 FROM users"
            " WHERE id = ?2 AND status = 'active' AND password_hash = ?7",
            (
                *(session.id, session.user, session.now, session.expires_at),
                *(session.address, session.user_agent, password_hash, session.instance),
            ),
            must_change=True,
        ),
        Statement(
            "INSERT INTO refresh_tokens(token_hash, session_id, created_at, expires_at) VALUES (?, ?, ?, ?)",
            (session.refresh_hash, session.id, session.now, session.expires_at),
        ),
    ]


def signs_still(caller: Principal, now: int, refusal: GatewayError) -> Guard:
    """A guard that holds where the key of an instance is in force at `now`, and the instance is active."""
    key = "SELECT 1 FROM instance_keys WHERE id = ?2 AND instance_id = ?1 AND coalesce(expires_at > ?3, 1)"
    condition = f"id = ?1 AND status = 'active' AND EXISTS ({key})"
    return guard("instances", condition, (caller.id, caller.credential_id, now), refusal)


_LIFE = """
INSERT INTO access_token_lives(life_ms, until) VALUES (?1, ?2 + 2 * ?3)
ON CONFLICT(life_ms) DO UPDATE SET until = excluded.until WHERE until < ?2 + ?3"""


def note_life(life_ms: int, expires_at: int) -> Statement:
    """Writes down that an access token which may live for `life_ms` ends at `expires_at`, and others like it a little
    later: so it changes something once in ten minutes."""
    return Statement(_LIFE, (life_ms, expires_at, LIFE_STEP_MS))


async def longest_life(reader: Reader, now: int, own_ms: int) -> int:
    """How long an access token may live that is in force at `now`, and what two clocks may differ by: `own_ms` by this
    node's setting, and longer where some are left that were issued by another one."""
    sql = "SELECT max(?1, coalesce(max(life_ms) + ?3, 0)) FROM access_token_lives WHERE until > ?2 - ?3"
    [[(life_ms,)]] = await reader.read(Statement(sql, (own_ms, now, CLOCK_SKEW_MS)))
    return int(life_ms)


def replace_password(user_id: str, old: str, new: str, *, must_change: bool = True) -> Statement:
    """Stores another hash for as long as `old` is there."""
    sql = "UPDATE users SET password_hash = ? WHERE id = ? AND password_hash = ?"
    return Statement(sql, (new, user_id, old), must_change)


class Rotation(NamedTuple):
    """One use of a refresh token: `salt` leads from it to its successor, which ends at `expires_at`. `now` is the
    node's clock; when the token was used is written by the database's. `life_ms` and `access_expires_at` are of the
    access token that goes with it."""

    token_hash: str
    salt: bytes
    successor_hash: str
    now: int
    expires_at: int
    address: str
    user_agent: str
    life_ms: int
    access_expires_at: int


class Rotated(NamedTuple):
    """Whose token was used, and the `seq` of the commit."""

    user: str
    session: str
    seq: int


_IN_FORCE = """
EXISTS (SELECT 1 FROM login_sessions AS s JOIN users AS u ON u.id = s.user_id WHERE s.id = refresh_tokens.session_id
  AND s.revoked_at IS NULL AND s.expires_at > ?3 AND u.status = 'active')"""
_USE = f"""
UPDATE refresh_tokens SET used_at = {_NOW}, salt = ?2
WHERE token_hash = ?1 AND used_at IS NULL AND expires_at > ?3 AND {_IN_FORCE}"""  # noqa: S608 - no input in it
_SUCCEED = """
INSERT INTO refresh_tokens(token_hash, session_id, created_at, expires_at)
SELECT ?2, session_id, ?3, ?4 FROM refresh_tokens WHERE token_hash = ?1"""
_PROLONG = """
UPDATE login_sessions SET expires_at = ?2, last_seen_at = ?3, ip = ?4, user_agent = ?5
WHERE id = (SELECT session_id FROM refresh_tokens WHERE token_hash = ?1) RETURNING user_id, id"""


async def rotate(db: Database, rotation: Rotation) -> Rotated:
    """Use a refresh token up, add its successor and prolong the session: one atomic write.

    NoRowChanged when it is unknown, used, ended, or its session or user is not in force.
    """
    token, now = rotation.token_hash, rotation.now
    written = await db.write(
        Statement(_USE, (token, rotation.salt, now), must_change=True),
        Statement(_SUCCEED, (token, rotation.successor_hash, now, rotation.expires_at), must_change=True),
        Statement(_PROLONG, (token, rotation.expires_at, now, rotation.address, rotation.user_agent), must_change=True),
        note_life(rotation.life_ms, rotation.access_expires_at),
    )
    user, session = written.rows[2][0]
    return Rotated(user, session, written.seq)


class RefreshRow(NamedTuple):
    """A refresh token as it is stored; `in_force`: its session and user are, and it has not ended itself.

    `used_at` and `read_at` are by the database's clock: so all nodes agree on how long ago it was used.
    """

    user: str
    session: str
    used_at: int | None
    salt: bytes | None
    in_force: bool
    read_at: int


_REFRESH = f"""
SELECT s.user_id, s.id, t.used_at, t.salt,
  s.revoked_at IS NULL AND s.expires_at > ?2 AND u.status = 'active' AND t.expires_at > ?2, {_NOW}
FROM refresh_tokens AS t JOIN login_sessions AS s ON s.id = t.session_id JOIN users AS u ON u.id = s.user_id
WHERE t.token_hash = ?1"""  # noqa: S608 - no input in it


async def read_refresh(reader: Reader, token_hash: str, now: int) -> RefreshRow | None:
    """What is stored of a refresh token, at the node's `now`; None when it is unknown."""
    [rows] = await reader.read(Statement(_REFRESH, (token_hash, now)))
    if not rows:
        return None
    user, session, used_at, salt, in_force, read_at = rows[0]
    return RefreshRow(user, session, used_at, salt, bool(in_force), read_at)


async def read_refresh_end(reader: Reader, token_hash: str) -> int | None:
    """When a refresh token ends; None when it is unknown."""
    [rows] = await reader.read(Statement("SELECT expires_at FROM refresh_tokens WHERE token_hash = ?", (token_hash,)))
    return rows[0][0] if rows else None


# --- failed logins ----------------------------------------------------------------------------------------------------


class Counted(NamedTuple):
    """What a failure counts against: `own` (an account, a device), locked once it has had `limit` of them, and `others`
    (an address, all)."""

    own: str
    limit: int
    others: tuple[str, ...] = ()


class Failures(NamedTuple):
    """How many failed until now, and when that is forgotten."""

    failures: int
    until: int


# A row is live until `until`. One that would end much later than any row of now was written by a clock that was wrong.
# ?2 is the time, ?3 when a row of now ends, ?4 how much later than that one may end.
_LIVE = "(until > ?2 AND until <= ?3 + ?4)"
_FAILED = f"""
SELECT counted, failures, until FROM login_failures
WHERE counted IN (SELECT value FROM json_each(?1)) AND {_LIVE}"""  # noqa: S608 - no input in it
# The one that reaches the limit, ?5, begins the time for which it is locked; those after it, which were let through
# before, do not prolong it.
_COUNT = f"""
INSERT INTO login_failures(counted, failures, until) SELECT value, 1, ?3 FROM json_each(?1) WHERE true
ON CONFLICT(counted) DO UPDATE SET
  failures = CASE WHEN NOT {_LIVE} THEN 1 ELSE failures + 1 END,
  until = CASE WHEN NOT {_LIVE} OR failures = ?5 - 1 THEN ?3 ELSE until END"""  # noqa: S608 - no input in it
_OPEN = f"""
UPDATE users SET name = name WHERE id = ?1 AND NOT EXISTS (
  SELECT 1 FROM login_failures WHERE counted = ?6 AND failures >= ?5 AND {_LIVE})"""  # noqa: S608 - no input in it


async def read_failures(reader: Reader, keys: Sequence[str], now: int, span_ms: int) -> dict[str, Failures]:
    """What is counted at `now` by each of these, of failures that are forgotten after `span_ms`."""
    [rows] = await reader.read(Statement(_FAILED, (_json(keys), *_times(now, span_ms))))
    return {row[0]: Failures(row[1], row[2]) for row in rows}


def count_failure(counted: Counted, now: int, span_ms: int, entry: Entry) -> list[Statement]:
    """Counts one failure, which is forgotten after `span_ms`, and writes `entry`; with the one that reaches the limit
    once more, as ``locked``."""
    times = _times(now, span_ms)
    locked = Lookup(
        "SELECT 1 FROM login_failures WHERE counted = ? AND failures = ?",
        (counted.own, counted.limit),
    )
    return [
        Statement(_COUNT, (_json([counted.own]), *times, counted.limit)),
        Statement(_COUNT, (_json(counted.others), *times, None)),
        record(entry, now),
        record(entry._replace(outcome="locked"), now, where=locked),
    ]


def still_open(counted: Counted, user_id: str, now: int, span_ms: int) -> Statement:
    """Touches the row of this user, and changes nothing, unless `counted.own` has had its number by now: what a right
    password does hangs on this, so that of any number of attempts at once none succeeds after that."""
    return Statement(_OPEN, (user_id, *_times(now, span_ms), counted.limit, counted.own), must_change=True)


def begin_anew(counted: Counted) -> Statement:
    """Forgets what failed of `counted.own`, and nothing of the others. In one write with `still_open`, without which it
    would open what those failures locked."""
    return Statement("DELETE FROM login_failures WHERE counted = ?", (counted.own,))


def _times(now: int, span_ms: int) -> tuple[int, int, int]:
    return now, now + span_ms, span_ms


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


# --- housekeeping -----------------------------------------------------------------------------------------------------

# What is old enough, by a moment in milliseconds or, of salts, by the milliseconds since their use.
_SALTS = f"SELECT token_hash FROM refresh_tokens WHERE salt IS NOT NULL AND used_at < {_NOW} - ? LIMIT ?"  # noqa: S608
_TOKENS = "SELECT token_hash FROM refresh_tokens WHERE expires_at < ? LIMIT ?"
_FAILURES = "SELECT counted FROM login_failures WHERE until < ? LIMIT ?"
_SESSIONS = "SELECT id FROM login_sessions WHERE expires_at < ? LIMIT ?"
_PRUNING = {
    _SALTS: "UPDATE refresh_tokens SET salt = NULL WHERE token_hash",
    _TOKENS: "DELETE FROM refresh_tokens WHERE token_hash",
    _FAILURES: "DELETE FROM login_failures WHERE counted",
    _SESSIONS: "DELETE FROM login_sessions WHERE id",
}


async def prune_logins(db: Database, now: int) -> int:
    """Erase the salts of refresh tokens whose grace is over, and delete refresh tokens a day after their end, counts of
    failures at theirs and login sessions 30 days after theirs; how many rows that were.

    In commits of 500 rows; in none where there is nothing to do.
    """
    moments = {
        _SALTS: GRACE_MS + CLOCK_SKEW_MS,
        _TOKENS: now - KEEP_TOKENS_MS,
        _FAILURES: now,
        _SESSIONS: now - KEEP_SESSIONS_MS,
    }
    found = await db.read(*(Statement(sql, (moment, 1)) for sql, moment in moments.items()))
    old = [(sql, moment) for (sql, moment), rows in zip(moments.items(), found, strict=True) if rows]
    return sum([await in_groups(db, PRUNE_GROUP, _prune(sql, moment)) for sql, moment in old])


def _prune(found: str, moment: int) -> Statement:
    return Statement(f"{_PRUNING[found]} IN ({found}) RETURNING 1", (moment, PRUNE_GROUP))
