from __future__ import annotations

import asyncio

import pytest

from gateway.live.report import node_metrics
from gateway.store.database import Database
from tests.support.node_rig import START_MS, Rig
from tests.support.people import insert, token_text
from tests.support.waiting import eventually

ADA, BOB, EVE, ROOT = (token_text(name) for name in ("ada", "bob", "eve", "root"))


async def test_a_drain_tells_everybody_and_takes_nobody(rig: Rig) -> None:
    peers = [await rig.connect(token) for token in (ADA, BOB, EVE)] + [await rig.connect()]
    for peer in peers:
        peer.take()
    await rig.node.drain(0.2)
    for peer in peers:
        ended = peer.one("ended")
        assert (ended["code"], ended["reconnect"]) == ("going_away", "now")
        assert 0 <= ended["retry_after_s"] <= 0.2
        assert peer.transport.closed_with == (1001, "going_away", 5.0)
    assert rig.node.not_ready() == ["draining"]
    assert rig.node.sessions == {}


async def test_a_drain_spreads_the_goodbyes_over_its_window(cast: Database) -> None:
    async with Rig(cast, max_sessions_per_user=200) as rig:
        peers = [await rig.connect(ADA, settle=False) for _ in range(120)]
        await rig.settle()
        draining = asyncio.create_task(rig.node.drain(0.3))
        gone: list[int] = []

        def all_gone() -> bool:
            gone.append(sum(peer.ended is not None for peer in peers))
            return gone[-1] == 120

        await eventually(all_gone)
        await draining
        assert len(set(gone) - {0, 120}) >= 2


@pytest.mark.parametrize("many", [1, 2, 5])
async def test_a_few_sessions_are_spread_as_well(cast: Database, many: int) -> None:
    """The first goes at once, the last one a part of the window before its end."""
    async with Rig(cast) as rig:
        peers = [await rig.connect(ADA) for _ in range(many)]
        draining, began = asyncio.create_task(rig.node.drain(1.0)), asyncio.get_running_loop().time()
        went: list[float] = []

        def all_gone() -> bool:
            gone = sum(peer.ended is not None for peer in peers)
            went.extend([asyncio.get_running_loop().time() - began] * (gone - len(went)))
            return gone == many

        await eventually(all_gone)
        await draining
        assert all(at >= index / many - 0.001 for index, at in enumerate(went)), went


async def test_a_drain_is_over_with_its_last_session(rig: Rig) -> None:
    ada, bob = await rig.connect(ADA), await rig.connect(BOB)
    draining = asyncio.create_task(rig.node.drain(3600))
    await eventually(lambda: ada.ended or bob.ended)
    (bob if ada.ended else ada).hang_up()
    await asyncio.wait_for(draining, 10)
    nobody = asyncio.create_task(rig.node.drain(3600))
    await asyncio.wait_for(nobody, 1)


async def test_who_comes_in_while_the_others_are_sent_away_goes_in_the_end(rig: Rig) -> None:
    """A handshake that was answered before the drain began."""
    first = [await rig.connect(ADA), await rig.connect(EVE)]
    draining = asyncio.create_task(rig.node.drain(0.6))
    await eventually(lambda: any(peer.ended for peer in first))
    late = await rig.connect(BOB, settle=False)
    await draining
    assert late.ended == "going_away"


async def test_a_drain_without_a_window_is_over_at_once(rig: Rig) -> None:
    ada = await rig.connect(ADA)
    await asyncio.wait_for(rig.node.drain(0), 1)
    assert ada.ended == "going_away"


async def test_a_full_node_says_so(cast: Database) -> None:
    async with Rig(cast, max_sessions=2) as rig:
        ada = await rig.connect(ADA)
        assert rig.node.not_ready() == []
        await rig.connect()
        assert (rig.node.full(stranger=False), rig.node.full(stranger=True)) == (True, True)
        assert rig.node.not_ready() == ["full"]
        ada.hang_up()
        assert rig.node.full(stranger=False) is False
        assert rig.node.not_ready() == []


