"""Backups of a running database, and putting one back in place of a stopped one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import pytest

from gateway.errors import StoreCorrupt, StoreUnavailable
from gateway.store import copies
from gateway.store.backup import DatabaseInUse, NotABackup, restore
from gateway.store.changes import read_position
from gateway.store.copies import TargetNotReplaceable
from gateway.store.database import Database, Statement
from gateway.store.migrate import migrate
from tests.support.foreign_writer import ForeignWriter

PLANS = Statement("SELECT id FROM plans ORDER BY id")


def plan(name: str) -> Statement:
    return Statement("INSERT INTO plans(id) VALUES (?)", (name,))


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def write(path: Path, content: str) -> None:
    path.write_text(content)


def text(path: Path) -> str:
    return path.read_text()


def permit(path: Path, mode: int) -> None:
    path.chmod(mode)


def permissions(path: Path) -> int:
    return path.stat().st_mode & 0o777


def garbage(path: Path) -> None:
    path.write_bytes(os.urandom(50_000))


def damage(path: Path) -> None:
    """Damage a database below its first page."""
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(4096 * 8))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "a.db"


@pytest.fixture
async def db(path: Path) -> AsyncIterator[Database]:
    async with await Database.open(str(path)) as database:
        await migrate(database, epoch="first")
        yield database


@pytest.fixture
async def copy(tmp_path: Path, db: Database) -> Path:
    """A backup with the plan `old`; the database itself is closed and has `new` besides."""
    target = tmp_path / "copy.db"
    await db.write(plan("old"))
    await db.backup(target)
    await db.write(plan("new"))
    await db.close()
    return target


async def plans(path: Path) -> list[str]:
    async with await Database.open(str(path), create=False) as db:
        return [name for (name,) in (await db.read(PLANS))[0]]


class TestBackup:
    async def test_is_of_one_moment_while_others_write(self, tmp_path: Path, db: Database) -> None:
        await db.script("CREATE TABLE a(k INTEGER PRIMARY KEY, filling); CREATE TABLE b(k INTEGER PRIMARY KEY)")

        async def writing() -> None:
            for key in range(10**9):
                await db.write(
                    Statement("INSERT INTO a VALUES (?, randomblob(2000))", (key,)),
                    Statement("INSERT INTO b VALUES (?)", (key,)),
                )

        writer = asyncio.create_task(writing())
        for number in range(5):
            await db.backup(tmp_path / f"{number}.db")
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)
        sizes = []
        for number in range(5):
            connection = apsw.Connection(str(tmp_path / f"{number}.db"), flags=apsw.SQLITE_OPEN_READONLY)
            assert connection.execute("SELECT k FROM a").fetchall() == connection.execute("SELECT k FROM b").fetchall()
            assert connection.execute("PRAGMA integrity_check").get == "ok"
            assert connection.pragma("journal_mode") == "delete"
            sizes.append(connection.execute("SELECT count(*) FROM a").get)
            connection.close()
        assert sizes == sorted(sizes)
        assert names(tmp_path) == {"data", *(f"{number}.db" for number in range(5))}, "no file beside"

    async def test_does_not_overwrite_unless_told(self, tmp_path: Path, db: Database) -> None:
        target = tmp_path / "copy.db"
        write(target, "precious")
        with pytest.raises(FileExistsError, match="is there already"):
            await db.backup(target)
        assert text(target) == "precious"
        await db.backup(target, overwrite=True)
        assert await plans(target) == []

    async def test_that_can_not_be_written(self, tmp_path: Path, db: Database) -> None:
        with pytest.raises(StoreUnavailable, match=r"nowhere/copy\.db: No such file or directory$"):
            await db.backup(tmp_path / "nowhere" / "copy.db")
        (tmp_path / "loop").symlink_to("loop")
        with pytest.raises(StoreUnavailable, match="loop: "):
            await db.backup(tmp_path / "loop", overwrite=True)

    async def test_that_finds_no_room(self, tmp_path: Path, db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        class Crowded(apsw.Connection):
            def __init__(self, *arguments: object, **options: object) -> None:
                super().__init__(*arguments, **options)  # type: ignore[arg-type]
                self.pragma("max_page_count", 2)

        monkeypatch.setattr(copies.apsw, "Connection", Crowded)
        with pytest.raises(StoreUnavailable, match=r"copy\.db: database or disk is full"):
            await db.backup(tmp_path / "copy.db")
        assert names(tmp_path) == {"data"}

    async def test_of_a_damaged_database_is_none(self, tmp_path: Path, db: Database, path: Path) -> None:
        await db.write(plan("old"))
        await db.close()
        damage(path)
        target = tmp_path / "copy.db"
        write(target, "the last good one")
        async with await Database.open(str(path)) as damaged:
            with pytest.raises(StoreCorrupt):
                await damaged.backup(target, overwrite=True)
        assert text(target) == "the last good one"
        assert names(tmp_path) == {"data", "copy.db"}

    @pytest.mark.parametrize("umask", [0o000, 0o277])
    async def test_is_for_its_owner_alone(self, tmp_path: Path, db: Database, path: Path, umask: int) -> None:
        permit(path, 0o644)
        before = os.umask(umask)
        try:
            await db.backup(tmp_path / "copy.db")
        finally:
            os.umask(before)
        assert permissions(tmp_path / "copy.db") == 0o600

    @pytest.mark.parametrize(
        "name", ["a.db", "a.db-wal", "a.db-shm", "a.db-journal", "a.db-lock", "soft", "hard", "up"]
    )
    async def test_never_takes_the_place_of_the_database(
        self, tmp_path: Path, db: Database, path: Path, name: str
    ) -> None:
        (path.parent / "soft").symlink_to(path)
        (path.parent / "hard").hardlink_to(path)
        (path.parent / "up").symlink_to(f"{path}-journal")
        (tmp_path / "link").symlink_to(path.parent)
        await db.write(plan("old"))
        standing = {file: file.lstat().st_ino for file in path.parent.iterdir()}
        for target in (path.parent / name, tmp_path / "link" / name):
            for overwrite in (True, False):
                with pytest.raises(TargetNotReplaceable, match=f"{name} belongs to the database"):
                    await db.backup(target, overwrite=overwrite)
        assert {file: file.lstat().st_ino for file in path.parent.iterdir()} == standing
        await db.write(plan("new"))
        assert await plans(path) == ["new", "old"]

    async def test_replaces_nothing_but_files(self, tmp_path: Path, db: Database) -> None:
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(TargetNotReplaceable, match="is not a file"):
            await db.backup(tmp_path / "pipe", overwrite=True)
        assert (tmp_path / "pipe").is_fifo()


class TestRestore:
    async def test_brings_back_what_was(self, copy: Path, path: Path) -> None:
        assert await plans(path) == ["new", "old"]
        epoch = await restore(copy, path)
        assert await plans(path) == ["old"]
        async with await Database.open(str(path)) as db:
            assert await migrate(db) == []
            position = await read_position(db)
        assert position.epoch == epoch != "first"
        assert position.last == 1
        assert names(path.parent) == {"a.db", "a.db-lock"}

    async def test_takes_an_epoch(self, copy: Path, path: Path) -> None:
        assert await restore(copy, path, epoch="second") == "second"
        async with await Database.open(str(path)) as db:
            assert (await read_position(db)).epoch == "second"

    async def test_to_a_place_where_nothing_is(self, copy: Path, tmp_path: Path) -> None:
        permit(copy, 0o644)
        await restore(copy, tmp_path / "elsewhere" / "b.db")
        assert permissions(tmp_path / "elsewhere" / "b.db") == 0o600
        assert await plans(tmp_path / "elsewhere" / "b.db") == ["old"]

    async def test_over_a_damaged_database(self, copy: Path, path: Path) -> None:
        garbage(path)
        await restore(copy, path)
        assert await plans(path) == ["old"]

    async def test_the_old_log_does_not_reach_the_new_file(self, copy: Path, path: Path) -> None:
        somebody = ForeignWriter(path)
        somebody.execute("INSERT INTO plans(id) VALUES ('unfinished')")
        somebody.kill()
        somebody.close()
        assert "a.db-wal" in names(path.parent)
        await restore(copy, path)
        assert await plans(path) == ["old"]

    async def test_through_a_link(self, copy: Path, path: Path, tmp_path: Path) -> None:
        (tmp_path / "link.db").symlink_to(path)
        await restore(copy, tmp_path / "link.db")
        assert (tmp_path / "link.db").is_symlink()
        assert await plans(path) == ["old"]

    async def test_keeps_the_permissions(self, copy: Path, path: Path) -> None:
        permit(path, 0o640)
        await restore(copy, path)
        assert permissions(path) == 0o640

    async def test_refuses_while_this_process_has_it_open(self, copy: Path, path: Path) -> None:
        async with await Database.open(str(path)) as db:
            with pytest.raises(DatabaseInUse, match="is in use: stop every gateway"):
                await restore(copy, path)
            await db.write(plan("later"))
            assert len((await db.read(PLANS))[0]) == 3
        assert names(path.parent) == {"a.db", "a.db-lock"}

    async def test_refuses_while_another_one_has_it_open(self, copy: Path, path: Path) -> None:
        with ForeignWriter(path) as somebody:
            somebody.execute("SELECT count(*) FROM plans")
            with pytest.raises(DatabaseInUse):
                await restore(copy, path)
            somebody.execute("INSERT INTO plans(id) VALUES ('later')")
        assert "later" in await plans(path)
        await restore(copy, path)

    async def test_a_gateway_that_starts_meanwhile_gets_the_new_file(self, copy: Path, path: Path) -> None:
        restoring = asyncio.create_task(restore(copy, path))
        opening = [asyncio.create_task(plans(path)) for _ in range(3)]
        try:
            await restoring
        except DatabaseInUse:  # they were faster
            assert await asyncio.gather(*opening) == [["new", "old"]] * 3
        else:
            for found in await asyncio.gather(*opening):
                assert found in (["old"], ["new", "old"])
            assert await plans(path) == ["old"]

    async def test_what_is_no_backup(self, copy: Path, path: Path, tmp_path: Path) -> None:
        foreign = apsw.Connection(str(tmp_path / "foreign.db"))
        foreign.execute("CREATE TABLE meta(key, value)")
        foreign.close()
        empty = await Database.open(str(tmp_path / "empty.db"))
        await empty.close()
        garbage(tmp_path / "garbage.db")
        write(tmp_path / "text.txt", "hello")
        damage(copy)
        for name, why in [
            ("missing.db", "no such file"),
            ("garbage.db", "damaged or not a database: file is not a database"),
            ("text.txt", "damaged or not a database: file is not a database"),
            ("foreign.db", "not a database of this program"),
            ("empty.db", "not a database of this program"),
            ("copy.db", "damaged"),
            ("data/a.db", "is the database itself"),
        ]:
            with pytest.raises(NotABackup, match=why) as caught:
                await restore(tmp_path / name, path)
            assert "\n" not in str(caught.value)
        assert await plans(path) == ["new", "old"]
        assert names(path.parent) == {"a.db", "a.db-lock"}

    async def test_a_place_that_can_not_be_written(self, copy: Path, path: Path) -> None:
        with pytest.raises(StoreUnavailable):
            await restore(copy, path / "below a file" / "b.db")


async def test_a_live_follower_meets_the_new_epoch(tmp_path: Path) -> None:
    """Somebody restored without our help, under a running gateway: it reads the new file, and sees that it is
    another one."""
    async with await Database.open(str(tmp_path / "a.db")) as db, await Database.open(str(tmp_path / "b.db")) as other:
        await migrate(db, epoch="one")
        await migrate(other, epoch="two")
        await other.close()
        for suffix in ("-wal", "-shm"):
            (tmp_path / f"a.db{suffix}").unlink()
        (tmp_path / "b.db").rename(tmp_path / "a.db")
        while (await read_position(db)).epoch == "one":
            await asyncio.wait_for(db.wait_for_change(), 10)
        await db.write(plan("x"))
        assert (await db.read(PLANS))[0] == [("x",)]
