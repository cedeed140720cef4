"""Leases end by themselves, on any node."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.app import running_node
from gateway.config import Config, DatabaseConfig
from gateway.live.clock import SystemClock
from gateway.live.reaper import LATER_MS, LOOK_S, PAUSE_S, Reaper
from gateway.store.database import Database, Statement
from tests.support.node_rig import Rig
from tests.support.people import add_plan, add_token, add_user, token_text
from tests.support.waiting import eventually

ADA = token_text("ada")


@pytest.fixture
async def rig(database: Database) -> AsyncIterator[Rig]:
    await database.write(*add_plan("free", voice_minutes=500), add_user("ada"), add_token("ada", ADA))
    async with Rig(database) as rig:
        yield rig


async def reserve(rig: Rig, lease: str, amount: int = 5, ttl_s: float = 10) -> None:
    await rig.node.quotas.leases.reserve("user:ada", "user:ada", "voice_minutes", amount, lease, ttl_s)
    await rig.settle()


def often(rig: Rig) -> Reaper:
    """A reaper that does not wait for long between two looks."""
    node = rig.node
    return Reaper(node.quotas.leases, rig.clock, rig.feed.notes, node.neighbours, step_s=0.001)


async def states(database: Database) -> dict[str, str]:
    [rows] = await database.read(Statement("SELECT id, state FROM leases"))
    return dict(rows)


async def test_a_lease_ends_at_its_time_and_what_it_held_is_given_back(rig: Rig) -> None:
    ada = await rig.connect(ADA)
    await reserve(rig, "call")
    await rig.node.reaper.step()
    assert ada.ops() == ["hello", "ready", "snapshot", "update"]
    assert ada.documents["user:ada"]["quotas"]["voice_minutes"]["reserved"] == 5
    rig.advance(9.999)
    await rig.node.reaper.step()
    assert await states(rig.database) == {"call": "open"}
    rig.advance(0.001)
    await rig.node.reaper.step()
    await rig.settle()
    assert await states(rig.database) == {"call": "expired"}
    assert rig.node.reaper.ended == 1
    update = ada.one("update")
    assert update["causes"] == ["quota_usage"]
    assert ada.documents["user:ada"]["quotas"]["voice_minutes"]["reserved"] == 0


async def test_a_lease_that_was_extended_meanwhile_lives_on(rig: Rig) -> None:
    await reserve(rig, "call")
    await rig.node.reaper.step()
    rig.advance(9)
    await rig.node.quotas.leases.extend("user:ada", "call", 10)
    rig.advance(2)
    await rig.node.reaper.step()
    assert await states(rig.database) == {"call": "open"}
    rig.advance(8)
    await rig.node.reaper.step()
    assert await states(rig.database) == {"call": "expired"}


async def test_a_lease_that_ended_while_no_node_ran_ends_at_once(rig: Rig) -> None:
    await reserve(rig, "call")
    rig.advance(100)
    async with Rig(rig.database, name="n2") as other:
        other.clock.wall = rig.clock.wall
        await other.node.reaper.step()
        assert await states(rig.database) == {"call": "expired"}


async def test_many_that_are_due_together_end_in_one_step(rig: Rig) -> None:
    await rig.database.script(
        """WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 1200)
        INSERT INTO leases(spender, id, owner, quota, period, period_start, amount, held, created_at, expires_at)
        SELECT 'user:ada', 'l' || i, 'user:ada', 'voice_minutes', 'month', 0, 0, 0, 0, 5 FROM n"""
    )
    await rig.node.reaper.step()
    assert set((await states(rig.database)).values()) == {"expired"}
    assert rig.node.reaper.ended == 1200


async def test_the_first_of_the_nodes_ends_leases_and_the_others_what_it_left(rig: Rig) -> None:
    await reserve(rig, "call")
    rig.node.neighbours.beats["n0"] = 1
    await rig.node.reaper.step()
    rig.advance(10 + LATER_MS[0] / 1000 - 0.001)
    await rig.node.reaper.step()
    assert await states(rig.database) == {"call": "open"}, "the first one does it"
    rig.advance((LATER_MS[1] - LATER_MS[0]) / 1000 + 0.001)
    await rig.node.reaper.step()
    assert await states(rig.database) == {"call": "expired"}


async def test_after_a_fault_of_ours_it_looks_less_and_less_often(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 30:
            raise asyncio.CancelledError

    async def fail() -> None:
        raise ZeroDivisionError

    reaper = often(rig)
    monkeypatch.setattr(reaper, "step", fail)
    monkeypatch.setattr("gateway.live.reaper.asyncio.sleep", pause)
    with pytest.raises(asyncio.CancelledError):
        await reaper.run()
    assert pauses[:3] == [0.002, 0.004, 0.008]
    assert pauses[-1] == PAUSE_S


async def test_a_log_that_breaks_off_may_hide_a_lease(rig: Rig) -> None:
    rig.feed.notes.usage_seen = False
    rig.feed._resync()
    assert rig.feed.notes.usage_seen


async def test_two_nodes_end_each_lease_once(rig: Rig) -> None:
    async with Rig(rig.database, name="n2") as other:
        await asyncio.gather(*(reserve(rig, f"l{n}") for n in range(20)))
        for one in (rig, other):
            one.advance(20)
        await asyncio.gather(rig.node.reaper.step(), other.node.reaper.step())
        assert rig.node.reaper.ended + other.node.reaper.ended == 20
        [[(kinds, given_back)]] = await rig.database.read(
            Statement("SELECT count(*), sum(reserved) FROM quota_ledger WHERE kind = 'expire'")
        )
        assert (kinds, given_back) == (20, -100)


async def test_the_database_is_asked_once_a_second_while_balances_move(rig: Rig) -> None:
    asked = 0
    next_end = rig.node.quotas.leases.next_end

    async def counted() -> int | None:
        nonlocal asked
        asked += 1
        return await next_end()

    rig.node.quotas.leases.next_end = counted  # type: ignore[method-assign]
    for _ in range(20):
        rig.feed.notes.usage_seen = True
        rig.clock.advance(LOOK_S / 10)
        await rig.node.reaper.step()
    assert asked == 2
    asked = 0
    for _ in range(100):  # nothing moves any more
        rig.clock.advance(0.5)
        await rig.node.reaper.step()
    assert asked == 1


async def test_a_lease_that_the_log_does_not_tell_of_ends_within_a_minute(rig: Rig) -> None:
    await rig.node.reaper.step()
    await rig.settle()
    rig.feed.notes.usage_seen = False
    insert = "INSERT INTO leases(spender, id, owner, quota, period, period_start, amount, held, created_at, expires_at)"
    await rig.database.script(f"{insert} VALUES ('user:ada', 'x', 'user:ada', 'voice_minutes', 'month', 0, 0, 0, 0, 5)")
    rig.clock.advance(61)
    await rig.node.reaper.step()
    assert await states(rig.database) == {"x": "expired"}


async def test_a_database_that_is_away_is_logged_once_and_leases_end_when_it_is_back(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    reaper = often(rig)
    await reserve(rig, "call")
    rig.advance(20)
    steps = 0
    step = reaper.step

    async def counted() -> None:
        nonlocal steps
        steps += 1
        rig.clock.advance(LOOK_S)
        await step()

    reaper.step = counted  # type: ignore[method-assign]
    rig.store.fail()
    with caplog.at_level(logging.WARNING, "gateway.leases"):
        task = asyncio.create_task(reaper.run())
        await eventually(lambda: steps > 5)
        rig.store.recover()
        await eventually(lambda: reaper.ended == 1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert [record.message for record in caplog.records if record.name == "gateway.leases"] == [
        "leases can not be ended now"
    ]


async def test_every_node_at_work_ends_leases(tmp_path: Path) -> None:
    config = Config(database=DatabaseConfig(url=f"file:{tmp_path}/gateway.db"))
    async with running_node(config, SystemClock()) as (node, _):
        await node.database.write(*add_plan("free", voice_minutes=500), add_user("ada"))
        await node.quotas.leases.reserve("user:ada", "user:ada", "voice_minutes", 5, "call", 1)
        await eventually(lambda: node.reaper.ended == 1)
        [[(early,)]] = await node.database.read(Statement("SELECT count(*) FROM leases WHERE ended_at < expires_at"))
        assert not early


async def test_what_is_kept_long_enough_goes_when_a_node_keeps_house(tmp_path: Path) -> None:
    config = Config(database=DatabaseConfig(url=f"file:{tmp_path}/gateway.db"))
    async with running_node(config, SystemClock()) as (node, _):
        await node.database.write(*add_plan("free", voice_minutes=500), add_user("ada"))
        leases = node.quotas.leases
        for lease in ("old", "new"):
            await leases.reserve("user:ada", "user:ada", "voice_minutes", 5, lease, 60)
            await leases.release("user:ada", lease)
        before = SystemClock().now().wall - config.quotas.keep_s * 1000 - 86_400_000
        await node.database.write(
            Statement("UPDATE leases SET ended_at = ? WHERE id = 'old'", (before,)),
            Statement("UPDATE quota_ledger SET at = ?1, period_start = ?1 WHERE lease = 'old'", (before,)),
        )
        await eventually(lambda: node.neighbours.first)
        await node.housekeeping.keep_house()
        assert await states(node.database) == {"new": "released"}
        [rows] = await node.database.read(Statement("SELECT DISTINCT lease FROM quota_ledger"))
        assert rows == [("new",)]