async def test_strangers_fill_a_part_of_the_node_and_who_proves_itself_is_none_any_more(cast: Database) -> None:
    async with Rig(cast, max_sessions=1_000) as rig:
        peers = [await rig.connect(settle=False) for _ in range(100)]
        assert (rig.node.full(stranger=True), rig.node.full(stranger=False)) == (True, False)
        peers[0].say(op="auth", token=ADA)
        await rig.settle()
        assert rig.node.full(stranger=True) is False
        peers.append(await rig.connect(settle=False))
        assert rig.node.full(stranger=True) is True
        peers[1].hang_up()
        peers[2].say(op="ping")
        assert rig.node.full(stranger=True) is False
        for peer in peers:
            peer.connection.stop()
            peer.hang_up()
        assert len(rig.node.strangers) == 0


async def test_a_connection_has_one_place_in_the_wheel(rig: Rig) -> None:
    """However often its deadline moves, nothing piles up."""
    ada = await rig.connect(ADA)
    await rig.tick()
    for _ in range(200):
        ada.pause()
        ada.resume()
    for _ in range(3):
        rig.clock.advance(24)
        await eventually(lambda: ada.connection.scheduled_at > rig.clock.mono)
        ada.connection.pong_received()
    assert len(rig.node._deadlines) <= 5
    assert ada.ended is None


async def test_a_wall_clock_that_is_set_is_noticed(rig: Rig) -> None:
    await rig.database.write(
        insert("user_permissions", user_id="ada", permission="x", expires_at=START_MS + 3_600_000),
        insert("api_tokens", id="t_2", user_id="bob", token_hash="x", expires_at=START_MS + 3_600_000),
    )
    ada = await rig.connect(ADA)
    assert "x" in ada.take()[-1]["data"]["permissions"]
    await rig.tick()
    rig.clock.set_wall(3_700_000)
    await eventually(lambda: "update" in ada.ops())
    assert "x" not in ada.documents["user:ada"]["permissions"]
    rig.clock.set_wall(-3_700_000)
    await eventually(lambda: "update" in ada.ops())
    assert "x" in ada.documents["user:ada"]["permissions"]


async def test_housekeeping_that_fails_is_told_and_done_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    done = 0

    async def fail() -> None:
        nonlocal done
        done += 1
        raise ValueError("a fault of ours")

    housekeeping = rig.node.housekeeping
    monkeypatch.setattr(housekeeping, "_every_s", 0.001)
    monkeypatch.setattr(housekeeping, "keep_house", fail)
    working = asyncio.create_task(housekeeping.run())
    try:
        await eventually(lambda: done >= 3)
        assert not working.done()
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
    assert "housekeeping failed" in caplog.messages


async def test_a_fault_while_a_token_is_checked_ends_that_session(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(token: str) -> None:
        raise ValueError("a fault of ours")

    peer = await rig.connect()
    monkeypatch.setattr(rig.node.authenticator, "authenticate", fail)
    peer.say(op="auth", token=ADA)
    await eventually(lambda: peer.ended == "internal")


async def test_a_wall_clock_that_is_set_ends_credentials(rig: Rig) -> None:
    await rig.run("UPDATE api_tokens SET expires_at = ? WHERE id = 't_ada'", START_MS + 3_600_000)
    ada = await rig.connect(ADA)
    await rig.tick()
    rig.clock.set_wall(3_600_000)
    await eventually(lambda: ada.ended == "token_expired")


async def test_the_figures_are_those_of_the_node(rig: Rig) -> None:
    ada = await rig.connect(ADA)
    await rig.connect()
    gone = await rig.connect(BOB)
    gone.connection.stop()
    gone.hang_up()
    await rig.run("UPDATE users SET name = 'New' WHERE id = 'ada'")
    rig.node.handshakes["accepted"] += 3
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in node_metrics(rig.node, rig.accounts)
        for sample in family.samples
    }
    assert samples["gateway_sessions", "user"] == 1
    assert samples["gateway_sessions", "none"] == 1
    assert samples["gateway_handshakes_total", "accepted"] == 3
    assert samples["gateway_sessions_ended_total", "going_away"] == 1
    assert samples["gateway_updates_sent_total",] >= 3
    assert samples["gateway_feed_position",] == rig.feed.position
    assert samples["gateway_documents",] == 1
    assert (samples["gateway_store_stale",], samples["gateway_draining",]) == (0, 0)
    assert ada.ended is None


@pytest.mark.parametrize("user", ["ada", "root"])
async def test_no_user_is_named_in_the_figures(rig: Rig, user: str) -> None:
    await rig.connect(token_text(user))
    for family in node_metrics(rig.node, rig.accounts):
        for sample in family.samples:
            assert user not in "".join(sample.labels.values())
