"""The doorbell of a local database: it rings for every commit, whoever made it, and no ring is lost."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import apsw
import pytest

from gateway.store.database import Database, Statement
from gateway.store.inotify import Inotify
from gateway.store.readers import Readers
from gateway.store.sqlite import open_writer
from gateway.store.wakeup import BACKOFF_S, Wakeup
from tests.support.foreign_writer import ForeignWriter
from tests.support.waiting import eventually

TABLE = "CREATE TABLE t(k INTEGER PRIMARY KEY)"
NEVER_MS = 3_600_000
"""A poll that does not come within the test."""

linux = pytest.mark.skipif(sys.platform != "linux", reason="inotify is a feature of Linux")


def no_inotify(directory: Path, name: str) -> Inotify:
    raise OSError("not here")


async def soon(db: Database) -> None:
    await asyncio.wait_for(db.wait_for_change(), 10)


async def silence(db: Database) -> None:
    """Take the rings that are due, until a wait does not return by itself."""
    while True:
        waiting = asyncio.ensure_future(db.wait_for_change())
        done, _ = await asyncio.wait([waiting], timeout=0.2)
        if not done:
            waiting.cancel()
            return


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.db"


@pytest.fixture
async def db(path: Path) -> AsyncIterator[Database]:
    async with await Database.open(str(path), poll_ms=NEVER_MS) as database:
        await database.script(TABLE)
        yield database


def insert(key: int) -> Statement:
    return Statement("INSERT INTO t VALUES (?)", (key,))


async def last(db: Database) -> int:
    return int((await db.read(Statement("SELECT coalesce(max(k), 0) FROM t")))[0][0][0])


class TestOwnCommits:
    async def test_the_first_wait_returns_at_once(self, tmp_path: Path) -> None:
        async with await Database.open(str(tmp_path / "b.db"), poll_ms=NEVER_MS) as db:
            await soon(db)

    async def test_wakes_who_waits(self, db: Database) -> None:
        await silence(db)
        waiting = asyncio.create_task(db.wait_for_change())
        await asyncio.sleep(0)
        assert not waiting.done()
        await db.write(insert(1))
        await asyncio.wait_for(waiting, 10)

    async def test_a_commit_while_nobody_waits_is_not_lost(self, db: Database) -> None:
        await silence(db)
        await db.write(insert(1))
        await soon(db)

    async def test_one_commit_does_not_ring_for_ever(self, db: Database) -> None:
        await db.write(insert(1))
        await asyncio.wait_for(silence(db), 10)

    async def test_all_who_wait_wake_up(self, db: Database) -> None:
        await silence(db)
        waiting = [asyncio.create_task(db.wait_for_change()) for _ in range(3)]
        await asyncio.sleep(0)
        await db.write(insert(1))
        await asyncio.wait_for(asyncio.gather(*waiting), 10)


@linux
class TestForeignCommits:
    async def test_each_is_noticed(self, db: Database, path: Path) -> None:
        with ForeignWriter(path) as somebody:
            await silence(db)
            for key in range(1, 30):
                somebody.execute("INSERT INTO t VALUES (?)", key)
                while await last(db) < key:
                    await soon(db)

    async def test_a_stream_of_them_loses_none(self, db: Database, path: Path) -> None:
        with ForeignWriter(path) as somebody:
            somebody.send_each("INSERT INTO t VALUES (?)", [(key,) for key in range(1, 501)], pause_s=0.001)
            while await last(db) < 500:
                await soon(db)
            somebody.receive()

    async def test_rollbacks_say_nothing_new(self, db: Database, path: Path) -> None:
        with ForeignWriter(path) as somebody:
            await silence(db)
            for statement in ("BEGIN IMMEDIATE", "INSERT INTO t VALUES (7)", "ROLLBACK"):
                somebody.execute(statement)
            await asyncio.wait_for(silence(db), 10)
            assert await last(db) == 0

    async def test_a_file_that_is_put_in_place(self, db: Database, path: Path) -> None:
        connection = apsw.Connection(f"{path}.new")
        connection.execute(TABLE)
        connection.execute("INSERT INTO t VALUES (99)")
        connection.close()
        await silence(db)
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink()
        path.with_name(path.name + ".new").rename(path)
        while await last(db) < 99:
            await soon(db)


async def test_polling_where_there_is_no_inotify(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    open_writer(path, create=True).close()
    readers = Readers(path)
    with ForeignWriter(path) as somebody:
        somebody.execute(TABLE)
        wakeup = Wakeup(path, readers.version, readers.follow_file, poll_s=NEVER_MS / 1000, inotify=no_inotify)
        for key in range(1, 10):
            somebody.execute("INSERT INTO t VALUES (?)", key)
            while (await readers.read((Statement("SELECT max(k) FROM t"),)))[0] != [(key,)]:
                await asyncio.wait_for(wakeup.wait(), 10)
        wakeup.close()
    readers.close()


class Scripted:
    """A version that somebody else moves, and how often it was asked for."""

    def __init__(self) -> None:
        self.answer: Callable[[], int] = lambda: 1
        self.asked = 0

    def __call__(self) -> int:
        self.asked += 1
        return self.answer()


class Bell:
    """A wake-up over a scripted version; counts its rings."""

    def __init__(self, path: Path, version: Scripted, *, poll_s: float = 3600.0, active_s: float = 2.0) -> None:
        self.wakeup = Wakeup(path, version, lambda: False, poll_s=poll_s, active_s=active_s)
        self.rings = 0  # the first wait is one, the first look another: any version is news to it
        self.task = asyncio.create_task(self.count())

    async def count(self) -> None:
        while True:
            await self.wakeup.wait()
            self.rings += 1

    async def close(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        self.wakeup.close()


@linux
class TestLooking:
    async def test_again_until_the_commit_can_be_read(self, tmp_path: Path) -> None:
        version = Scripted()
        bell = Bell(tmp_path / "a.db", version)
        (tmp_path / "a.db-wal").write_bytes(b"frame")
        version.answer = lambda: 7 if version.asked >= 5 else 1
        await eventually(lambda: bell.rings == 3)
        assert version.asked >= 5
        await bell.close()

    async def test_again_although_an_earlier_commit_was_found(self, tmp_path: Path) -> None:
        version = Scripted()
        bell = Bell(tmp_path / "a.db", version)
        (tmp_path / "a.db-wal").write_bytes(b"frame")
        version.answer = lambda: 2 if version.asked >= 4 else 1
        await eventually(lambda: bell.rings == 3)
        assert version.asked == 4, "no reason to look any further"
        await bell.close()

    async def test_again_although_this_process_committed_meanwhile(self, tmp_path: Path) -> None:
        version = Scripted()
        bell = Bell(tmp_path / "a.db", version)
        (tmp_path / "a.db-wal").write_bytes(b"frame")
        await eventually(lambda: version.asked >= 1)
        bell.wakeup.committed()
        asked = version.asked
        version.answer = lambda: 7 if version.asked >= asked + 2 else 1
        await eventually(lambda: bell.rings == 4)
        await bell.close()

    async def test_an_end_comes_when_nothing_does(self, tmp_path: Path) -> None:
        version = Scripted()
        bell = Bell(tmp_path / "a.db", version)
        (tmp_path / "a.db-wal").write_bytes(b"frame")
        await eventually(lambda: version.asked == 1 + len(BACKOFF_S))
        await asyncio.sleep(2 * BACKOFF_S[-1])  # the look that must not come
        assert version.asked == 1 + len(BACKOFF_S)
        assert bell.rings == 2
        await bell.close()

    async def test_other_files_are_nobodys_business(self, tmp_path: Path) -> None:
        version = Scripted()
        bell = Bell(tmp_path / "a.db", version)
        with (tmp_path / "gateway.log").open("w") as file:
            for _ in range(50):
                file.write("line\n")
                file.flush()
                await asyncio.sleep(0)
        assert version.asked == 0
        (tmp_path / "a.db-wal").write_bytes(b"frame")
        await eventually(lambda: version.asked > 0)
        await bell.close()

    async def test_a_locked_file_does_not_ring_and_a_broken_one_does(self, tmp_path: Path) -> None:
        def busy() -> int:
            raise apsw.BusyError

        def broken() -> int:
            raise apsw.IOError

        version = Scripted()
        version.answer = busy
        bell = Bell(tmp_path / "a.db", version, poll_s=0.001)
        await eventually(lambda: version.asked > 5)
        assert bell.rings == 1, "the first wait returns at once"
        version.answer = broken
        await eventually(lambda: bell.rings > 3)
        await bell.close()

    async def test_polling_is_rare_where_inotify_works_and_nothing_happens(self, tmp_path: Path) -> None:
        version = Scripted()
        bell = Bell(tmp_path / "a.db", version, poll_s=0.005, active_s=0.0)
        await eventually(lambda: version.asked >= 20)
        (tmp_path / "a.db-wal").write_bytes(b"frame")
        await asyncio.sleep(0.2)
        before = version.asked
        await asyncio.sleep(0.3)
        assert version.asked - before <= 12, "60 at the full rate"
        await bell.close()


class TestWaiting:
    @pytest.fixture
    async def wakeup(self, path: Path) -> AsyncIterator[Wakeup]:
        found = Wakeup(path, lambda: 1, lambda: False, poll_s=3600)
        await found.wait()
        yield found
        found.close()

    async def test_rings_while_nobody_waits_count_once(self, wakeup: Wakeup) -> None:
        for _ in range(5):
            wakeup.ring()
        await wakeup.wait()
        waiting = asyncio.ensure_future(wakeup.wait())
        await asyncio.sleep(0)
        assert not waiting.done()
        wakeup.close()
        await asyncio.wait_for(waiting, 5)

    async def test_a_ring_for_a_cancelled_waiter_goes_to_the_next(self, wakeup: Wakeup) -> None:
        waiting = asyncio.ensure_future(wakeup.wait())
        await asyncio.sleep(0)
        wakeup.ring()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await asyncio.wait_for(wakeup.wait(), 5)

    async def test_a_waiter_cancelled_before_leaves_nothing(self, wakeup: Wakeup) -> None:
        waiting = asyncio.ensure_future(wakeup.wait())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        wakeup.ring()
        await asyncio.wait_for(wakeup.wait(), 5)


@linux
class TestInotify:
    def test_hears_the_file_and_its_log(self, tmp_path: Path) -> None:
        inotify = Inotify(tmp_path, "a.db")
        assert not inotify.heard()
        (tmp_path / "b.db").write_bytes(b"x")
        assert not inotify.heard()
        for name in ("a.db", "a.db-wal"):
            (tmp_path / name).write_bytes(b"x")
            assert inotify.heard()
            assert not inotify.heard()
        (tmp_path / "b.db").rename(tmp_path / "a.db")
        assert inotify.heard()
        inotify.close()

    def test_a_directory_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            Inotify(tmp_path / "nowhere", "a.db")
