"""The database as its callers see it: addresses, reads, snapshots, scans, errors, and what happens when the file
goes away."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import apsw
import pytest

from gateway.errors import StoreConflict, StoreCorrupt, StoreError, StoreUnavailable
from gateway.store.database import Database, Statement
from gateway.store.readers import Readers
from gateway.store.sqlite import require_sqlite
from tests.conftest import Place
from tests.support.foreign_writer import ForeignWriter

TABLE = "CREATE TABLE t(k TEXT PRIMARY KEY NOT NULL, v) STRICT".replace("v)", "v ANY)")
SERVERS_TOO = pytest.mark.storages("file", "server", "websocket")
COUNT = Statement("SELECT count(*) FROM t")


def put(key: str, value: object = None) -> Statement:
    return Statement("INSERT INTO t VALUES (?, ?)", (key, value))  # type: ignore[arg-type]


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


async def opened(path: Path | str, **options: object) -> Database:
    """A database with the table t."""
    db = await Database.open(str(path), **options)  # type: ignore[arg-type]
    if not (await db.read(Statement("SELECT 1 FROM sqlite_schema WHERE name = 't'")))[0]:
        await db.script(TABLE)
    return db


class TestOpening:
    async def test_makes_the_directory(self, tmp_path: Path) -> None:
        async with await opened(tmp_path / "deep" / "down" / "a.db"):
            assert (tmp_path / "deep" / "down" / "a.db").exists()

    async def test_makes_nothing_without_leave(self, tmp_path: Path) -> None:
        with pytest.raises(StoreUnavailable, match=r"no such file \(gateway init and gateway migrate make one"):
            await Database.open(str(tmp_path / "deep" / "a.db"), create=False)
        assert names(tmp_path) == []

    async def test_what_is_not_a_database(self, tmp_path: Path) -> None:
        (tmp_path / "a.db").write_bytes(b"something else" * 1000)
        with pytest.raises(StoreCorrupt, match=r"a\.db"):
            await Database.open(str(tmp_path / "a.db"))

    async def test_a_directory(self, tmp_path: Path) -> None:
        with pytest.raises(StoreUnavailable, match=str(tmp_path)):
            await Database.open(str(tmp_path))

    async def test_through_a_link(self, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "link.db").symlink_to(tmp_path / "real" / "a.db")
        async with await opened(tmp_path / "link.db") as db, await opened(tmp_path / "real" / "a.db") as same:
            await db.wait_for_change()
            await same.write(put("a"))
            await asyncio.wait_for(db.wait_for_change(), 5)
            assert await db.read(COUNT) == [[(1,)]]

    async def test_settings_of_the_writing_connection(self, tmp_path: Path) -> None:
        async with await opened(tmp_path / "a.db") as db:
            names = [
                "journal_mode",
                "synchronous",
                "foreign_keys",
                "trusted_schema",
                "journal_size_limit",
                "busy_timeout",
            ]
            written = await db.write(*(Statement(f"PRAGMA {name}") for name in names))
            found = dict(zip(names, (rows[0][0] for rows in written.rows), strict=True))
        assert found == {
            "journal_mode": "wal",
            "synchronous": 2,
            "foreign_keys": 1,
            "trusted_schema": 0,
            "journal_size_limit": 67108864,
            "busy_timeout": 5000,
        }

    def test_an_sqlite_that_can_corrupt_is_refused(self) -> None:
        require_sqlite("3.51.3")
        with pytest.raises(StoreError, match=r"SQLite 3\.51\.2 is too old: 3\.51\.3"):
            require_sqlite("3.51.2")


@SERVERS_TOO
class TestReading:
    async def test_values_come_back_as_they_were(self, database_place: Place) -> None:
        values = [None, 0, -(2**63), 2**63 - 1, 2**53 + 1, 1.5, "", "a\0b", "\U0001f600", b"", b"\0\xff"]
        async with await opened(database_place.url) as db:
            await db.write(*(put(str(index), value) for index, value in enumerate(values)))
            rows = (await db.read(Statement("SELECT v FROM t ORDER BY CAST(k AS INTEGER)")))[0]
        assert [row[0] for row in rows] == values
        assert [type(row[0]) for row in rows] == [type(value) for value in values]

    async def test_one_list_a_statement(self, database_place: Place) -> None:
        async with await opened(database_place.url) as db:
            one, none, two = await db.read(
                Statement("SELECT 1"), Statement("SELECT 1 WHERE 0"), Statement("SELECT 2, ?", ("x",))
            )
            assert (one, none, two) == ([(1,)], [], [(2, "x")])
            assert await db.read() == []

    async def test_reads_can_not_write(self, tmp_path: Path) -> None:
        async with await opened(tmp_path / "a.db") as db:
            for attempt in (db.read, db.scan):
                with pytest.raises(StoreError, match="readonly"):
                    await attempt(put("a"))
            assert await db.read(COUNT) == [[(0,)]]

    async def test_a_write_is_seen_when_it_returns(self, database_place: Place) -> None:
        async with await opened(database_place.url) as db:
            for number in range(20):
                await db.write(put(str(number)))
                assert await db.read(COUNT) == [[(number + 1,)]]
                assert await db.scan(COUNT) == [[(number + 1,)]]

    async def test_an_error_does_not_spoil_the_next_read(self, database_place: Place) -> None:
        async with await opened(database_place.url) as db:
            with pytest.raises(StoreError, match="no such table"):
                await db.read(COUNT, Statement("SELECT * FROM nowhere"))
            await db.write(put("a"))
            assert await db.read(COUNT, COUNT) == [[(1,)], [(1,)]]

    async def test_wrong_parameters(self, database_place: Place) -> None:
        async with await opened(database_place.url) as db:
            with pytest.raises(StoreError, match=r"bindings|ARGS_INVALID"):
                await db.read(Statement("SELECT ?"))
            with pytest.raises(TypeError):
                await db.read(Statement("SELECT ?", ({},)))  # type: ignore[arg-type]

    async def test_waits_for_a_lock(self, tmp_path: Path) -> None:
        """Outside WAL mode a writer keeps readers out: the one case that stands for all in which SQLite says busy."""
        path = tmp_path / "rollback.db"
        with ForeignWriter(path) as somebody:
            somebody.script("CREATE TABLE t(k)")
            readers, impatient = Readers(path), Readers(path, busy_timeout_ms=10)
            somebody.execute("BEGIN EXCLUSIVE")
            somebody.execute("INSERT INTO t VALUES (1)")
            with pytest.raises(StoreUnavailable, match="locked"):
                await impatient.read((COUNT,))
            waiting = asyncio.create_task(readers.read((COUNT, COUNT)))
            async with readers.snapshot() as snapshot:
                also = asyncio.create_task(snapshot.read(COUNT))
                await asyncio.sleep(0)
                assert not waiting.done()
                await somebody.run("COMMIT")
                assert await waiting == [[(1,)], [(1,)]]
                assert await also == [[(1,)]]
            readers.close()
            impatient.close()


@SERVERS_TOO
class TestSnapshot:
    async def test_sees_one_moment(self, database_place: Place) -> None:
        async with await opened(database_place.url) as db:
            async with db.snapshot() as snapshot:
                assert await snapshot.read(COUNT) == [[(0,)]]
                await db.write(put("a"))
                assert await snapshot.read(COUNT, COUNT) == [[(0,)], [(0,)]]
                assert await db.read(COUNT) == [[(1,)]]
            async with db.snapshot() as snapshot:
                assert await snapshot.read(COUNT) == [[(1,)]]

    async def test_many_at_once(self, database_place: Place) -> None:
        async with await opened(database_place.url) as db:

            async def hold(number: int) -> int:
                async with db.snapshot() as snapshot:
                    before = (await snapshot.read(COUNT))[0][0][0]
                    await db.write(put(str(number)))
                    assert (await snapshot.read(COUNT))[0][0][0] == before
                    return int(before)

            assert max(await asyncio.gather(*map(hold, range(20)))) < 20
            assert await db.read(COUNT) == [[(20,)]]

    async def test_ends_with_an_exception(self, database_place: Place) -> None:
        async with await opened(database_place.url) as db:
            for _ in range(10):
                with pytest.raises(StoreError):
                    async with db.snapshot() as snapshot:
                        await snapshot.read(COUNT, Statement("SELECT * FROM nowhere"))
            await db.write(put("a"))
            async with db.snapshot() as snapshot:
                assert await snapshot.read(COUNT) == [[(1,)]]

    async def test_an_error_leaves_it_usable(self, database_place: Place) -> None:
        async with await opened(database_place.url) as db, db.snapshot() as snapshot:
            with pytest.raises(StoreError):
                await snapshot.read(Statement("SELECT * FROM nowhere"))
            assert await snapshot.read(COUNT) == [[(0,)]]


async def test_a_scan_leaves_the_event_loop_free(database_place: Place) -> None:
    long = Statement(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1000000) SELECT sum(i) FROM n"
    )
    async with await opened(database_place.url) as db:
        scan = asyncio.create_task(db.scan(long))
        turns = 0
        while not scan.done():
            await db.read(COUNT)
            await asyncio.sleep(0)
            turns += 1
        assert await scan == [[(500000500000,)]]
        assert turns > 20


@SERVERS_TOO
class TestErrors:
    @pytest.mark.parametrize(
        ("sql", "kind", "what"),
        [
            ("INSERT INTO strict_one(id, name) VALUES (1, 'b')", "unique", "strict_one.id"),
            ("INSERT INTO strict_one(id, name) VALUES (2, 'a')", "unique", "strict_one.name"),
            ("INSERT INTO pair VALUES ('x', 'y')", "unique", "pair.a, pair.b"),
            ("INSERT INTO strict_one(id) VALUES (2)", "not_null", "strict_one.name"),
            ("INSERT INTO strict_one(id, name, n) VALUES (2, 'b', 9)", "check", "n < 5"),
            ("INSERT INTO strict_one(id, name, n) VALUES (2, 'b', 'x')", "check", "strict_one.n"),
            (
                "INSERT INTO strict_one(id, name, parent) VALUES (2, 'b', 7)",
                "foreign_key",
                "FOREIGN KEY constraint failed",
            ),
        ],
    )
    async def test_conflicts(self, database_place: Place, sql: str, kind: str, what: str) -> None:
        async with await Database.open(database_place.url) as db:
            await db.script(
                "CREATE TABLE strict_one(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, n INTEGER CHECK (n < 5),"
                " parent INTEGER REFERENCES strict_one(id)) STRICT;"
                "CREATE TABLE pair(a, b, UNIQUE (a, b));"
                "INSERT INTO strict_one(id, name) VALUES (1, 'a'); INSERT INTO pair VALUES ('x', 'y');"
            )
            with pytest.raises(StoreConflict) as caught:
                await db.write(Statement(sql))
            assert (caught.value.kind, caught.value.what) == (kind, what)

    async def test_a_damaged_file(self, tmp_path: Path) -> None:
        path = tmp_path / "a.db"
        async with await opened(path) as db:
            await db.write(*(put(str(number), "x" * 3000) for number in range(200)))
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(os.urandom(4096 * 20))
        async with await Database.open(str(path)) as db:
            with pytest.raises(StoreCorrupt):
                await db.read(Statement("SELECT sum(length(v)) FROM t"))


class TestClosing:
    async def test_everything_says_so(self, database_place: Place, tmp_path: Path) -> None:
        db = await opened(database_place.url)
        await db.close()
        await db.close()
        for attempt in (
            db.read(COUNT),
            db.scan(COUNT),
            db.write(COUNT),
            db.wait_for_change(),
            db.backup(tmp_path / "b.db"),
        ):
            with pytest.raises(StoreUnavailable, match="closed"):
                await attempt
        with pytest.raises(StoreUnavailable, match="closed"):
            async with db.snapshot():
                pass

    async def test_accepted_writes_are_finished(self, database_place: Place) -> None:
        db = await opened(database_place.url)
        writes = [asyncio.create_task(db.write(put(str(number)))) for number in range(100)]
        await asyncio.sleep(0)
        await db.close()
        assert all(write.done() for write in writes)
        await asyncio.gather(*writes)
        async with await opened(database_place.url) as db:
            assert await db.read(COUNT) == [[(100,)]]

    async def test_nothing_is_left_beside_the_file(self, tmp_path: Path) -> None:
        async with await opened(tmp_path / "a.db") as db:
            await db.write(put("a"))
            async with db.snapshot() as snapshot:
                await snapshot.read(COUNT)
        assert names(tmp_path) == ["a.db", "a.db-lock"]

    async def test_a_snapshot_may_outlive_it(self, database_place: Place) -> None:
        db = await opened(database_place.url)
        async with db.snapshot() as snapshot:
            await snapshot.read(COUNT)
            await db.close()


class TestReplacedFile:
    """Somebody moved another database to the path of this one, as a restore from a backup does."""

    @staticmethod
    def another(path: Path, keys: int) -> None:
        connection = apsw.Connection(str(path))
        connection.execute(TABLE)
        connection.executemany("INSERT INTO t VALUES (?, 'new')", [(str(number),) for number in range(keys)])
        connection.close()

    async def test_the_new_one_is_served(self, tmp_path: Path) -> None:
        path = tmp_path / "a.db"
        self.another(tmp_path / "new.db", 7)
        async with await opened(path) as db:
            await db.write(put("a"), put("b"))
            await db.scan(COUNT)
            async with db.snapshot() as old:
                assert await old.read(COUNT) == [[(2,)]]
                await db.wait_for_change()
                for name in ("a.db-wal", "a.db-shm"):
                    (tmp_path / name).unlink()
                (tmp_path / "new.db").rename(path)
                await asyncio.wait_for(db.wait_for_change(), 5)
                assert await db.read(COUNT) == [[(7,)]]
                assert await old.read(COUNT) == [[(2,)]], "a snapshot stays what it was"
            assert await db.scan(COUNT) == [[(7,)]]
            await db.write(put("c"))
            async with db.snapshot() as new:
                assert await new.read(COUNT) == [[(8,)]]
        async with await Database.open(str(path)) as again:
            assert await again.read(COUNT) == [[(8,)]]

    async def test_a_file_that_is_gone_takes_no_writes(self, tmp_path: Path) -> None:
        path = tmp_path / "a.db"
        async with await opened(path) as db:
            for name in names(tmp_path):
                (tmp_path / name).unlink()
            with pytest.raises(StoreUnavailable):
                await db.write(put("a"))
            assert not path.exists(), "an empty database must not appear in the old one's place"
            self.another(path, 3)
            await db.write(put("b"))
            await db.wait_for_change()
            assert await db.read(COUNT) == [[(4,)]]
