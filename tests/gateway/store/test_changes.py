"""Reading and pruning the change log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import StoreError
from gateway.store.changes import (
    PAGE,
    PRUNE_GROUP,
    Change,
    Position,
    last_seq,
    prune,
    read_changes,
    read_newest,
    read_pages,
    read_position,
)
from gateway.store.database import Database, Statement
from gateway.store.migrate import migrate
from tests.conftest import NewDatabase


def entries(*ats: int) -> list[Statement]:
    return [Statement("INSERT INTO change_log(doc, cause, at) VALUES ('user:u', 'profile', ?)", (at,)) for at in ats]


async def seqs(db: Database) -> list[int]:
    return [change.seq for page in [await read_changes(db, 0, 10**6)] for change in page]


@pytest.mark.storages("file", "server", "websocket", "replica")
class TestReading:
    async def test_the_newest_in_order(self, database: Database) -> None:
        end, rows = await read_newest(database, 3)
        assert (end.last, rows) == (0, [])
        await database.write(*entries(*range(1, 6)))
        for limit in (1, 3, 5, 9):
            end, rows = await read_newest(database, limit)
            assert end == await read_position(database)
            assert [change.at for change in rows] == list(range(1, 6))[-limit:]

    async def test_in_order_from_a_position_on(self, database: Database) -> None:
        assert await read_changes(database, 0) == []
        written = await database.write(*entries(5, 6, 7))
        changes = await read_changes(database, 0)
        assert changes == [Change(seq, "user:u", "profile", seq + 4) for seq in (1, 2, 3)]
        assert await read_changes(database, 1, 1) == changes[1:2]
        assert await read_changes(database, written.seq) == []

    async def test_pages_end_with_the_snapshot(self, database: Database) -> None:
        await database.write(*entries(*range(2 * PAGE + 7)))
        async with database.snapshot() as snapshot:
            assert await last_seq(snapshot) == 2 * PAGE + 7
            pages = []
            async for page in read_pages(snapshot, 3):
                pages.append(page)
                await database.write(*entries(1))
        assert [len(page) for page in pages] == [PAGE, PAGE, 4]
        assert [change.seq for page in pages for change in page] == list(range(4, 2 * PAGE + 8))

    @pytest.mark.parametrize("count", [0, PAGE])
    async def test_whole_pages(self, database: Database, count: int) -> None:
        if count:
            await database.write(*entries(*range(count)))
        assert [len(page) async for page in read_pages(database, 0)] == ([PAGE] if count else [])


class TestPosition:
    @pytest.fixture
    async def database(self, new_database: NewDatabase) -> AsyncIterator[Database]:
        async with await Database.open(new_database()) as opened:
            await migrate(opened, epoch="e0")
            yield opened

    async def test_of_a_new_database(self, database: Database) -> None:
        assert await read_position(database) == Position("e0", 1, 0)
        assert await last_seq(database) == 0

    async def test_after_changes_and_pruning(self, database: Database) -> None:
        await database.write(*entries(1, 2, 3, 4))
        assert await read_position(database) == Position("e0", 1, 4)
        await prune(database, 0, 3)
        assert await read_position(database) == Position("e0", 3, 4)

    async def test_numbers_do_not_begin_anew_where_somebody_emptied_the_log(self, database: Database) -> None:
        await database.write(*entries(1, 2, 3))
        await database.write(Statement("DELETE FROM change_log"))
        assert await read_position(database) == Position("e0", 4, 3)
        assert (await database.write(*entries(9))).seq == 4

    async def test_without_an_epoch(self, database: Database) -> None:
        await database.write(Statement("DELETE FROM meta"))
        with pytest.raises(StoreError, match="epoch"):
            await read_position(database)


class TestPruning:
    async def test_keeps_the_newest_row(self, database: Database) -> None:
        await database.write(*entries(1, 2, 3))
        assert await prune(database, 1000, 10**9) == 2
        assert await seqs(database) == [3]
        assert await prune(database, 1000, 10**9) == 0

    async def test_in_small_groups(self, database: Database) -> None:
        count = 3 * PRUNE_GROUP + 10
        await database.write(*entries(*range(count)))
        before = database.counts.groups
        assert await prune(database, 0, count - 5) == count - 5
        assert await seqs(database) == list(range(count - 4, count + 1))
        assert database.counts.groups - before >= 4

    async def test_an_empty_log(self, database: Database) -> None:
        assert await prune(database, 0, 10**9) == 0

    async def test_revocations_that_can_not_matter_any_more(self, database: Database) -> None:
        insert = Statement("INSERT INTO revocations(id, kind, user_id, expires_at) VALUES (?, 'api_token', 'u', ?)")
        await database.write(*(insert._replace(args=(f"t{ends}", ends)) for ends in (None, 10, 20, 30)))
        await prune(database, 5, 25)
        rows = await database.read(Statement("SELECT id FROM revocations ORDER BY id"))
        assert rows == [[("t20",), ("t30",), ("tNone",)]]


@settings(max_examples=40)
@given(ats=st.lists(st.integers(0, 10), max_size=12), cut=st.integers(0, 11))
def test_pruning_leaves_no_gap(ats: list[int], cut: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    async def run() -> None:
        async with await Database.open(str(tmp_path_factory.mktemp("prune") / "a.db")) as db:
            await migrate(db)
            if ats:
                await db.write(*entries(*ats))
            young = [seq for seq, at in enumerate(ats, 1) if at >= cut] or [len(ats)]
            assert await prune(db, 100, cut + 100) == max(0, young[0] - 1)
            assert await seqs(db) == ([] if not ats else list(range(young[0], len(ats) + 1)))

    asyncio.run(run())
