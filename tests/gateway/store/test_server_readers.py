"""Near reads of a libSQL server. The replica here is a second server that the test writes to itself, so that it lags as
far as the test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from gateway.errors import StoreError, StoreUnavailable
from gateway.store.driver import Statement
from gateway.store.http_streams import HttpServer
from gateway.store.server_readers import STREAMS, Near, Streams
from tests.support.faulty_streams import FaultyServer
from tests.support.sqld import SqldReplica, SqldServer
from tests.support.waiting import eventually

TABLES = "CREATE TABLE change_log(seq INTEGER PRIMARY KEY AUTOINCREMENT, doc TEXT)"
LAST = Statement("SELECT coalesce(max(seq), 0) FROM change_log")


def advance(server: SqldServer, to: int) -> None:
    """Let the server's change log end at `to`."""
    server.execute("INSERT INTO change_log(seq, doc) VALUES (?, 'x')", to)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SqldServer, SqldServer]]:
    with SqldServer(tmp_path_factory.mktemp("a")) as primary, SqldServer(tmp_path_factory.mktemp("b")) as replica:
        yield primary, replica


@pytest.fixture
def primary(servers: tuple[SqldServer, SqldServer]) -> SqldServer:
    return servers[0]


@pytest.fixture
def replica(servers: tuple[SqldServer, SqldServer]) -> SqldServer:
    return servers[1]


@pytest.fixture
async def near(primary: SqldServer, replica: SqldServer) -> AsyncIterator[Near]:
    for server in (primary, replica):
        if not server.running:
            server.start()
        server.script(f"DROP TABLE IF EXISTS change_log; {TABLES}")
    opened = [HttpServer(primary.url, None), HttpServer(replica.url, None)]
    streams = [Streams(server) for server in opened]
    yield Near(*streams)
    for kept in streams:
        await kept.close()
    for server in opened:
        await server.close()


async def seen(near: Near) -> int:
    [[(last,)]] = await near.read([LAST])
    return int(last)


