"""Looks for what is wrong with a database: damage, lost triggers, rows that no document can be built from."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Protocol

import msgspec

from gateway.core.clock import rfc3339
from gateway.core.document import parse_object
from gateway.core.facts import Catalog
from gateway.core.networks import Networks
from gateway.core.sections import quotas_section, user_permissions
from gateway.core.text import check_permission, check_quota
from gateway.errors import StoreCorrupt, StoreError, StoreUnavailable
from gateway.store.catalog import load_catalog
from gateway.store.changes import read_position
from gateway.store.database import Database, Row, Statement, Value
from gateway.store.documents import BadDocument, LoadedUser, Part, load_organizations, load_users
from gateway.store.instances import list_instances
from gateway.store.ledger import unbalanced
from gateway.store.migrate import migrate, parse_migrations, pending, schema_text
from gateway.store.tables import Table, exact_row

__all__ = ["Finding", "Note", "inspect"]

PAGE = 500
CLOCK_TOLERANCE_MS = 5_000
EARLIEST_MS = 1_735_689_600_000
"""2025-01-01: a clock that shows less was never set."""


_NOT_LOOKED_AT = "it can not be looked at"


class Finding(msgspec.Struct, frozen=True):
    """One thing that is wrong: which check found it, and what it is about."""

    check: str
    message: str


class Note(msgspec.Struct, frozen=True):
    """One thing that is as it should be, and worth knowing."""

    about: str
    message: str


class _Check(Protocol):
    """One kind of look at the database."""

    __name__: str

    def __call__(self, db: Database, now: int) -> AsyncIterator[Finding]: ...


async def inspect(db: Database, now: int) -> AsyncIterator[Finding]:
    """Everything that is wrong, as it is found. `now`: milliseconds since 1970 UTC."""
    damaged = False
    async for finding in _integrity(db):
        damaged = damaged or not finding.message.startswith(_NOT_LOOKED_AT)
        yield finding
    if damaged:
        return
    missing = await _missing_migrations(db)
    if missing:
        yield Finding("schema", missing)
        return
    checks = (
        _schema,
        _references,
        _owners,
        _ledger,
        _revocations,
        _scopes,
        _instances,
        _names,
        _organizations,
        _users,
        _clock,
    )
    for check in checks:
        async for finding in _looked(check, db, now):
            yield finding


async def _looked(check: _Check, db: Database, now: int) -> AsyncIterator[Finding]:
    """What a check finds. That it can not look, for want of a table, say, is a finding too; that the database can not
    be reached is an error."""
    try:
        async for finding in check(db, now):
            yield finding
    except StoreUnavailable:
        raise
    except StoreError as error:
        yield Finding("schema", f"{check.__name__.removeprefix('_')} can not be looked at: {error}")


async def _integrity(db: Database) -> AsyncIterator[Finding]:
    try:
        [rows] = await db.scan(Statement("SELECT integrity_check FROM pragma_integrity_check LIMIT 20"))
    except StoreError as error:
        # A server may refuse to look, to a token that can only read for instance: that is no damage.
        rows = [(str(error) if isinstance(error, StoreCorrupt) else f"{_NOT_LOOKED_AT}: {error}",)]
    for (message,) in rows:
        if message != "ok":
            yield Finding("integrity", message)


async def _missing_migrations(db: Database) -> str | None:
    try:
        steps = await pending(db, parse_migrations(schema_text()))
    except StoreError as error:
        return str(error)
    return f"{len(steps)} migrations are missing: run gateway migrate" if steps else None


_OBJECTS = Statement("SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%' ORDER BY type, name")


async def _schema(db: Database, now: int) -> AsyncIterator[Finding]:
    """Tables, indexes and triggers against those of a new database; what somebody added is their own business."""
    with tempfile.TemporaryDirectory() as directory:
        async with await Database.open(str(Path(directory) / "reference.db")) as reference:
            await migrate(reference)
            [expected] = await reference.read(_OBJECTS)
    [rows] = await db.read(_OBJECTS)
    standing = {(kind, name): sql for kind, name, sql in rows}
    for kind, name, sql in expected:
        if (kind, name) not in standing:
            yield Finding("schema", f"{kind} {name} is missing")
        elif standing[kind, name] != sql:
            yield Finding("schema", f"{kind} {name} is not the one of schema.sql")


async def _references(db: Database, now: int) -> AsyncIterator[Finding]:
    [rows] = await db.scan(Statement('SELECT "table", parent FROM pragma_foreign_key_check LIMIT ?', (PAGE,)))
    for table, parent in rows:
        yield Finding("references", f"a row of {table} names a row of {parent} that is not there")


async def _owners(db: Database, now: int) -> AsyncIterator[Finding]:
    [rows] = await db.scan(
        Statement(
            "SELECT DISTINCT owner FROM quota_usage WHERE owner NOT IN (SELECT 'user:' || id FROM users)"
            " AND owner NOT IN (SELECT 'org:' || id FROM organizations) LIMIT ?",
            (PAGE,),
        )
    )
    for (owner,) in rows:
        yield Finding("balances", f"{owner} has a balance and does not exist")


async def _ledger(db: Database, now: int) -> AsyncIterator[Finding]:
    """Each balance is the sum of its entries, and what is reserved is held by leases that are open."""
    for what, owner, quota, period_start, found, expected, spender in await unbalanced(db):
        place = f"{quota} of {owner} in the period from {_moment(period_start)}"
        if what == "member":
            text = f"{spender} has {found} reserved and open leases hold {expected}"
        elif what == "held":
            text = f"{found} are reserved and open leases hold {expected}"
        else:
            text = f"{found} are {what} and the ledger adds up to {expected}"
        yield Finding("balances", f"{place}: {text}")


def _moment(ms: int) -> str:
    try:
        return rfc3339(ms)
    except (ValueError, OverflowError):
        return f"{ms} ms"


async def _revocations(db: Database, now: int) -> AsyncIterator[Finding]:
    """A revoked credential that is not among the revocations was written while the triggers were away."""
    [rows] = await db.scan(
        Statement(
            "SELECT id FROM (SELECT id, expires_at, revoked_at FROM api_tokens"
            " UNION ALL SELECT id, expires_at, revoked_at FROM login_sessions)"
            " WHERE revoked_at IS NOT NULL AND (expires_at IS NULL OR expires_at > ?)"
            " AND id NOT IN (SELECT id FROM revocations) LIMIT ?",
            (now, PAGE),
        )
    )
    for (credential,) in rows:
        yield Finding("revocations", f"{credential} is revoked and servers that ask for revocations do not learn it")


async def _scopes(db: Database, now: int) -> AsyncIterator[Finding]:
    """A token whose scopes can not be read may do nothing."""
    found = 0
    page = _SCOPES.first()
    while rows := [exact_row(row) for row in (await db.scan(page))[0]]:
        for token, scopes in rows:
            if reason := _unreadable(scopes):
                found += 1
                yield Finding("documents", f"the scopes of API token {_shown(token)} can not be read: {reason}")
            if found == PAGE:
                return
        page = _SCOPES.after(rows[-1])


_SCOPES = Table("api_tokens", ("id",), ("scopes",))


def _unreadable(scopes: Value) -> str | None:
    try:
        parse_object(scopes.decode() if isinstance(scopes, bytes) else str(scopes))
    except ValueError as error:
        return str(error)
    return None


def _shown(id: Value) -> str:
    return repr(id) if isinstance(id, bytes) else str(id)


async def _instances(db: Database, now: int) -> AsyncIterator[Finding]:
    """An instance whose networks can not be read gets in from nowhere."""
    after = ""
    while found := await list_instances(db, after=after, limit=PAGE):
        for instance in found:
            try:
                Networks([""] if instance.networks is None else instance.networks)
            except ValueError:
                yield Finding("instances", f"the networks of {instance.id} can not be read: it gets in from nowhere")
        after = found[-1].id


_NAMES: tuple[tuple[str, str, Callable[[str], str]], ...] = (
    ("plan_permissions", "permission", check_permission),
    ("role_permissions", "permission", check_permission),
    ("org_role_permissions", "permission", check_permission),
    ("user_permissions", "permission", check_permission),
    ("plan_quotas", "quota", check_quota),
    ("user_quotas", "quota", check_quota),
)


async def _names(db: Database, now: int) -> AsyncIterator[Finding]:
    """Names of permissions and quotas become keys of documents."""
    found = 0
    for table, column, check in _NAMES:
        async for names in _pages(db.scan, table, column):
            for name in names:
                try:
                    check(name)
                except ValueError as error:
                    found += 1
                    yield Finding("names", f"{table}: {name!r}: {error}")
                if found == PAGE:
                    return


async def _users(db: Database, now: int) -> AsyncIterator[Finding]:
    """Whether every user's document can be built."""
    async with db.snapshot() as snapshot:
        catalog = await load_catalog(snapshot)
        async for ids in _pages(snapshot.read, "users"):
            loaded = await load_users(snapshot, dict.fromkeys(ids, (Part.ALL, None)), catalog, now)
            for user_id, found in loaded.items():
                reason = found.reason if isinstance(found, BadDocument) else _fault(found, catalog, now)
                if reason:
                    yield Finding("documents", f"user:{user_id} can not be built: {reason}")


