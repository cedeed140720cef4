"""The driver of a libSQL server as a whole: what its parts could do to one another."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.errors import StoreUnavailable
from gateway.store.database import Database, Statement
from gateway.store.server_streams import STREAMS
from tests.conftest import StartServer
from tests.support.sqld import JwtKey, SqldReplica, SqldServer

SLOW = Statement(
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400000) SELECT count(*) FROM n"
)
PLAN = "INSERT INTO plans(id, name) VALUES (?, 'Plan')"


@pytest.fixture
def server(start_server: StartServer) -> Iterator[SqldServer]:
    return start_server()


@pytest.mark.parametrize("transport", ["url", "websocket_url"])
async def test_no_number_of_slow_reads_keeps_a_write_waiting(server: SqldServer, transport: str) -> None:
    async with await Database.open(getattr(server, transport)) as db:
        reads = [asyncio.ensure_future(db.read(SLOW)) for _ in range(2 * STREAMS)]
        scans = [asyncio.ensure_future(db.scan(SLOW)) for _ in range(2)]
        await asyncio.sleep(0)
        await db.write(Statement(PLAN, ("free",)))
        assert not all(read.done() for read in reads)
        answers = await asyncio.gather(*reads, *scans, return_exceptions=True)
    late = [answer for answer in answers if isinstance(answer, Exception)]
    assert all(isinstance(error, StoreUnavailable) for error in late)  # of a machine that is too slow for so many


@pytest.mark.parametrize("transport", ["url", "websocket_url"])
async def test_nothing_is_left_behind(server: SqldServer, transport: str) -> None:
    """No task, no failure that nobody hears, no stream that the server has to wait for."""
    faults: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    before = asyncio.all_tasks()
    db = await Database.open(getattr(server, transport))
    for _ in range(3):
        async with db.snapshot() as snapshot:
            await snapshot.read(SLOW._replace(sql="SELECT 1"))
        await db.write(Statement(PLAN, (f"p{_}",)))
    held = db.snapshot()
    async with held as snapshot:
        await snapshot.read(Statement("SELECT 1"))
        await db.close()
        with pytest.raises(StoreUnavailable):
            await snapshot.read(Statement("SELECT 1"))
    with pytest.raises(StoreUnavailable):
        await db.read(Statement("SELECT 1"))
    await asyncio.gather(*(asyncio.all_tasks() - before - {asyncio.current_task()}), return_exceptions=True)
    assert asyncio.all_tasks() - before <= {asyncio.current_task()}
    assert faults == []


async def test_a_replica_is_asked_with_the_token_of_the_address(tmp_path_factory: pytest.TempPathFactory) -> None:
    key = JwtKey(tmp_path_factory.mktemp("key"))
    with SqldServer(tmp_path_factory.mktemp("p"), jwt_key=key) as primary:
        primary.script("CREATE TABLE meta(key, value); CREATE TABLE change_log(seq INTEGER PRIMARY KEY AUTOINCREMENT)")
        with SqldReplica(primary, tmp_path_factory.mktemp("r")) as replica:
            address = f"{primary.url}?authToken={primary.token}"
            async with await Database.open(address, replica=replica.url) as db:
                assert await db.near.read(Statement("SELECT 1")) == [[(1,)]]
                before = db.counts.past_replica
                assert await db.near.read(Statement("SELECT 2")) == [[(2,)]]
                assert db.counts.past_replica == before
