"""A user's sessions on several nodes of one database. Every step is made by hand: signs of life, turns of the lists."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack

import pytest

from gateway.errors import StoreError, StoreUnavailable
from gateway.live.neighbours import ALIVE_S, BEAT_S
from gateway.live.rollcall import PATIENCE_S, REVIEW_S, TOLD_AFTER
from gateway.store.changes import last_seq
from gateway.store.database import Database, Statement
from tests.conftest import Place
from tests.support.node_rig import Peer, Rig
from tests.support.people import token_text
from tests.support.waiting import eventually

ADA, BOB = token_text("ada"), token_text("bob")

pytestmark = pytest.mark.storages("file", "server", "replica")

Start = Callable[..., Awaitable[list[Rig]]]


@pytest.fixture
async def start(cast: Database, database_place: Place) -> AsyncIterator[Start]:
    """Starts so many nodes, n0, n1, ... (after so many others), each with an access of its own to the database; they
    know each other.
    """
    async with AsyncExitStack() as stack:

        async def begin(count: int, maximum: int, after: int = 0) -> list[Rig]:
            rigs = []
            for number in range(after, after + count):
                opened = await Database.open(database_place.url, replica=database_place.replica)
                database = await stack.enter_async_context(opened)
                rig = Rig(database, name=f"n{number}", max_sessions_per_user=maximum)
                rigs.append(await stack.enter_async_context(rig))
            for rig in (*rigs, *rigs):
                await rig.node.neighbours.beat()
            return rigs

        yield begin


async def turn(*rigs: Rig, times: int = 6) -> None:
    """Every node hears what the others wrote, gives a sign and does what is on its lists; so many times."""
    for _ in range(times):
        for rig in rigs:
            await rig.settle()
            await rig.node.neighbours.beat()
            await rig.node.roll_call.turn()


async def open_some(rig: Rig, count: int, token: str = ADA) -> list[Peer]:
    peers = []
    for _ in range(count):
        rig.clock.advance(0.001)
        peers.append(await rig.connect(token, settle=False))
    await rig.settle()
    return peers


def open_now(peers: Sequence[Peer]) -> list[bool]:
    return [peer.ended is None for peer in peers]


def number_of(peers: Sequence[Peer]) -> int:
    return sum(open_now(peers))


async def rows(database: Database) -> list[tuple[str, str]]:
    return (await database.read(Statement("SELECT user_id, node FROM node_sessions ORDER BY user_id, node")))[0]


async def test_one_node_alone_never_writes_a_session(start: Start, cast: Database) -> None:
    [rig] = await start(1, 3)
    before = await last_seq(cast)
    peers = await open_some(rig, 5)
    assert open_now(peers) == [False, False, True, True, True]
    await turn(rig)
    for peer in peers:
        peer.hang_up()
    await turn(rig)
    assert (await rows(cast), await last_seq(cast)) == ([], before)


async def test_who_stays_within_the_share_is_never_written(start: Start, cast: Database) -> None:
    one, two = await start(2, 6)
    peers = await open_some(one, 3) + await open_some(two, 3)
    await turn(one, two)
    assert (number_of(peers), await rows(cast)) == (6, [])


async def test_too_many_in_all_end_the_oldest_wherever_they_are(start: Start, cast: Database) -> None:
    one, two = await start(2, 6)
    first = await open_some(one, 3)
    two.clock.advance(60)
    second = await open_some(two, 5)
    others = await open_some(one, 2, BOB)
    await turn(one, two)
    assert open_now(first) == [False, False, True]
    assert number_of(second) == 5
    assert [peer.take()[-1]["code"] for peer in first[:2]] == ["replaced", "replaced"]
    assert await rows(cast) == [("ada", "n0")] + [("ada", "n1")] * 5
    assert number_of(others) == 2


async def test_the_maximum_holds_for_three_nodes_and_any_order(start: Start, cast: Database) -> None:
    nodes = await start(3, 5)
    peers: list[Peer] = []
    for step in range(12):
        for rig in nodes:
            rig.clock.advance(1)
        peers += await open_some(nodes[step % 3], 1)
        await turn(*nodes, times=4)
        assert number_of(peers) == min(len(peers), 5)
    assert open_now(peers) == [False] * 7 + [True] * 5
    for peer in peers[-5:]:
        peer.hang_up()
    await turn(*nodes)
    assert await rows(cast) == []


async def test_as_many_nodes_as_the_maximum_are_exact(start: Start) -> None:
    nodes = await start(3, 3)
    peers: list[Peer] = []
    for rig in (*nodes, *nodes):
        rig.clock.advance(1)
        peers += await open_some(rig, 1)
    await turn(*nodes)
    assert number_of(peers) == 3


async def test_a_session_where_the_user_was_a_stranger_counts_too(start: Start, cast: Database) -> None:
    """The other node heard of the user's sessions before it had one itself."""
    one, two = await start(2, 4)
    first = await open_some(one, 4)
    await turn(one, two)
    assert await rows(cast) == [("ada", "n0")] * 4
    two.clock.advance(60)
    second = await open_some(two, 1)
    await turn(one, two)
    assert open_now(first) == [False, True, True, True]
    assert number_of(second) == 1
    assert await rows(cast) == [("ada", "n0")] * 3 + [("ada", "n1")]


