"""Brings a database up to the program: applies the numbered migrations of ``schema.sql``, each together with its
record."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from gateway.errors import StoreError
from gateway.store.database import Database, Statement

_HEADING = re.compile(r"^-- migration (\d+): (.+)$", re.MULTILINE)
_RECORDS_TABLE = Statement("SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = 'migrations'")
_RECORDS = Statement("SELECT number, title, sha256 FROM migrations ORDER BY number")


class DatabaseTooNew(StoreError):
    """The database was migrated by a newer program: this one must not touch it."""


class SchemaMismatch(StoreError):
    """An applied migration is not the one that the program has under this number: it was edited, or the database is
    another program's."""


class Migration(NamedTuple):
    """One step of the schema; `sha256` is that of its text without surrounding white space."""

    number: int
    title: str
    sql: str
    sha256: str


def schema_text() -> str:
    """``schema.sql``: inside the installed package, or at the top of the source tree."""
    packaged = resources.files("gateway").joinpath("schema.sql")
    if packaged.is_file():
        return packaged.read_text(encoding="utf-8")
    return Path(__file__).resolve().parents[2].joinpath("schema.sql").read_text(encoding="utf-8")


def new_epoch() -> str:
    """A name for one life of a database: numbering of changes that carries another one has nothing to do with this."""
    return secrets.token_hex(8)


def parse_migrations(text: str) -> list[Migration]:
    """The migrations of a schema text: each starts at its line ``-- migration N: title`` and they are numbered from 1
    without a gap.

    Raises `ValueError` for another numbering.
    """
    pieces = _HEADING.split(text)[1:]
    migrations = []
    for number, title, sql in zip(pieces[::3], pieces[1::3], pieces[2::3], strict=True):
        body = sql.strip()
        migrations.append(Migration(int(number), title.strip(), body, hashlib.sha256(body.encode()).hexdigest()))
    if [migration.number for migration in migrations] != list(range(1, len(migrations) + 1)):
        raise ValueError("the migrations are not numbered 1, 2, 3, ...")
    return migrations


async def migrate(db: Database, *, epoch: str | None = None, text: str | None = None) -> list[Migration]:
    """Apply what is missing and return it; several processes may do so at once. A new database gets `epoch` or a random
    one.

    `text` stands in for the program's ``schema.sql``. Raises `DatabaseTooNew`, `SchemaMismatch`, and what the database
    answers to a migration that fails, which is undone as a whole.
    """
    epoch = epoch or new_epoch()
    migrations = parse_migrations(schema_text() if text is None else text)
    missing = await pending(db, migrations)
    return [migration for migration in missing if await _apply(db, migration, migrations, epoch)]


async def pending(db: Database, migrations: Sequence[Migration]) -> Sequence[Migration]:
    """The migrations that the database lacks. Raises `DatabaseTooNew`, `SchemaMismatch`."""
    table = (await db.read(_RECORDS_TABLE))[0]
    if table and "sha256" not in table[0][0]:
        raise SchemaMismatch("the database has a table named migrations that is another program's")
    records = (await db.read(_RECORDS))[0] if table else []
    for (number, title, sha256), migration in zip(records, migrations, strict=False):
        if (number, sha256) != (migration.number, migration.sha256):
            raise SchemaMismatch(
                f"migration {number} ({title}) of the database is not this program's {migration.title!r}"
            )
    if len(records) > len(migrations):
        raise DatabaseTooNew(
            f"the database is at migration {len(records)}, this program knows {len(migrations)}: use a newer program"
        )
    return migrations[len(records) :]


async def _apply(db: Database, migration: Migration, migrations: Sequence[Migration], epoch: str) -> bool:
    """Apply one migration with its record; False when another process did so at the same moment."""
    record = Statement(
        "INSERT INTO migrations(number, title, sha256, applied_at) VALUES (?, ?, ?, ?)",
        (migration.number, migration.title, migration.sha256, db.clock()),
    )
    statements = [record]
    if migration.number == 1:
        statements.append(Statement("INSERT INTO meta(key, value) VALUES ('epoch', ?)", (epoch,)))
    try:
        await db.script(migration.sql, *statements)
    except StoreError:
        if migration not in await pending(db, migrations):
            return False
        raise
    return True
