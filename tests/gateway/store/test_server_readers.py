"""Near reads of a libSQL server. The replica here is a second server that the test writes to itself, so that it lags as
far as the test says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from gateway.errors import SnapshotLost, StoreError, StoreUnavailable
from gateway.store.driver import Statement
from gateway.store.http_streams import HttpServer
from gateway.store.server_readers import LAG_PAUSES_S, Near, Standing
from gateway.store.server_streams import STREAMS, Streams
from tests.support.faulty_streams import FaultyServer
from tests.support.sqld import SqldReplica, SqldServer
from tests.support.waiting import eventually

TABLES = """
CREATE TABLE change_log(seq INTEGER PRIMARY KEY AUTOINCREMENT, doc TEXT);
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT);
INSERT INTO meta VALUES ('epoch', 'first');
"""
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
        server.script(f"DROP TABLE IF EXISTS change_log; DROP TABLE IF EXISTS meta; {TABLES}")
    opened = [HttpServer(primary.url, None), HttpServer(replica.url, None)]
    streams = [Streams(server) for server in opened]
    confirmed = Near(*streams)
    await confirmed.confirm()
    yield confirmed
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
        assert (near.floor, near.counts.past_replica) == (4, 2)

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
        assert (await near.confirm()).position == 5
        assert await seen(near) == 5
        assert near.counts.past_replica == 1

    async def test_a_numbering_that_began_anew_is_learnt(
        self, near: Near, primary: SqldServer, replica: SqldServer
    ) -> None:
        advance(primary, 4)
        advance(replica, 4)
        near.floor = 1_000
        assert (await near.confirm()).position == 4
        assert await seen(near) == 4
        assert (near.floor, near.counts.past_replica) == (4, 0)

    async def test_a_commit_meanwhile_is_not_forgotten(
        self, near: Near, primary: SqldServer, replica: SqldServer
    ) -> None:
        advance(primary, 4)
        confirming = asyncio.ensure_future(near.confirm())
        await asyncio.sleep(0)
        near.floor = 6  # this process committed while the answer was on its way
        assert (await confirming).position == 4
        assert near.floor == 6

    async def test_a_replica_is_not_believed_without_its_primary(
        self, near: Near, primary: SqldServer, replica: SqldServer
    ) -> None:
        advance(primary, 4)
        advance(replica, 4)
        strict = Near(near._primary, near._replica, trust_s=0.0)
        await strict.confirm()
        assert await seen(strict) == 4
        assert strict.counts.past_replica == 1
        primary.kill()
        with pytest.raises(StoreUnavailable):
            await seen(strict)

    async def test_a_new_process_asks_the_primary_first(
        self, near: Near, primary: SqldServer, replica: SqldServer
    ) -> None:
        """What an earlier process of this node saw is not to be taken back."""
        advance(primary, 9)
        advance(replica, 3)
        new = Near(near._primary, near._replica)
        assert await seen(new) == 9
        assert await seen(new) == 9
        assert new.floor == 9

    async def test_a_replica_of_another_epoch_is_behind_however_far_it_is(
        self, near: Near, primary: SqldServer, replica: SqldServer
    ) -> None:
        """The primary was restored: its numbers are smaller, and the replica still shows what is no more."""
        advance(primary, 1_000)
        advance(replica, 1_000)
        assert await seen(near) == 1_000
        primary.script("UPDATE meta SET value = 'second'; DELETE FROM change_log; UPDATE sqlite_sequence SET seq = 100")
        assert (await near.confirm()).position == 100
        assert [await seen(near) for _ in range(3)] == [0, 0, 0]  # the rows are gone
        assert near.floor == 100
        replica.script("UPDATE meta SET value = 'second'; DELETE FROM change_log; UPDATE sqlite_sequence SET seq = 100")
        await eventually(lambda: near._rest_until < time.monotonic())
        before = near.counts.past_replica
        assert await seen(near) == 0
        assert near.counts.past_replica == before

    async def test_an_answer_that_was_overtaken_is_not_believed(
        self, near: Near, primary: SqldServer, replica: SqldServer
    ) -> None:
        old = asyncio.ensure_future(near.confirm())
        await asyncio.sleep(0)
        near._learn(Standing("second", 3), time.monotonic(), 0)
        await old
        assert (near._epoch, near.floor) == ("second", 3)

    async def test_one_that_stays_behind_is_left_alone_for_a_while(
        self, near: Near, primary: SqldServer, replica: SqldServer
    ) -> None:
        """It may be behind because it has too much to do."""
        advance(primary, 9)
        advance(replica, 3)
        near.floor = 7
        counted = FaultyServer(near._replica._server)  # type: ignore[union-attr]
        near._replica._server = counted  # type: ignore[union-attr]
        assert [await seen(near) for _ in range(20)] == [9] * 20
        assert counted.batches + counted.singles <= 2 + len(LAG_PAUSES_S)

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
        advance(primary, 1)
        advance(replica, 1)
        async with near.snapshot() as snapshot:
            await snapshot.read(LAST)
            await asyncio.to_thread(replica.restart)
            with pytest.raises(SnapshotLost):
                await snapshot.read(LAST)
        assert await seen(near) == 1
        assert near.counts.past_replica == 1  # asked elsewhere next


async def test_a_real_replica_never_shows_less_than_this_process_wrote(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Every write is seen by the near read that follows it, and positions never go back."""
    with SqldServer(tmp_path_factory.mktemp("p")) as primary:
        primary.script(TABLES)
        with SqldReplica(primary, tmp_path_factory.mktemp("r")) as replica:
            opened = [HttpServer(primary.url, None), HttpServer(replica.url, None)]
            near = Near(*map(Streams, opened))
            await near.confirm()
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