async def test_closed_sessions_make_room(start: Start, cast: Database) -> None:
    one, two = await start(2, 4)
    first = await open_some(one, 4)
    await turn(one, two)
    for peer in first[:2]:
        peer.hang_up()
    second = await open_some(two, 2)
    await turn(one, two)
    assert open_now(first[2:]) + open_now(second) == [True] * 4
    assert await rows(cast) == [("ada", "n0")] * 2 + [("ada", "n1")] * 2


async def test_a_user_whose_sessions_are_all_gone_costs_nothing_any_more(start: Start, cast: Database) -> None:
    one, two = await start(2, 4)
    for peer in await open_some(one, 3):
        await turn(one, two, times=1)
        peer.hang_up()
    await turn(one, two)
    before = await last_seq(cast)
    await open_some(one, 1)
    await open_some(two, 1)
    await turn(one, two)
    assert (await rows(cast), await last_seq(cast)) == ([], before)
    assert "ada" not in one.hub.presence.elsewhere | two.hub.presence.elsewhere


async def test_the_rows_of_a_node_that_died_end_nobody(start: Start) -> None:
    """It is killed, its clients are back elsewhere at once, and nobody has missed it yet."""
    one, two = await start(2, 6)
    old = await open_some(one, 3)
    one.clock.advance(60)
    two.clock.advance(60)
    await open_some(two, 3)
    extra = await open_some(one, 1)
    await turn(one, two)
    assert number_of(old + extra) == 3, "six are allowed"
    again = await open_some(one, 3)
    for _ in range(round(ALIVE_S / BEAT_S) + 3):
        one.clock.advance(BEAT_S)
        await turn(one, times=2)
        assert number_of(old + extra + again) == 6
    assert one.node.neighbours.living == 1
    last = await open_some(one, 1)
    assert number_of(old + extra + again + last) == 6


async def test_a_dead_node_does_not_keep_the_others_from_the_maximum(start: Start) -> None:
    one, two, dead = await start(3, 6)
    await open_some(dead, 3)
    first = await open_some(one, 3)
    await turn(one, two, dead)
    one.clock.advance(60)
    two.clock.advance(60)
    second = await open_some(two, 6)
    for _ in range(4):
        one.clock.advance(PATIENCE_S / 2)
        two.clock.advance(PATIENCE_S / 2)
        await turn(one, two, times=2)
    assert number_of(first + second) == 6
    assert two.node.neighbours.living == 3, "the dead one is not missed yet"


async def test_a_node_that_was_removed_registers_its_sessions_again(start: Start, cast: Database) -> None:
    one, two = await start(2, 4)
    peers = await open_some(one, 3)
    await turn(one, two)
    await cast.write(Statement("DELETE FROM nodes WHERE name = 'n0'"))
    assert await rows(cast) == []
    two.clock.advance(60)
    more = await open_some(two, 3)
    await turn(one, two)
    assert open_now(peers) == [False, False, True]
    assert number_of(more) == 3
    assert await rows(cast) == [("ada", "n0")] + [("ada", "n1")] * 3


async def test_one_more_node_makes_the_shares_smaller(start: Start, cast: Database) -> None:
    one, two = await start(2, 6)
    first, second = await open_some(one, 3), await open_some(two, 3)
    await turn(one, two)
    assert await rows(cast) == []
    [three] = await start(1, 6, after=2)
    three.clock.advance(60)
    await turn(one, two, three)
    assert await rows(cast) == [("ada", "n0")] * 3 + [("ada", "n1")] * 3
    third = await open_some(three, 1)
    await turn(one, two, three)
    assert number_of(first + second + third) == 6
    assert number_of(third) == 1


async def test_the_database_away_is_done_later(start: Start, cast: Database) -> None:
    one, two = await start(2, 4)
    first = await open_some(one, 2)
    await turn(one, two)
    one.store.fail()
    two.store.fail()
    two.clock.advance(60)
    two.store.recover()
    second = await open_some(two, 4)
    two.store.fail()
    for rig in (one, two):
        with pytest.raises(Exception, match="on fire"):
            await rig.node.neighbours.beat()
    with pytest.raises(Exception, match="on fire"):
        await two.node.roll_call.turn()
    assert number_of(first + second) == 6
    one.store.recover()
    two.store.recover()
    await turn(one, two)
    assert (open_now(first), number_of(second)) == ([False, False], 4)
    assert await rows(cast) == [("ada", "n1")] * 4


async def test_the_review_finds_what_the_log_did_not_tell(start: Start, cast: Database) -> None:
    one, two = await start(2, 4)
    await cast.write(Statement("DROP TRIGGER node_sessions_insert"))
    first = await open_some(one, 2)
    two.clock.advance(60)
    second = await open_some(two, 4)
    await turn(one, two)
    assert number_of(first + second) == 6
    for rig in (one, two):
        await rig.node.roll_call.review()
    await turn(one, two)
    assert (open_now(first), number_of(second)) == ([False, False], 4)


