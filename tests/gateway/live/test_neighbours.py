from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from gateway.live.neighbours import ALIVE_S, BEAT_S, STALL_S, Neighbours
from gateway.live.presence import Presence
from gateway.store.database import Database, Statement
from gateway.store.nodes import NodeRecord
from tests.support.flaky_store import FlakyStore
from tests.support.node_rig import ManualClock, Rig
from tests.support.people import token_text
from tests.support.virtual_time import VirtualTimeLoop
from tests.support.waiting import eventually


class Neighbour:
    """One node's view, with a clock and a store of its own; as many signs and seconds as a test wants."""

    def __init__(self, database: Database, name: str, **times: float) -> None:
        self.clock = ManualClock()
        self.store = FlakyStore(database)
        self.presence = Presence({}, 20)
        self.view = Neighbours(name, self.store, self.clock, self.presence, self.record, **times)  # type: ignore[arg-type]
        self.name = name

    def record(self) -> NodeRecord:
        return NodeRecord(self.name, "1.0", 0, "e", 0, 0)

    async def beat(self, after_s: float = BEAT_S) -> None:
        self.clock.advance(after_s)
        await self.view.beat()

    @property
    def sees(self) -> set[str]:
        return set(self.view.beats)


async def on_the_list(database: Database) -> set[str]:
    return {name for (name,) in (await database.read(Statement("SELECT name FROM nodes")))[0]}


async def test_nodes_find_each_other_and_share_the_maximum(database: Database) -> None:
    nodes = [Neighbour(database, f"n{number}") for number in range(3)]
    assert [(node.view.living, node.view.first) for node in nodes] == [(1, True)] * 3
    for node in [*nodes, *nodes]:
        await node.beat()
    assert [node.view.living for node in nodes] == [3, 3, 3]
    assert [node.view.first for node in nodes] == [True, False, False]
    assert [node.presence.share for node in nodes] == [6, 6, 6]
    await nodes[0].view.leave()
    await nodes[1].beat()
    assert (nodes[1].sees, nodes[1].view.first, nodes[1].presence.share) == ({"n1", "n2"}, True, 10)


async def test_more_nodes_than_the_maximum_may_have_one_session_each(database: Database) -> None:
    node = Neighbour(database, "n")
    await node.beat()
    node.presence.living(50)
    assert node.presence.share == 1