def _fault(user: LoadedUser | None, catalog: Catalog, now: int) -> str | None:
    if user is None:
        return None
    try:
        user_permissions(user.facts, catalog, now)
        quotas_section(user.facts, catalog, now)
    except (ValueError, TypeError, OverflowError) as error:
        return str(error)
    return None


async def _organizations(db: Database, now: int) -> AsyncIterator[Finding]:
    """Whether every organization's document can be built."""
    async with db.snapshot() as snapshot:
        catalog = await load_catalog(snapshot)
        async for ids in _pages(snapshot.read, "organizations"):
            loaded = await load_organizations(snapshot, dict.fromkeys(ids, True), catalog, now)
            for organization, found in loaded.items():
                if isinstance(found, BadDocument):
                    yield Finding("documents", f"org:{organization} can not be built: {found.reason}")


async def _pages(
    read: Callable[[Statement], Awaitable[list[list[Row]]]], table: str, column: str = "id"
) -> AsyncIterator[list[str]]:
    """All values of a column, each once, some at a time."""
    sql = f"SELECT DISTINCT {column} FROM {table} WHERE {column} > ? ORDER BY {column} LIMIT ?"  # noqa: S608
    after: Value = ""
    while rows := (await read(Statement(sql, (after, PAGE))))[0]:
        yield [row[0] for row in rows]
        after = rows[-1][0]


async def _clock(db: Database, now: int) -> AsyncIterator[Finding]:
    """This machine's clock against the calendar and against those who wrote to the change log."""
    if now < EARLIEST_MS:
        yield Finding("clock", f"it shows {rfc3339(now)}: it was never set")
    position = await read_position(db)
    [rows] = await db.read(Statement("SELECT at FROM change_log WHERE seq = ?", (position.last,)))
    for (at,) in rows:
        if at > now + CLOCK_TOLERANCE_MS:
            yield Finding("clock", f"the newest change is {(at - now) // 1000} s ahead of this machine's clock")
