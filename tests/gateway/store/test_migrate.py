"""Migrations: each atomic with its record, the same result on every way, refused when the database is not ours."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import StoreError
from gateway.store.database import Database, Statement
from gateway.store.migrate import (
    DatabaseTooNew,
    SchemaMismatch,
    migrate,
    new_epoch,
    parse_migrations,
    pending,
    schema_text,
)
from tests.conftest import NewDatabase

STEPS = [
    "CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT) STRICT;\n"
    "CREATE TABLE migrations(number INTEGER PRIMARY KEY, title TEXT, sha256 TEXT, applied_at INTEGER) STRICT;",
    "CREATE TABLE things(id INTEGER PRIMARY KEY, name TEXT NOT NULL) STRICT;\nINSERT INTO things(name) VALUES ('a;b');",
    "ALTER TABLE things ADD COLUMN size INTEGER NOT NULL DEFAULT 0;\nCREATE INDEX things_by_size ON things(size);",
    "CREATE TRIGGER things_size AFTER INSERT ON things BEGIN\n"
    "  UPDATE things SET size = length(NEW.name) WHERE id = NEW.id;\n"
    "END;",
]
DUMP = Statement("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name")


def text_of(steps: list[str]) -> str:
    """A schema text with these migrations."""
    return "-- what it is about\n\n" + "\n".join(
        f"-- migration {number}: step {number}\n\n{sql}\n" for number, sql in enumerate(steps, 1)
    )


async def dump(db: Database) -> list[tuple[object, ...]]:
    return (await db.read(DUMP))[0]


async def opened(url: str) -> Database:
    return await Database.open(url, clock=lambda: 1234)


async def test_the_schema_of_the_program(new_database: NewDatabase) -> None:
    async with await opened(new_database("a")) as db:
        applied = await migrate(db, epoch="e1")
        assert [migration.number for migration in applied] == list(range(1, len(applied) + 1))
        assert await migrate(db, epoch="e2") == []
        records, epoch, broken = await db.read(
            Statement("SELECT number, title, sha256, applied_at FROM migrations"),
            Statement("SELECT value FROM meta WHERE key = 'epoch'"),
            Statement("PRAGMA integrity_check"),
        )
        assert records == [(step.number, step.title, step.sha256, 1234) for step in applied]
        assert epoch == [("e1",)]
        assert broken == [("ok",)]


async def test_a_new_database_has_an_epoch_of_its_own(new_database: NewDatabase) -> None:
    found = set()
    for name in ("a", "b"):
        async with await opened(new_database(name)) as db:
            await migrate(db)
            found.add((await db.read(Statement("SELECT value FROM meta WHERE key = 'epoch'")))[0][0])
    assert len(found) == 2
    assert re.fullmatch("[0-9a-f]{16}", new_epoch())


@pytest.mark.parametrize("stop", range(1, len(STEPS)))
async def test_fresh_and_migrated_are_identical(new_database: NewDatabase, stop: int) -> None:
    async with await opened(new_database("fresh")) as fresh, await opened(new_database("old")) as old:
        await migrate(fresh, text=text_of(STEPS))
        await migrate(old, text=text_of(STEPS[:stop]))
        applied = await migrate(old, text=text_of(STEPS))
        assert [migration.number for migration in applied] == list(range(stop + 1, len(STEPS) + 1))
        assert await dump(fresh) == await dump(old)
        things = Statement("SELECT * FROM things")
        assert await fresh.read(things) == await old.read(things)


async def test_the_programs_schema_step_by_step(new_database: NewDatabase) -> None:
    steps = parse_migrations(schema_text())
    async with await opened(new_database("fresh")) as fresh, await opened(new_database("steps")) as slow:
        await migrate(fresh)
        for count in range(1, len(steps) + 1):
            text = "".join(f"-- migration {step.number}: {step.title}\n{step.sql}\n" for step in steps[:count])
            assert [step.number for step in await migrate(slow, text=text)] == [count]
        assert await dump(fresh) == await dump(slow)


async def test_a_migration_that_fails_leaves_nothing(new_database: NewDatabase) -> None:
    broken = [*STEPS[:2], "CREATE TABLE more(id INTEGER) STRICT; INSERT INTO nowhere VALUES (1);", STEPS[2]]
    async with await opened(new_database("a")) as db:
        with pytest.raises(StoreError, match="no such table: nowhere"):
            await migrate(db, text=text_of(broken))
        assert "more" not in {row[1] for row in await dump(db)}
        assert (await db.read(Statement("SELECT max(number) FROM migrations")))[0] == [(2,)]
        assert len(await migrate(db, text=text_of(STEPS))) == 2


async def test_a_newer_database_is_refused(new_database: NewDatabase) -> None:
    async with await opened(new_database("a")) as db:
        await migrate(db, text=text_of(STEPS))
        before = await dump(db)
        with pytest.raises(DatabaseTooNew) as caught:
            await migrate(db, text=text_of(STEPS[:2]))
        assert str(caught.value) == "the database is at migration 4, this program knows 2: use a newer program"
        assert await dump(db) == before


async def test_an_edited_migration_is_refused(new_database: NewDatabase) -> None:
    async with await opened(new_database("a")) as db:
        await migrate(db, text=text_of(STEPS[:2]))
        edited = [STEPS[0], STEPS[1].replace("NOT NULL", ""), *STEPS[2:]]
        with pytest.raises(SchemaMismatch) as caught:
            await migrate(db, text=text_of(edited))
        assert "migration 2" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert (await db.read(Statement("SELECT max(number) FROM migrations")))[0] == [(2,)]


async def test_another_programs_database_is_refused(new_database: NewDatabase) -> None:
    async with await opened(new_database("a")) as db:
        await db.script("CREATE TABLE migrations(name TEXT); CREATE TABLE users(x)")
        with pytest.raises(SchemaMismatch):
            await migrate(db)


def test_an_installed_package_brings_its_schema(tmp_path: Path) -> None:
    source = Path(__file__).resolve().parents[3]
    shutil.copytree(source / "gateway", tmp_path / "gateway", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(source / "schema.sql", tmp_path / "gateway" / "schema.sql")
    program = "from gateway.store.migrate import *; print(parse_migrations(schema_text())[0].sha256)"
    found = subprocess.run(
        [sys.executable, "-P", "-c", program],
        cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert found.stdout.strip() == parse_migrations(schema_text())[0].sha256


async def test_white_space_around_a_migration_does_not_count() -> None:
    loose = text_of(STEPS).replace("\n-- migration", "\n\n\n-- migration")
    assert parse_migrations(loose) == parse_migrations(text_of(STEPS))


@pytest.mark.parametrize("numbers", [[2], [1, 3], [1, 1], [2, 1], [0, 1]])
def test_numbers_without_order_are_refused(numbers: list[int]) -> None:
    with pytest.raises(ValueError, match="numbered"):
        parse_migrations("".join(f"-- migration {number}: x\nSELECT 1;\n" for number in numbers))


@given(st.lists(st.text("ab;-\n'\"", max_size=20), max_size=5))
def test_parsing_gives_back_what_was_written(bodies: list[str]) -> None:
    text = "".join(f"-- migration {number}: t{number}\n{body}\n" for number, body in enumerate(bodies, 1))
    assert [(step.title, step.sql) for step in parse_migrations(text)] == [
        (f"t{number}", body.strip()) for number, body in enumerate(bodies, 1)
    ]


async def test_two_connections_at_once(new_database: NewDatabase) -> None:
    path = new_database()
    async with await opened(path) as one, await opened(path) as two:
        both = await asyncio.gather(migrate(one, text=text_of(STEPS)), migrate(two, text=text_of(STEPS)))
        assert sorted(step.number for applied in both for step in applied) == [1, 2, 3, 4]
        assert await pending(one, parse_migrations(text_of(STEPS))) == []


STARTER = """
import asyncio, sys
from gateway.store.database import Database, Statement
from gateway.store.migrate import migrate

async def main():
    sys.stdin.readline()  # start together
    async with await Database.open(sys.argv[1]) as db:
        await migrate(db)
        await db.write(Statement("INSERT INTO plans(id) VALUES (?)", (sys.argv[2],)))
        print((await db.read(Statement("SELECT value FROM meta WHERE key = 'epoch'")))[0][0][0])

print("ready", flush=True)
asyncio.run(main())
"""


def test_several_processes_start_on_a_new_file_at_once(tmp_path: Path) -> None:
    for attempt in range(3):
        path = tmp_path / f"{attempt}" / "new.db"
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", STARTER, str(path), f"p{number}"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
            for number in range(4)
        ]  # fmt: skip
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        answers = [process.communicate("go\n", timeout=30) for process in processes]
        assert [errors for _, errors in answers] == [""] * 4
        assert len({out for out, _ in answers}) == 1, "one epoch for all"
