"""The group-commit writer: what waits together commits together, what fails fails alone, what is acknowledged is
durable."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, NamedTuple

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import NoRowChanged, StoreConflict, StoreError, StoreUnavailable
from gateway.store.database import Database, Statement
from gateway.store.driver import StoreCounts
from gateway.store.embedded import EmbeddedDriver
from gateway.store.migrate import migrate
from gateway.store.sqlite import open_writer
from gateway.store.writer import GROUP_LIMIT, Writer
from tests.support.failing_disk import FailingDisk
from tests.support.foreign_writer import ForeignWriter

TABLE = "CREATE TABLE t(k INTEGER PRIMARY KEY, v INTEGER NOT NULL DEFAULT 0 CHECK (v < 100)) STRICT"
SERVERS_TOO = pytest.mark.storages("file", "server", "websocket")
KEYS = Statement("SELECT k, v FROM t ORDER BY k")


def put(key: int, value: int = 0) -> Statement:
    return Statement("INSERT INTO t VALUES (?, ?)", (key, value))


def touch(key: int) -> Statement:
    return Statement("UPDATE t SET v = v + 1 WHERE k = ?", (key,), must_change=True)


async def opened(path: Path, connect: Callable[[Path], apsw.Connection] = open_writer) -> Database:
    db = Database(await EmbeddedDriver.open(path, connect=connect))
    await db.script(TABLE)
    return db


@pytest.fixture
async def db(database: Database) -> Database:
    await database.script(TABLE)
    return database


class Gated(NamedTuple):
    """A writer that begins to work when its gate is opened."""

    writer: Writer
    gate: threading.Event


@pytest.fixture
async def gated(tmp_path: Path) -> AsyncIterator[Gated]:
    path = tmp_path / "a.db"
    connection = open_writer(path, create=True)
    connection.execute(TABLE)
    connection.close()
    gate = threading.Event()

    def connect(path: Path) -> apsw.Connection:
        gate.wait()
        return open_writer(path)

    writer = Writer(path, lambda: None, connect=connect, queue_limit=5)
    yield Gated(writer, gate)
    gate.set()
    await writer.close()


async def together(db: Database, *operations: tuple[Statement, ...]) -> list[Any]:
    """Submit the operations so that none is committed before all are there; results and exceptions in order."""
    return await asyncio.gather(*(db.write(*operation) for operation in operations), return_exceptions=True)


async def keys(db: Database) -> list[int]:
    return [key for key, _ in (await db.read(KEYS))[0]]


@SERVERS_TOO
class TestGroups:
    async def test_what_waits_together_commits_together(self, db: Database) -> None:
        before = db.counts.groups
        await together(db, *((put(number),) for number in range(500)))
        assert db.counts.groups - before <= 3
        assert db.counts.operations >= 500
        assert await keys(db) == list(range(500))

    async def test_a_group_is_bounded(self, tmp_path: Path) -> None:
        with ForeignWriter(tmp_path / "a.db") as somebody:
            async with await opened(tmp_path / "a.db") as db:
                somebody.execute("BEGIN IMMEDIATE")
                first = asyncio.create_task(db.write(put(-1)))
                rest = asyncio.create_task(together(db, *((put(number),) for number in range(2 * GROUP_LIMIT + 1))))
                await asyncio.sleep(0)
                await somebody.run("COMMIT")
                await asyncio.gather(first, rest)
                assert sum(db.counts.sizes) == db.counts.groups
                assert db.counts.groups >= 4

    async def test_each_gets_its_own_rows(self, db: Database) -> None:
        returning = "INSERT INTO t VALUES (?, ?) RETURNING k, v"
        answers = await together(
            db, *((Statement(returning, (number, 7)), Statement("SELECT ?", (number,))) for number in range(50))
        )
        assert [answer.rows for answer in answers] == [[[(number, 7)], [(number,)]] for number in range(50)]

    async def test_order_is_that_of_submission(self, db: Database) -> None:
        await db.write(put(1))
        step = Statement("UPDATE t SET v = (v * 2 + ?) % 97 WHERE k = 1 RETURNING v", ())
        value, wanted = 0, []
        for number in range(60):
            value = (value * 2 + number) % 97
            wanted.append(value)
        answers = await together(db, *((step._replace(args=(number,)),) for number in range(60)))
        assert [answer.rows[0][0][0] for answer in answers] == wanted

    def test_counts(self) -> None:
        counts = StoreCounts()
        for size in (1, 2, 3, 4, 5, 1000):
            counts.add(size, 1, 0.5)
        assert (counts.groups, counts.operations, counts.failed, counts.seconds) == (6, 1015, 6, 3.0)
        assert counts.sizes == [1, 1, 2, 1, 0, 0, 0, 0, 0, 0, 1]


@SERVERS_TOO
class TestFailing:
    async def test_one_fails_alone(self, db: Database) -> None:
        nowhere = Statement("INSERT INTO nowhere VALUES (1)")
        answers = await together(db, (put(1),), (put(1),), (put(2, 100),), (put(3),), (nowhere,), (put(4),))
        assert [type(answer) for answer in answers[1:3]] == [StoreConflict, StoreConflict]
        assert [answer.kind for answer in answers[1:3]] == ["unique", "check"]
        assert type(answers[4]) is StoreError
        assert await keys(db) == [1, 3, 4]
        assert db.counts.failed == 3

    @pytest.mark.storages("file")
    async def test_what_is_no_sql_fails_alone(self, db: Database) -> None:
        """A server reads every statement of a request before it runs the first."""
        answers = await together(db, (put(1),), (Statement("nonsense"),), (put(2),))
        assert type(answers[1]) is StoreError
        assert await keys(db) == [1, 2]

    async def test_an_operation_is_undone_whole(self, db: Database) -> None:
        answers = await together(db, (put(1), put(2)), (put(3), touch(3), put(1)), (put(4), touch(4)))
        assert isinstance(answers[1], StoreConflict)
        assert (await db.read(KEYS))[0] == [(1, 0), (2, 0), (4, 1)]

    async def test_must_change(self, db: Database) -> None:
        answers = await together(db, (put(1),), (put(2), touch(1), touch(9)), (touch(1),), (touch(8),))
        assert isinstance(answers[1], NoRowChanged)
        assert answers[1].index == 2
        assert isinstance(answers[3], NoRowChanged)
        assert answers[3].index == 0
        assert (await db.read(KEYS))[0] == [(1, 1)]

    @pytest.mark.storages("file")
    async def test_must_change_takes_a_returned_row_for_a_changed_one(self, db: Database) -> None:
        await db.write(put(1))
        exists = Statement("SELECT 1 FROM t WHERE k = ?", (1,), must_change=True)
        await db.write(exists, put(2))
        with pytest.raises(NoRowChanged):
            await db.write(exists._replace(args=(7,)), put(3))
        assert await keys(db) == [1, 2]

    async def test_values_that_sqlite_does_not_know(self, db: Database) -> None:
        bad: Any = [{}, 2**63, "\ud800"]
        insert = Statement("INSERT INTO t VALUES (1, ?)")
        answers = await together(db, *((insert._replace(args=(value,)),) for value in bad), (put(2),))
        assert [type(answer) for answer in answers[:3]] == [TypeError, OverflowError, UnicodeEncodeError]
        assert await keys(db) == [2]

    async def test_a_statement_that_ends_the_transaction_fails_the_group(self, db: Database) -> None:
        rollback = Statement("INSERT OR ROLLBACK INTO t VALUES (1, 100)")
        answers = await together(db, (put(1),), (rollback,), (put(2),))
        assert all(isinstance(answer, StoreError) for answer in answers)
        assert await keys(db) == []
        await db.write(put(3))
        assert await keys(db) == [3]

    async def test_a_script_is_undone_whole(self, db: Database) -> None:
        with pytest.raises(StoreConflict):
            await db.script("CREATE TABLE more(x); INSERT INTO t VALUES (1, 0)", put(1))
        with pytest.raises(StoreError):
            await db.script("CREATE TABLE more(x); INSERT INTO nowhere VALUES (1)")
        assert await keys(db) == []
        await db.script("CREATE TABLE more(x)", put(1))
        assert await keys(db) == [1]


class TestCallers:
    async def test_a_cancelled_caller_harms_nobody(self, tmp_path: Path) -> None:
        complaints: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        with ForeignWriter(tmp_path / "a.db") as somebody:
            async with await opened(tmp_path / "a.db") as db:
                somebody.execute("BEGIN IMMEDIATE")
                writes = [asyncio.create_task(db.write(put(number))) for number in range(10)]
                await asyncio.sleep(0)
                for write in writes[::2]:
                    write.cancel()
                await asyncio.sleep(0)
                await somebody.run("COMMIT")
                await asyncio.gather(*writes[1::2])
                assert set(await keys(db)) >= {1, 3, 5, 7, 9}
        assert complaints == []

    async def test_what_was_cancelled_before_its_group_is_not_written(self, gated: Gated) -> None:
        writes = [gated.writer.submit([put(number)]) for number in range(4)]
        writes[1].cancel()
        gated.gate.set()
        await asyncio.gather(*writes, return_exceptions=True)
        found = await gated.writer.submit([KEYS])
        assert [key for key, _ in found.rows[0]] == [0, 2, 3]

    async def test_a_group_of_cancelled_callers_is_none(self, gated: Gated) -> None:
        writes = [gated.writer.submit([put(number)]) for number in range(4)]
        for write in writes:
            write.cancel()
        gated.gate.set()
        assert (await gated.writer.submit([KEYS])).rows == [[]]
        assert gated.writer.counts.operations == 1

    async def test_the_queue_is_bounded(self, gated: Gated) -> None:
        accepted = [gated.writer.submit([KEYS]) for _ in range(5)]
        with pytest.raises(StoreUnavailable, match="5 writes are waiting"):
            gated.writer.submit([KEYS])
        gated.gate.set()
        await asyncio.gather(*accepted)
        await gated.writer.submit([KEYS])
        await gated.writer.close()
        with pytest.raises(StoreUnavailable, match="closed"):
            gated.writer.submit([KEYS])


class TestFaults:
    async def test_waits_for_another_programs_lock(self, tmp_path: Path) -> None:
        with ForeignWriter(tmp_path / "a.db") as somebody:
            async with await opened(tmp_path / "a.db") as db:
                somebody.execute("BEGIN IMMEDIATE")
                somebody.execute("INSERT INTO t VALUES (1, 1)")
                write = asyncio.create_task(db.write(touch(1)))
                await asyncio.sleep(0.3)  # the fault itself: a lock that is held for a while
                assert not write.done()
                assert await keys(db) == [], "reads go on meanwhile"
                await somebody.run("COMMIT")
                await write
                assert (await db.read(KEYS))[0] == [(1, 2)]

    async def test_gives_up_and_goes_on(self, tmp_path: Path) -> None:
        path = tmp_path / "a.db"
        with ForeignWriter(path) as somebody:
            async with await opened(path, lambda path: open_writer(path, busy_timeout_ms=50)) as db:
                somebody.execute("BEGIN IMMEDIATE")
                answers = await together(db, (put(1),), (put(2), put(3)))
                assert [type(answer) for answer in answers] == [StoreUnavailable, StoreUnavailable]
                assert "locked" in str(answers[0])
                somebody.execute("ROLLBACK")
                await db.write(put(4))
                assert await keys(db) == [4]

    async def test_a_full_disk(self, tmp_path: Path) -> None:
        """Nothing is half written, small writes of the same group may pass, and all is well when there is room
        again."""
        pages = [20]

        def connect(path: Path) -> apsw.Connection:
            connection = open_writer(path)
            connection.execute(f"PRAGMA max_page_count={pages[0]}").fetchall()
            return connection

        blob = Statement("INSERT INTO big VALUES (randomblob(400000))")
        async with await opened(tmp_path / "a.db", connect) as db:
            await db.script("CREATE TABLE big(b)")
            answers = await together(db, (put(1),), (blob,), (put(2), blob))
            assert [type(answer) for answer in answers[1:]] == [StoreUnavailable, StoreUnavailable]
            assert "full" in str(answers[1])
            assert await db.read(Statement("SELECT count(*) FROM big")) == [[(0,)]]
            assert 2 not in await keys(db)
            pages[0] = 10_000
            await db.write(Statement("PRAGMA max_page_count=10000"))
            await db.write(put(5), blob)
            assert 5 in await keys(db)

    async def test_a_disk_that_fails_in_the_commit(self, tmp_path: Path) -> None:
        disk = FailingDisk()

        def connect(path: Path) -> apsw.Connection:
            connection = apsw.Connection(str(path), vfs=disk.name)
            for pragma in ("journal_mode=WAL", "synchronous=FULL"):
                connection.execute(f"PRAGMA {pragma}").fetchall()
            return connection

        async with await opened(tmp_path / "a.db", connect) as db:
            await db.write(put(1))
            disk.broken = True
            answers = await together(db, (put(2),), (put(3),))
            assert [type(answer) for answer in answers] == [StoreUnavailable, StoreUnavailable]
            assert await keys(db) == [1]
            disk.broken = False
            await db.write(put(4))
            assert await keys(db) == [1, 4]
        async with await Database.open(str(tmp_path / "a.db")) as again:
            assert await keys(again) == [1, 4]


class TestSeq:
    async def test_is_zero_without_a_change_log(self, db: Database) -> None:
        assert (await db.write(put(1))).seq == 0

    async def test_is_the_position_of_the_commit(self, tmp_path: Path) -> None:
        newest = Statement("SELECT max(seq) FROM change_log")
        async with await Database.open(str(tmp_path / "b.db")) as db:
            await migrate(db)
            plan = Statement("INSERT INTO plans(id) VALUES (?)")
            for number in range(5):
                written = await db.write(plan._replace(args=(f"p{number}",)), newest)
                assert written.rows[1] == [(written.seq,)] == (await db.read(newest))[0]
            answers = await together(db, *((plan._replace(args=(f"q{number}",)), newest) for number in range(50)))
            assert all(answer.rows[1][0][0] <= answer.seq for answer in answers)
            await db.write(Statement("DELETE FROM change_log"))
            assert (await db.write(Statement("SELECT 1"))).seq == 55


class Model:
    """What the table must hold after operations that each happen whole or not at all."""

    def __init__(self) -> None:
        self.rows: dict[int, int] = {}

    def run(self, operation: list[tuple[str, int]]) -> type[StoreError] | None:
        rows = dict(self.rows)
        for verb, key in operation:
            if verb == "put":
                if key in rows:
                    return StoreConflict
                rows[key] = 98
            elif verb == "drop":
                if rows.pop(key, None) is None:
                    return NoRowChanged
            else:
                if key not in rows:
                    return NoRowChanged
                if rows[key] == 99:
                    return StoreConflict
                rows[key] += 1
        self.rows = rows
        return None


VERBS: dict[str, Callable[[int], Statement]] = {
    "put": lambda key: put(key, 98),
    "touch": touch,
    "drop": lambda key: Statement("DELETE FROM t WHERE k = ?", (key,), must_change=True),
}
OPERATION = st.lists(st.tuples(st.sampled_from(sorted(VERBS)), st.integers(1, 3)), min_size=1, max_size=4)


@settings(max_examples=60)
@given(groups=st.lists(st.lists(OPERATION, min_size=1, max_size=6), max_size=4))
def test_operations_are_atomic_in_any_mixture(
    groups: list[list[list[tuple[str, int]]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    async def run() -> None:
        async with await opened(tmp_path_factory.mktemp("model") / "a.db") as db:
            model = Model()
            for group in groups:
                wanted = [model.run(operation) for operation in group]
                operations = [tuple(VERBS[verb](key) for verb, key in operation) for operation in group]
                answers = await together(db, *operations)
                assert [type(answer) if isinstance(answer, Exception) else None for answer in answers] == wanted
                assert dict((await db.read(KEYS))[0]) == model.rows

    asyncio.run(run())