class TestNear:
    async def test_the_replica_is_read(self, near: Near, primary: SqldServer, replica: SqldServer) -> None:
        advance(primary, 5)
        advance(replica, 3)
        assert await seen(near) == 3
        assert (near.floor, near.counts.past_replica) == (3, 0)

    async def test_a_replica_that_catches_up_is_waited_for(
        self, near: Near, primary: SqldServer, replica: SqldServer
    ) -> None:
        advance(primary, 9)
        advance(replica, 3)
        near.floor = 7
        reading = asyncio.ensure_future(seen(near))
        await asyncio.to_thread(advance, replica, 8)
        assert await reading == 8
        assert near.counts.past_replica == 0

    async def test_a_replica_that_does_not_is_not_believed(
        self, near: Near, primary: SqldServer, replica: SqldServer
    ) -> None:
        advance(primary, 9)
        advance(replica, 3)
        near.floor = 7
        assert await seen(near) == 9
        assert (near.floor, near.counts.past_replica) == (9, 1)

    async def test_what_the_primary_says_is_so(self, near: Near, primary: SqldServer, replica: SqldServer) -> None:
        """After a restore the numbering begins anew: nothing would ever reach the old position."""
        advance(primary, 4)
        advance(replica, 4)
        near.floor = 1_000
        assert await seen(near) == 4
        assert await seen(near) == 4
        assert (near.floor, near.counts.past_replica) == (4, 1)

    async def test_a_replica_that_is_away_costs_one_attempt(
        self, near: Near, primary: SqldServer, replica: SqldServer, caplog: pytest.LogCaptureFixture
    ) -> None:
        advance(primary, 6)
        advance(replica, 6)
        assert await seen(near) == 6
        replica.kill()
        assert [await seen(near) for _ in range(5)] == [6] * 5
        assert near.counts.past_replica == 5
        assert [record.message.partition(":")[0] for record in caplog.records] == [
            "the replica can not be read; the primary is"
        ]

    async def test_a_primary_that_is_away_leaves_the_replica(
        self, near: Near, primary: SqldServer, replica: SqldServer
    ) -> None:
        advance(primary, 2)
        advance(replica, 2)
        primary.kill()
        assert await seen(near) == 2
        near.floor = 3
        with pytest.raises(StoreUnavailable):
            await seen(near)

    async def test_the_primarys_position_bounds_how_old_it_can_be(
        self, near: Near, primary: SqldServer, replica: SqldServer
    ) -> None:
        """A replica that is cut off from its primary goes on answering as if nothing had happened."""
        advance(primary, 5)
        advance(replica, 3)
        assert await seen(near) == 3
        assert await near.confirm() == 5
        assert await seen(near) == 5
        assert near.counts.past_replica == 1

    async def test_a_numbering_that_began_anew_is_learnt(
        self, near: Near, primary: SqldServer, replica: SqldServer
    ) -> None:
        advance(primary, 4)
        advance(replica, 4)
        near.floor = 1_000
        assert await near.confirm() == 4
        assert await seen(near) == 4
        assert (near.floor, near.counts.past_replica) == (4, 0)

    async def test_a_commit_meanwhile_is_not_forgotten(
        self, near: Near, primary: SqldServer, replica: SqldServer
    ) -> None:
        advance(primary, 4)
        confirming = asyncio.ensure_future(near.confirm())
        await asyncio.sleep(0)
        near.floor = 6  # this process committed while the answer was on its way
        assert await confirming == 4
        assert near.floor == 6

    async def test_a_replica_is_not_believed_without_its_primary(
        self, near: Near, primary: SqldServer, replica: SqldServer
    ) -> None:
        advance(primary, 4)
        advance(replica, 4)
        strict = Near(near._primary, near._replica, trust_s=0.0)
        assert await seen(strict) == 4
        assert strict.counts.past_replica == 1
        primary.kill()
        with pytest.raises(StoreUnavailable):
            await seen(strict)

    async def test_a_snapshot_is_of_one_moment(self, near: Near, primary: SqldServer, replica: SqldServer) -> None:
        advance(primary, 2)
        advance(replica, 2)
        async with near.snapshot() as snapshot:
            assert await snapshot.read(LAST, LAST) == [[(2,)], [(2,)]]
            await asyncio.to_thread(advance, replica, 3)
            assert await snapshot.read(LAST) == [[(2,)]]
        assert await seen(near) == 3

    async def test_a_snapshot_that_never_read_asks_nobody(self, near: Near, replica: SqldServer) -> None:
        replica.kill()
        async with near.snapshot():
            pass

    async def test_a_refused_statement_is_an_error_and_harms_no_other(self, near: Near, replica: SqldServer) -> None:
        for _ in range(3 * STREAMS):
            with pytest.raises(StoreError, match="no such table"):
                await near.read([LAST, Statement("SELECT x FROM nowhere")])
        async with near.snapshot() as snapshot:
            with pytest.raises(StoreError, match="no such table"):
                await snapshot.read(Statement("SELECT x FROM nowhere"))
        assert await seen(near) == 0

    async def test_many_at_once_take_turns(self, near: Near, replica: SqldServer) -> None:
        advance(replica, 1)
        assert await asyncio.gather(*(seen(near) for _ in range(10 * STREAMS))) == [1] * (10 * STREAMS)

    async def test_a_cancelled_read_takes_nothing_along(self, near: Near, replica: SqldServer) -> None:
        advance(replica, 1)
        for _ in range(2 * STREAMS):
            reading = asyncio.ensure_future(seen(near))
            await asyncio.sleep(0)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        assert await seen(near) == 1

    async def test_a_cancelled_snapshot_takes_nothing_along(self, near: Near, replica: SqldServer) -> None:
        advance(replica, 1)

        async def hold(entered: asyncio.Event) -> None:
            async with near.snapshot() as snapshot:
                await snapshot.read(LAST)
                entered.set()
                await asyncio.Event().wait()

        for _ in range(2 * STREAMS):
            entered = asyncio.Event()
            holding = asyncio.ensure_future(hold(entered))
            await entered.wait()
            holding.cancel()
            await asyncio.gather(holding, return_exceptions=True)
        assert await seen(near) == 1

    async def test_a_server_that_was_restarted_is_read_again(
        self, near: Near, primary: SqldServer, replica: SqldServer
    ) -> None:
        advance(primary, 1)
        advance(replica, 1)
        await asyncio.gather(*(seen(near) for _ in range(STREAMS)))  # streams that the server is about to forget
        replica.restart()
        assert await seen(near) == 1
        assert near.counts.past_replica == 0

    async def test_a_snapshot_over_a_restart_fails_and_the_next_does_not(
        self, near: Near, primary: SqldServer, replica: SqldServer
    ) -> None:
        advance(replica, 1)
        async with near.snapshot() as snapshot:
            await snapshot.read(LAST)
            await asyncio.to_thread(replica.restart)
            with pytest.raises(StoreUnavailable):
                await snapshot.read(LAST)
        assert await seen(near) == 1


async def test_a_real_replica_never_shows_less_than_this_process_wrote(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Every write is seen by the near read that follows it, and positions never go back."""
    with SqldServer(tmp_path_factory.mktemp("p")) as primary:
        primary.script(TABLES)
        with SqldReplica(primary, tmp_path_factory.mktemp("r")) as replica:
            opened = [HttpServer(primary.url, None), HttpServer(replica.url, None)]
            near = Near(*map(Streams, opened))
            await eventually(lambda: replica.execute("SELECT count(*) FROM change_log") == [(0,)])
            writing = await asyncio.to_thread(primary.client)
            for number in range(1, 151):
                await asyncio.to_thread(writing.execute, "INSERT INTO change_log(seq, doc) VALUES (?, 'x')", number)
                near.floor = number
                assert await seen(near) == number
            writing.close()
            assert near.counts.past_replica < 150
            for server in opened:
                await server.close()


async def test_streams_that_are_not_used_are_not_kept(primary: SqldServer) -> None:
    """A server holds few for all its clients together."""
    if not primary.running:
        primary.start()
    server = HttpServer(primary.url, None)
    network = FaultyServer(server)
    streams = Streams(network, idle_s=0.05)
    near = Near(streams, None)
    assert await near.read([Statement("SELECT 1")]) == [[(1,)]]
    assert network.open == 0  # one read alone keeps none
    for _ in range(2):
        async with near.snapshot() as first, near.snapshot() as second:
            await asyncio.gather(first.read(Statement("SELECT 1")), second.read(Statement("SELECT 2")))
            assert network.open == 2
        assert await near.read([Statement("SELECT 3")]) == [[(3,)]]
        await eventually(lambda: network.open == 0)
    await streams.close()
    await server.close()