async def test_the_review_mends_rows_that_do_not_agree(start: Start, cast: Database) -> None:
    """As after a restore: rows of sessions long gone, and none of those that are open."""
    one, two = await start(2, 4)
    peers = await open_some(one, 3)
    await turn(one, two)
    await cast.write(
        Statement("DELETE FROM node_sessions"),
        Statement("INSERT INTO node_sessions VALUES ('s_old', 'ada', 'n0', 5), ('s_older', 'bob', 'n0', 5)"),
    )
    await one.node.roll_call.review()
    await turn(one, two)
    assert (number_of(peers), await rows(cast)) == (3, [("ada", "n0")] * 3)


async def spoil_rows_of(user: str, database: Database) -> None:
    """A registered session of this user that nobody can read, as a foreign writer may leave it."""
    await database.write(
        Statement("INSERT INTO nodes VALUES ('alien', 'v', 0, 0, 1, 'e', 0, 0)"),
        Statement("INSERT INTO node_sessions VALUES ('s' || CAST(x'ff' AS TEXT), ?, 'alien', 5)", (user,)),
    )


async def test_a_user_who_spoils_the_group_is_left_out_and_the_others_are_counted(
    start: Start, cast: Database, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = await start(2, 4)
    await spoil_rows_of("bob", cast)
    first = await open_some(one, 2)
    await open_some(one, 3, BOB)
    two.clock.advance(60)
    second = await open_some(two, 4)
    await turn(one, two)
    assert (open_now(first), number_of(second)) == ([False, False], 4)
    told = [record for record in caplog.records if record.message == "sessions can not be counted"]
    assert {record.of for record in told} == {"bob"}  # type: ignore[attr-defined]
    assert not one.hub.presence.to_count


async def test_who_can_not_be_registered_keeps_nobody_else_from_it(start: Start, cast: Database) -> None:
    [one, _] = await start(2, 4)
    await cast.write(
        Statement(
            "CREATE TRIGGER refuse BEFORE INSERT ON node_sessions WHEN NEW.user_id = 'bob'"
            " BEGIN SELECT RAISE(ABORT, 'not him'); END"
        )
    )
    peers = await open_some(one, 3, BOB) + await open_some(one, 3)
    await turn(one)
    assert await rows(cast) == [("ada", "n0")] * 3
    assert not one.hub.presence.to_register
    assert number_of(peers) == 6


async def test_a_node_that_is_not_on_the_list_waits_for_its_sign(
    start: Start, cast: Database, caplog: pytest.LogCaptureFixture
) -> None:
    one, _ = await start(2, 4)
    await open_some(one, 3)
    await open_some(one, 3, BOB)
    await cast.write(Statement("DELETE FROM nodes WHERE name = 'n0'"))
    with pytest.raises(StoreUnavailable):
        await one.node.roll_call.turn()
    assert list(one.hub.presence.to_register) == ["ada", "bob"]
    await one.node.neighbours.beat()
    await one.node.roll_call.turn()
    assert await rows(cast) == [("ada", "n0")] * 3 + [("bob", "n0")] * 3
    assert "sessions can not be counted" not in caplog.messages


@pytest.mark.storages("file")
async def test_a_review_that_fails_stops_nothing_else_and_comes_again(
    start: Start, cast: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    one, _ = await start(2, 4)
    reviews = 0

    async def fail() -> None:
        nonlocal reviews
        reviews += 1
        raise StoreError("too much for one reply")

    monkeypatch.setattr(one.node.roll_call, "review", fail)
    working = asyncio.create_task(one.node.roll_call.run())
    try:
        await eventually(lambda: reviews == 1)
        await open_some(one, 3)
        await eventually(lambda: list(one.hub.presence.rows.values()) == [True] * 3)
        assert reviews == 1, "not before a minute has passed"
        for number in range(2, TOLD_AFTER + 3):
            one.clock.advance(2 * REVIEW_S)
            one.hub.presence.wake()
            await eventually(lambda number=number: reviews == number)  # type: ignore[misc]
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
    told = [record for record in caplog.records if record.message == "counting sessions was put off"]
    assert [(record.levelname, record.part) for record in told] == [("WARNING", "review")]  # type: ignore[attr-defined]


async def test_it_runs_by_itself(start: Start, cast: Database) -> None:
    """As in a gateway: nothing by hand but the clients."""
    one, two = await start(2, 4)
    working = [
        asyncio.create_task(work)
        for rig in (one, two)
        for work in (rig.node.neighbours.run(), rig.node.roll_call.run())
    ]
    try:
        first = await open_some(one, 2)
        two.clock.advance(60)
        second = await open_some(two, 4)
        await eventually(lambda: number_of(first + second) == 4)
        assert open_now(first) == [False, False]
        for peer in second:
            peer.hang_up()
        async with asyncio.timeout(10):
            while await rows(cast):
                await cast.wait_for_change()
    finally:
        for task in working:
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)
