from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from gateway.store.database import Database, Row, Statement, Written
from gateway.store.leases import END_GROUP, Leases
from gateway.store.quotas import Quotas
from gateway.store.stuck_leases import FIRST_DELAY_MS, LAST_DELAY_MS

if TYPE_CHECKING:
    from tests.gateway.store.conftest import Spenders

ADA = "user:u_ada"
ODD = (
    "CREATE TRIGGER odd BEFORE UPDATE ON leases WHEN NEW.id GLOB 'odd*'"
    " BEGIN SELECT RAISE(ABORT, 'CHECK constraint failed: odd'); END"
)


class _Watched:
    """A database that counts its writes, does something before the one of a lease, and has near reads of its own."""

    def __init__(self, database: Database) -> None:
        self.near: _Watched | Database = database
        self.writes = 0
        self.before: dict[str, Statement] = {}
        self._database = database

    async def read(self, *statements: Statement) -> list[list[Row]]:
        return await self._database.read(*statements)

    async def write(self, *statements: Statement) -> Written:
        self.writes += 1
        if len(statements) == 1 and (other := self.before.pop(str(statements[0].args[1]), None)):
            await self._database.write(other)
        return await self._database.write(*statements)


@pytest.fixture
def watched(spenders: Spenders) -> _Watched:
    return _Watched(spenders.database)


@pytest.fixture
def leases(spenders: Spenders, watched: _Watched) -> Leases:
    return Quotas(cast("Database", watched), lambda: spenders.now).leases


async def _reserve(leases: Leases, *names: str) -> None:
    for name in names:
        await leases.reserve(ADA, ADA, "mail", 1, name, 60)


async def test_one_that_can_not_be_ended_does_not_keep_the_others(
    spenders: Spenders, leases: Leases, caplog: pytest.LogCaptureFixture
) -> None:
    await _reserve(leases, "a", "odd", "z")
    await spenders.database.script(ODD)
    spenders.now += 60_000
    assert await leases.end_due() == 2
    assert await leases.end_due() == 0
    assert await leases.next_end() == spenders.now + FIRST_DELAY_MS
    assert [record.getMessage() for record in caplog.records] == ["a lease can not be ended: check: odd"]


async def test_one_that_somebody_else_ended_meanwhile_is_passed_over(
    spenders: Spenders, leases: Leases, watched: _Watched
) -> None:
    await _reserve(leases, "a", "b", "odd", "z")
    await spenders.database.script(ODD)
    spenders.now += 60_000
    watched.before["a"] = Statement("UPDATE leases SET state = 'expired', ended_at = 1 WHERE id = 'b'")
    assert await leases.end_due() == 2
    assert await spenders.sql("SELECT id FROM leases WHERE state = 'open'") == [("odd",)]


async def test_it_is_tried_later_and_later_and_told_once(
    spenders: Spenders, leases: Leases, watched: _Watched, caplog: pytest.LogCaptureFixture
) -> None:
    await _reserve(leases, "odd")
    await spenders.database.script(ODD)
    spenders.now += 60_000
    assert await leases.end_due() == 0
    delays = []
    for _ in range(8):
        watched.writes = 0
        assert await leases.end_due() == 0
        assert watched.writes == 0
        moment = await leases.next_end()
        assert moment is not None
        delays.append(moment - spenders.now)
        spenders.now = moment
        assert await leases.end_due() == 0
        assert watched.writes == 1
    assert delays == [FIRST_DELAY_MS * 2**n for n in range(6)] + [LAST_DELAY_MS] * 2
    assert len(caplog.records) == 1
    await spenders.sql("DROP TRIGGER odd")
    spenders.now += LAST_DELAY_MS
    assert await leases.end_due() == 1
    assert await leases.next_end() is None
    await _reserve(leases, "odd later")
    await spenders.database.script(ODD)
    spenders.now += 60_000
    assert await leases.end_due() == 0
    assert await leases.next_end() == spenders.now + FIRST_DELAY_MS


@pytest.mark.storages("file")
async def test_a_whole_group_of_them_does_not_keep_the_later_ones(spenders: Spenders, leases: Leases) -> None:
    await spenders.sql(
        """WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < ?)
        INSERT INTO leases(spender, id, owner, quota, period, period_start, amount, held, created_at, expires_at)
        SELECT 'user:u_ada', 'odd' || i, 'user:u_ada', 'mail', 'month', 0, 0, 0, 0, 5 FROM n""",
        END_GROUP,
    )
    await _reserve(leases, "late")
    await spenders.database.script(ODD)
    spenders.now += 60_000
    assert await leases.end_due() == 0
    assert await leases.next_end() == spenders.now
    assert await leases.end_due() == 1
    assert await leases.next_end() == spenders.now + FIRST_DELAY_MS


async def test_what_others_ended_is_not_written_again_because_a_replica_is_late(
    spenders: Spenders, leases: Leases, watched: _Watched
) -> None:
    class Late:
        async def read(self, *_: Statement) -> list[list[Row]]:
            return [[(1,)]]

    watched.near = cast("Database", Late())
    assert await leases.next_end() == 1
    assert await leases.end_due() == 0
    assert watched.writes == 0
