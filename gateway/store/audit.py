"""The audit trail: who did what to whom, from where, and how it came out.

An entry is committed with what it tells of, or not at all; triggers refuse to change one, and to delete one that is
not older than what pruning says. No entry holds a secret.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, NamedTuple, Protocol, get_args

import msgspec

from gateway.core.clock import DAY_MS
from gateway.errors import NoRowChanged
from gateway.store.driver import Reader, Row, Snapshot, Statement, Value, Written
from gateway.store.foreign_text import read_shown
from gateway.store.pruning import PRUNE_GROUP, in_groups

Action = Literal[
    "session.login",
    "session.login_failed",
    "session.refresh_reused",
    "session.logout",
    "session.revoke",
    "token.issue",
    "token.revoke",
    "password.change",
    "password.change_failed",
    "password.reset",
    "user.create",
    "user.update",
    "user.delete",
    "user.plan",
    "user.permission",
    "user.role",
    "user.quota",
    "quota.adjust",
    "plan.write",
    "plan.delete",
    "role.write",
    "role.delete",
    "org.create",
    "org.update",
    "org.delete",
    "org.member",
    "instance.create",
    "instance.update",
    "instance.delete",
    "instance.key",
    "keys.rotate",
    "revoke.before",
    "import",
]
"""What can be done, as the trail names it."""

ACTIONS: tuple[Action, ...] = get_args(Action)

PRUNE_STEP_MS = DAY_MS
"""How much younger than at the call before the entries may be that a call deletes."""

_PRUNED_BEFORE = "audit_pruned_before"
# What an entry may not tell: fields of `after`, and columns in the SQL of a look-up.
_SECRETS = re.compile(r"password|password_hash|hash|token|token_hash|secret|salt|private_key|\w+_token", re.IGNORECASE)
_SECRET_COLUMNS = re.compile(r"password_hash|token_hash|private_key|\bsalt\b|\*", re.IGNORECASE)
_COLUMNS = "id, at, actor, action, target, address, outcome, before, after"


class Store(Protocol):
    """What functions that write take: a `Database`, or one whose writes take an audit entry along (`Audited`)."""

    @property
    def near(self) -> Reader:
        """See `Database.near`."""

    @property
    def clock(self) -> Callable[[], int]:
        """See `Database.clock`."""

    @property
    def lags(self) -> bool:
        """See `Database.lags`."""

    async def read(self, *statements: Statement) -> list[list[Row]]:
        """See `Database.read`."""

    async def scan(self, *statements: Statement) -> list[list[Row]]:
        """See `Database.scan`."""

    def snapshot(self) -> AbstractAsyncContextManager[Snapshot]:
        """See `Database.snapshot`."""

    async def write(self, *statements: Statement) -> Written:
        """See `Database.write`."""


class Lookup(NamedTuple):
    """A SELECT of one value, the state before a change as JSON text (NULL: there was nothing)."""

    sql: str
    args: tuple[Value, ...] = ()


class Entry(NamedTuple):
    """One line of the trail.

    `actor` is ``user:ID``, ``instance:ID``, ``command:NAME`` (somebody at the command line), ``stranger`` or
    ``gateway``; `target` is what it was done to: ``user:ID`` (of a session or token, too, whose id is then in `after`),
    ``org:ID``, ``plan:ID``, ``role:ID``, ``instance:ID`` or ``keys``. `address` is the client's. `before` is looked up
    in the same write as the change, ahead of it; `after` is what the change left, of JSON's types, without secrets.
    """

    actor: str
    action: Action
    target: str
    address: str = ""
    outcome: str = "ok"
    before: Lookup | None = None
    after: Mapping[str, Any] | None = None


class AuditRow(msgspec.Struct, frozen=True):
    """An entry as it stands in the trail; `at` in milliseconds since 1970 UTC."""

    id: int
    at: int
    actor: str
    action: str
    target: str
    address: str
    outcome: str
    before: Any
    after: Any


def record(entry: Entry, now: int, where: Lookup | None = None) -> Statement:
    """The statement that adds `entry` at `now` (milliseconds since 1970 UTC), for a write of several: ahead of the
    change, so that `before` is what the change finds. With `where`, only if that finds something. Raises ValueError for
    an entry that would hold a secret."""
    sql, args = "NULL", tuple[Value, ...]()
    if entry.before is not None:
        if _SECRET_COLUMNS.search(entry.before.sql):
            raise ValueError("an audit entry must not look up a secret")
        sql, args = f"({entry.before.sql})", entry.before.args
    if any(_SECRETS.fullmatch(name) for name in entry.after or ()):
        raise ValueError("an audit entry must not hold a secret")
    after = None if entry.after is None else msgspec.json.encode(entry.after).decode()
    condition, conditional = ("", ()) if where is None else (f" WHERE EXISTS ({where.sql})", where.args)
    return Statement(
        "INSERT INTO audit (at, actor, action, target, address, outcome, before, after)"
        f" SELECT ?, ?, ?, ?, ?, ?, {sql}, ?{condition}",
        (now, entry.actor, entry.action, entry.target, entry.address, entry.outcome, *args, after, *conditional),
    )


class Audited:
    """A database whose writes put these entries ahead of their statements, in the same atomic write.

    For one change: every write through it adds the entries once more. Reads are the database's own.
    """

    def __init__(self, db: Store, *entries: Entry) -> None:
        self._db = db
        self._entries = entries

    @property
    def near(self) -> Reader:
        """See `Database.near`."""
        return self._db.near

    @property
    def clock(self) -> Callable[[], int]:
        """See `Database.clock`."""
        return self._db.clock

    @property
    def lags(self) -> bool:
        """See `Database.lags`."""
        return self._db.lags

    async def read(self, *statements: Statement) -> list[list[Row]]:
        """See `Database.read`."""
        return await self._db.read(*statements)

    async def scan(self, *statements: Statement) -> list[list[Row]]:
        """See `Database.scan`."""
        return await self._db.scan(*statements)

    def snapshot(self) -> AbstractAsyncContextManager[Snapshot]:
        """See `Database.snapshot`."""
        return self._db.snapshot()

    async def write(self, *statements: Statement) -> Written:
        """As `Database.write`, with the entries ahead; the rows, and the place of a statement that changed none, are
        those of `statements`."""
        now = self._db.clock()
        entries = [record(entry, now) for entry in self._entries]
        try:
            written = await self._db.write(*entries, *statements)
        except NoRowChanged as refused:
            raise NoRowChanged(refused.index - len(entries)) from None
        return Written(written.seq, written.rows[len(entries) :])


async def list_audit(
    db: Store,
    *,
    user: str | None = None,
    action: str | None = None,
    since: int | None = None,
    before_id: int | None = None,
    limit: int = 100,
) -> list[AuditRow]:
    """At most `limit` entries, the newest first: those with an id below `before_id` (the last of the page before).

    `user` (an id): what this user did, and what was done to it; `action` one of `ACTIONS`; `since` in milliseconds
    since 1970 UTC, inclusive.
    """
    conditions, args = ["true"], list[Value]()
    if before_id is not None:
        conditions.append("id < ?")
        args.append(before_id)
    if since is not None:
        # The clocks of several nodes do not agree, so an entry with a lower id may be a little younger.
        conditions.append("at >= ? AND id >= (SELECT min(id) FROM audit WHERE at >= ?)")
        args += [since, since]
    if action is not None:
        conditions.append("action = ?")
        args.append(action)
    where = " AND ".join(conditions)
    newest = "ORDER BY id DESC LIMIT ?"
    sql = f"SELECT {_COLUMNS} FROM audit WHERE {where} {newest}"  # noqa: S608
    if user is not None:
        # One index for each, read from its end; an OR would have to sort everything that was ever about this user.
        by = [f"SELECT * FROM (SELECT id FROM audit WHERE {one} = ? AND {where} {newest})" for one in _PARTIES]  # noqa: S608
        sql = f"SELECT {_COLUMNS} FROM audit WHERE id IN ({' UNION '.join(by)}) {newest}"  # noqa: S608
        args = [f"user:{user}", *args, limit] * len(by)
    [rows] = await read_shown(db.scan, Statement(sql, (*args, limit)))
    return [_audit_row(row) for row in rows]


_PARTIES = ("actor", "target")


async def prune_audit(db: Store, keep_ms: int, now: int) -> int:
    """Delete the entries older than `keep_ms` milliseconds at `now` (milliseconds since 1970 UTC); how many.

    A clock that is wrong must not cost the trail: what is kept is counted from the newest entry where that is older
    than `now`, and after the first call each goes no further than `PRUNE_STEP_MS` beyond the one before.
    """
    [[(newest, mark)]] = await db.read(
        Statement(
            "SELECT (SELECT max(at) FROM audit), (SELECT CAST(value AS INTEGER) FROM meta WHERE key = ?)",
            (_PRUNED_BEFORE,),
        )
    )
    if newest is None:
        return 0
    end = min(now, newest) - keep_ms
    if mark is not None:
        end = min(end, mark + PRUNE_STEP_MS)
    [older] = await db.read(Statement("SELECT 1 FROM audit WHERE at < ? LIMIT 1", (end,)))
    if not older and mark is not None and end <= mark:
        return 0
    reached = Statement(
        "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
        " WHERE CAST(value AS INTEGER) < CAST(excluded.value AS INTEGER)",
        (_PRUNED_BEFORE, str(end)),
    )
    delete = Statement(
        "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE at < ? LIMIT ?) RETURNING 1", (end, PRUNE_GROUP)
    )
    return await in_groups(db, PRUNE_GROUP, reached, delete)


def _audit_row(row: Row) -> AuditRow:
    entry_id, at, actor, action, target, address, outcome, before, after = row
    return AuditRow(entry_id, at, actor, action, target, address, outcome, _json(before), _json(after))


def _json(text: str | None) -> Any:
    """What is stored, of whatever SQL made it: a state before a change may have held what no JSON reader takes."""
    if text is None:
        return None
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text