async def test_a_node_without_a_sign_is_removed_when_it_was_watched_long_enough(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    here, dead = Neighbour(database, "here"), Neighbour(database, "dead")
    await dead.beat()
    dead.clock.set_wall(3_600_000)
    for _ in range(round(ALIVE_S / BEAT_S) + 1):
        await here.beat()
        assert here.sees == {"here", "dead"}
    await here.beat()
    assert here.sees == await on_the_list(database) == {"here"}
    assert [r.node for r in caplog.records if "was taken off the list" in r.message] == ["dead"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("skew_ms", [-86_400_000, 86_400_000])
async def test_a_clock_that_is_wrong_kills_nobody(database: Database, skew_ms: int) -> None:
    here, there = Neighbour(database, "here"), Neighbour(database, "there")
    there.clock.set_wall(skew_ms)
    for _ in range(20):
        await here.beat()
        await there.beat()
        here.clock.set_wall(-skew_ms)
        assert here.sees | there.sees == {"here", "there"}


async def test_time_in_which_nobody_could_look_does_not_count(database: Database) -> None:
    """The database was away for everybody, or this node stood still: the others had no chance to show up."""
    here, there = Neighbour(database, "here"), Neighbour(database, "there")
    for _ in range(3):
        await there.beat()
        await here.beat()
    await here.beat(after_s=10 * ALIVE_S)
    for _ in range(round(ALIVE_S / BEAT_S)):
        await here.beat()
    assert here.sees == {"here", "there"}
    await here.beat()
    assert here.sees == {"here"}


async def test_a_node_that_comes_back_in_the_last_moment_stays(database: Database) -> None:
    here, there = Neighbour(database, "here"), Neighbour(database, "there")
    await there.beat()
    for _ in range(round(ALIVE_S / BEAT_S) + 1):
        await here.beat()
    reads = here.store.reads

    async def sign_between() -> None:
        if here.store.reads == reads + 2:
            await there.view.beat()

    here.store.gate = sign_between
    await here.beat()
    assert here.store.reads == reads + 2, "it tried"
    assert here.sees == await on_the_list(database) == {"here", "there"}


async def test_who_was_removed_is_there_again_with_its_next_sign(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    node = Neighbour(database, "n")
    node.presence.rows = {"s1": True}
    await node.beat()
    node.presence.rows = {"s1": True}
    await node.beat()
    assert node.presence.rows == {"s1": True}
    await database.write(Statement("DELETE FROM nodes"))
    await node.beat()
    assert node.presence.rows == {"s1": False}, "to be registered again"
    assert await on_the_list(database) == {"n"}
    assert len([r for r in caplog.records if "is on it again" in r.message]) == 1


# --- writes that stall ---


@pytest.fixture
async def run(database: Database) -> AsyncIterator[Callable[..., Awaitable[Neighbour]]]:
    """Starts a node that gives signs by itself, every few milliseconds."""
    async with AsyncExitStack() as stack:

        async def start(**times: float) -> Neighbour:
            node = Neighbour(database, "n", **({"beat_s": 0.01, "stall_s": 0.05} | times))
            task = asyncio.create_task(node.view.run())

            async def stop() -> None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

            stack.push_async_callback(stop)
            await eventually(lambda: node.view.beats.get("n", 0) >= 3)
            return node

        yield start


def said(caplog: pytest.LogCaptureFixture, text: str) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.message == text]


@pytest.mark.storages("file")
async def test_a_write_that_hangs_is_told_once_and_so_is_its_end(
    run: Callable[..., Awaitable[Neighbour]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    node = await run()
    gate = asyncio.Event()
    node.store.gate = gate.wait
    await eventually(lambda: node.view.stalled)
    [record] = said(caplog, "the database takes no writes")
    assert (record.levelname, record.error) == ("ERROR", "no answer")  # type: ignore[attr-defined]
    assert "restart it, with SIGKILL" in record.remedy  # type: ignore[attr-defined]
    gate.set()
    await eventually(lambda: not node.view.stalled)
    assert len(said(caplog, "the database takes writes again")) == 1
    assert len(said(caplog, "the database takes no writes")) == 1


@pytest.mark.storages("file")
async def test_writes_that_fail_are_told_after_a_while(
    run: Callable[..., Awaitable[Neighbour]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    node = await run(stall_s=STALL_S)
    node.store.fail()
    reads = node.store.reads
    await eventually(lambda: node.store.reads > reads + 3)
    assert node.view.stalled is False
    node.clock.advance(STALL_S)
    await eventually(lambda: node.view.stalled)
    reads = node.store.reads
    await eventually(lambda: node.store.reads > reads + 3)
    [record] = said(caplog, "the database takes no writes")
    assert "the disk is on fire" in record.error  # type: ignore[attr-defined]
    node.presence.rows = {"s1": True}
    node.store.recover()
    await eventually(lambda: not node.view.stalled)
    assert len(said(caplog, "the database takes writes again")) == 1
    assert node.presence.rows == {"s1": False}, "nobody knows what the writes that failed have left"


@pytest.mark.storages("file")
async def test_many_nodes_try_again_over_a_longer_time(database: Database) -> None:
    node = Neighbour(database, "n")
    assert 0.5 <= min(node.view.retry_s() for _ in range(100)) <= max(node.view.retry_s() for _ in range(100)) <= 1
    node.view.beats = {f"n{number}": 1 for number in range(199)}
    waits = [node.view.retry_s() for _ in range(200)]
    assert (5 <= min(waits) < 6, 9 < max(waits) <= 10) == (True, True)


def test_who_is_waited_for_gives_a_sign_at_once_but_one_a_second_at_the_most(monkeypatch: pytest.MonkeyPatch) -> None:
    signs: list[float] = []

    async def beat() -> None:
        signs.append(loop.time())

    async def wait_for_signs() -> None:
        node = Neighbours("n", None, ManualClock(), Presence({}, 20), lambda: None, beat_s=1_000)  # type: ignore[arg-type, return-value]
        monkeypatch.setattr(node, "beat", beat)
        running = asyncio.create_task(node.run())
        await asyncio.sleep(0.2)
        for _ in range(100):
            node.beat_soon()
            await asyncio.sleep(0.05)
        running.cancel()

    loop = VirtualTimeLoop()
    try:
        loop.run_until_complete(wait_for_signs())
    finally:
        loop.close()
    assert signs == pytest.approx([0, 0.2, 1.2, 2.2, 3.2, 4.2])


@pytest.mark.storages("file")
async def test_one_write_that_fails_is_no_stall(run: Callable[..., Awaitable[Neighbour]]) -> None:
    node = await run(stall_s=STALL_S)
    node.store.fail()
    reads = node.store.reads
    await eventually(lambda: node.store.reads > reads)
    node.store.recover()
    beats = node.view.beats["n"]
    await eventually(lambda: node.view.beats["n"] > beats)
    node.clock.advance(STALL_S)
    beats = node.view.beats["n"]
    await eventually(lambda: node.view.beats["n"] > beats)
    assert node.view.stalled is False


async def test_a_node_that_can_not_be_written_is_not_ready(rig: Rig) -> None:
    rig.node.neighbours.stalled = True
    assert rig.node.not_ready() == ["database_writes_stalled"]


async def test_leaving_does_not_wait_for_a_database_that_is_away(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    node = Neighbour(database, "n")
    await node.beat()
    node.store.fail()
    await node.view.leave()
    assert await on_the_list(database) == {"n"}
    [record] = said(caplog, "this node is still on the list of nodes")
    assert record.error == "the disk is on fire"  # type: ignore[attr-defined]


async def test_what_a_node_writes_of_itself(rig: Rig) -> None:
    await rig.connect(token_text("ada"))
    await rig.connect()
    await rig.node.neighbours.beat()
    [[row]] = await rig.database.read(Statement("SELECT name, epoch, position, sessions, seen_at FROM nodes"))
    assert row == ("n1", rig.hub.epoch, rig.feed.position, 2, rig.clock.wall)


@pytest.mark.storages("file")
async def test_what_can_not_be_understood_does_not_end_the_signs(
    run: Callable[..., Awaitable[Neighbour]], database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    node = await run()
    await database.write(
        Statement("INSERT INTO nodes VALUES (CAST(x'ff' AS TEXT), 'v', 0, 0, 1, 'e', 0, 0)"),
    )
    await eventually(lambda: said(caplog, "a sign of life failed"))
    await database.write(Statement("DELETE FROM nodes WHERE version = 'v'"))
    beats = node.view.beats["n"]
    await eventually(lambda: node.view.beats["n"] > beats + 3)
    await eventually(lambda: not node.view.stalled)


async def test_the_log_is_shortened_by_one_node_and_the_use_of_tokens_written_by_each(rig: Rig, cast: Database) -> None:
    await rig.node.neighbours.beat()
    await rig.run("UPDATE change_log SET at = 0")
    other = Neighbour(cast, "a node that comes first")
    await other.beat()
    await rig.node.neighbours.beat()
    await rig.connect(token_text("ada"))
    [[(before,)]] = await cast.read(Statement("SELECT count(*) FROM change_log"))
    await rig.node.housekeeping.keep_house()
    used, [(after,)] = await cast.read(
        Statement("SELECT id FROM api_tokens WHERE last_used_at IS NOT NULL"),
        Statement("SELECT count(*) FROM change_log WHERE at = 0"),
    )
    assert (used, after) == ([("t_ada",)], before)
    await other.view.leave()
    await rig.node.neighbours.beat()
    await rig.node.housekeeping.keep_house()
    [[(left,)]] = await cast.read(Statement("SELECT count(*) FROM change_log WHERE at = 0"))
    assert left < before
