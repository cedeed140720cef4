"""Quotas that are spent over the channel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.app import running_node
from gateway.config import Config, DatabaseConfig
from gateway.core.clock import parse_rfc3339
from gateway.core.spending import Order, Spent
from gateway.core.wire import MESSAGEPACK
from gateway.errors import Ending, GatewayError, StoreUnavailable, StoreUncertain
from gateway.live.clock import SystemClock
from gateway.live.report import node_metrics
from gateway.store.database import Database, Statement
from tests.support.node_rig import Peer, Rig
from tests.support.people import add_plan, add_token, add_user, token_text
from tests.support.waiting import eventually

ADA = token_text("ada")


@pytest.fixture
async def rig(database: Database) -> AsyncIterator[Rig]:
    await database.write(*add_plan("free", voice_minutes=500), add_user("ada"), add_token("ada", ADA))
    async with Rig(database) as rig:
        yield rig


async def test_a_consume_is_answered_with_the_balance_and_seen_in_the_document(rig: Rig) -> None:
    ada = await rig.connect(ADA)
    ada.take()
    ada.say(op="consume", id="1", quota="voice_minutes", amount=3, key="k1")
    await rig.settle()
    messages = {message["op"]: message for message in ada.take()}
    assert messages["reply"] == {
        "op": "reply",
        "id": "1",
        "quota": "voice_minutes",
        "limit": 500,
        "used": 3,
        "reserved": 0,
        "remaining": 497,
        "period": "month",
        "hard": True,
        "resets_at": "2026-12-01T00:00:00.000Z",
        "level": "ok",
        "seq": messages["update"]["seq"],
    }
    assert ada.documents["user:ada"]["quotas"]["voice_minutes"]["used"] == 3


async def test_what_is_asked_of_a_lease_in_one_breath_is_done_in_that_order(rig: Rig) -> None:
    ada = await rig.connect(ADA)
    ada.take()
    ada.say(op="reserve", id="1", lease="call", quota="voice_minutes", amount=5, ttl_s=60)
    ada.say(op="extend", id="2", lease="call", ttl_s=120, amount=2, key="more")
    ada.say(op="commit", id="3", lease="call", amount=4)
    await rig.settle()
    reserved, extended, committed = (message for message in ada.take() if message["op"] == "reply")
    assert (reserved["id"], reserved["held"], reserved["reserved"], reserved["state"]) == ("1", 5, 5, "open")
    assert reserved["expires_at"] == "2026-11-21T19:11:00.000Z"
    assert (extended["id"], extended["held"], extended["reserved"]) == ("2", 7, 7)
    assert extended["expires_at"] == "2026-11-21T19:12:00.000Z"
    assert committed == {
        "op": "reply",
        "id": "3",
        "lease": "call",
        "state": "committed",
        "held": 7,
        "committed": 4,
        "expires_at": "2026-11-21T19:12:00.000Z",
        "quota": "voice_minutes",
        "limit": 500,
        "used": 4,
        "reserved": 0,
        "remaining": 496,
        "period": "month",
        "hard": True,
        "resets_at": "2026-12-01T00:00:00.000Z",
        "level": "ok",
        "seq": committed["seq"],
    }
    assert reserved["seq"] < extended["seq"] < committed["seq"]


class Held:
    """Holds every access to the store back until it is let go; `waiting` says that somebody waits."""

    def __init__(self, rig: Rig) -> None:
        self._go = asyncio.Event()
        self._rig = rig
        self.waiting = False

    async def __call__(self) -> None:
        self.waiting = True
        await self._go.wait()

    def __enter__(self) -> Held:
        self._rig.store.gate = self
        return self

    def __exit__(self, *exception: object) -> None:
        self._rig.store.gate = None
        self._go.set()


def consume(peer: Peer, key: str, amount: int = 1, **more: Any) -> None:
    peer.say(op="consume", id=key, quota="voice_minutes", amount=amount, key=key, **more)


async def ledger(rig: Rig) -> dict[str, int]:
    """What was consumed, by key."""
    [rows] = await rig.database.read(Statement("SELECT key, used FROM quota_ledger WHERE kind = 'consume'"))
    return dict(rows)


async def test_nothing_is_said_before_the_commit(rig: Rig) -> None:
    ada = await rig.connect(ADA)
    ada.take()
    with Held(rig) as held:
        consume(ada, "k1", 3)
        await eventually(lambda: held.waiting)
        ada.say(op="ping", id="p")
        assert ada.ops() == ["pong"]
        assert rig.node.spending.open == 1
        assert await ledger(rig) == {}
    await eventually(lambda: not rig.node.spending.open)
    assert await ledger(rig) == {"k1": 3}
    assert "reply" in ada.ops()


async def test_what_is_asked_while_others_are_carried_out_is_carried_out_together(rig: Rig) -> None:
    ada = await rig.connect(ADA)
    ada.take()
    with Held(rig) as held:
        consume(ada, "first")
        await eventually(lambda: held.waiting)
        for number in range(50):
            consume(ada, f"k{number}")
    await rig.settle()
    replies = [message["id"] for message in ada.take() if message["op"] == "reply"]
    assert sorted(replies) == sorted(["first", *(f"k{number}" for number in range(50))])
    assert rig.node.quotas.spender.batches < 10


@pytest.mark.parametrize("end", ["hang up", "revoked", "drain"])
async def test_who_is_gone_before_the_answer_finds_it_carried_out_once(rig: Rig, end: str) -> None:
    ada = await rig.connect(ADA)
    with Held(rig) as held:
        consume(ada, "k1", 3)
        await eventually(lambda: held.waiting)
        if end == "hang up":
            ada.hang_up()
        elif end == "revoked":
            ada.connection.end(Ending.REVOKED)
        else:
            await rig.node.drain(0)
        ada.take()
    await eventually(lambda: not rig.node.spending.open)
    assert ada.take() == []
    assert ada.ended == {"hang up": None, "revoked": "revoked", "drain": "going_away"}[end]
    async with Rig(rig.database, name="n2") as other:
        again = await other.connect(ADA)
        again.take()
        consume(again, "k1", 3)
        await other.settle()
        assert again.one("reply")["used"] == 3
    assert await ledger(rig) == {"k1": 3}


async def test_what_waits_for_a_lease_is_not_done_when_nobody_waits_for_it_and_what_is_under_way_is(rig: Rig) -> None:
    ada = await rig.connect(ADA)
    with Held(rig) as held:
        ada.say(op="reserve", id="1", lease="call", quota="voice_minutes", amount=5, ttl_s=60)
        ada.say(op="commit", id="2", lease="call", amount=5)
        await eventually(lambda: held.waiting)
        ada.hang_up()
        ada.take()
        closing = asyncio.create_task(rig.node.spending.close())
        await asyncio.sleep(0)
        assert not closing.done()
    await closing
    assert not rig.node.spending.open
    assert ada.take() == []
    [[(state, held)]] = await rig.database.read(Statement("SELECT state, held FROM leases"))
    assert (state, held) == ("open", 5)


async def test_leases_of_one_connection_do_not_wait_for_each_other(rig: Rig) -> None:
    ada = await rig.connect(ADA)
    ada.take()
    held = asyncio.Event()
    waiting = 0

    async def gate() -> None:
        nonlocal waiting
        waiting += 1
        await held.wait()

    rig.store.gate = gate
    for number in range(20):
        ada.say(op="reserve", id=f"r{number}", lease=f"l{number}", quota="voice_minutes", amount=1, ttl_s=60)
        ada.say(op="commit", id=f"c{number}", lease=f"l{number}", amount=1)
    await eventually(lambda: waiting >= 20)
    rig.store.gate = None
    held.set()
    await rig.settle()
    replies = [message["id"] for message in ada.take() if message["op"] == "reply"]
    assert len(replies) == 40
    assert all(replies.index(f"r{number}") < replies.index(f"c{number}") for number in range(20))


async def test_a_refused_lease_does_not_keep_what_follows_from_being_done(rig: Rig) -> None:
    ada = await rig.connect(ADA)
    ada.take()
    ada.say(op="commit", id="1", lease="nothing", amount=1)
    ada.say(op="reserve", id="2", lease="call", quota="voice_minutes", amount=501, ttl_s=60)
    ada.say(op="reserve", id="3", lease="call", quota="voice_minutes", amount=500, ttl_s=60)
    ada.say(op="reserve", id="4", lease="call", quota="voice_minutes", amount=1, ttl_s=60)
    await rig.settle()
    answers = [(message["id"], message.get("code")) for message in ada.take() if message["op"] != "update"]
    assert sorted(answers) == [("1", "lease_not_found"), ("2", "quota_exceeded"), ("3", None), ("4", "conflict")]


@pytest.mark.parametrize(
    ("failure", "code"), [(StoreUnavailable("away"), "unavailable"), (StoreUncertain("lost"), "uncertain")]
)
async def test_a_database_that_is_away_is_told_and_the_session_lives_on(
    rig: Rig, failure: Exception, code: str
) -> None:
    ada = await rig.connect(ADA)
    ada.take()
    rig.store.broken = lambda: failure
    consume(ada, "k1")
    ada.say(op="reserve", id="r1", lease="call", quota="voice_minutes", amount=5, ttl_s=60)
    await eventually(lambda: not rig.node.spending.open)
    errors = {message["id"]: message for message in ada.take() if message["op"] == "error"}
    assert {id: error["code"] for id, error in errors.items()} == {"k1": code, "r1": code}
    if code == "unavailable":
        assert all(error["retry_after_s"] > 0 for error in errors.values())
    rig.store.recover()
    consume(ada, "k1")
    ada.say(op="reserve", id="r1", lease="call", quota="voice_minutes", amount=5, ttl_s=60)
    await rig.settle()
    assert [message["id"] for message in ada.take() if message["op"] == "reply"] in (["k1", "r1"], ["r1", "k1"])


async def test_a_fault_of_ours_ends_the_session_and_no_other(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    ada, other = await rig.connect(ADA), await rig.connect(ADA)
    ada.take(), other.take()

    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("gateway.live.spending.balance_fields", broken)
    consume(ada, "k1")
    await rig.settle()
    assert ada.ended == "internal"
    assert (other.ended, rig.node.spending.open) == (None, 0)
    monkeypatch.undo()
    consume(other, "k2")
    await rig.settle()
    assert "reply" in other.ops()


async def test_a_period_that_ends_while_an_order_waits_is_the_one_of_its_batch(rig: Rig) -> None:
    ada = await rig.connect(ADA)
    consume(ada, "k0", 7)
    await rig.settle()
    end = parse_rfc3339("2026-12-01T00:00:00.000Z")
    rig.clock.set_wall(end - 1 - rig.clock.wall)
    with Held(rig) as held:
        consume(ada, "k1", 100)
        await eventually(lambda: held.waiting)
        rig.clock.set_wall(1)
        consume(ada, "k2", 5)
    await eventually(lambda: not rig.node.spending.open)
    replies = {message["id"]: message for message in ada.take() if message["op"] == "reply"}
    assert (replies["k1"]["used"], replies["k1"]["resets_at"]) == (107, "2026-12-01T00:00:00.000Z")
    assert (replies["k2"]["used"], replies["k2"]["resets_at"]) == (5, "2027-01-01T00:00:00.000Z")
    rig.feed.clock_jumped()
    await rig.settle()
    ada.take()
    assert ada.documents["user:ada"]["quotas"]["voice_minutes"]["used"] == 5


async def test_messagepack_is_answered_alike(rig: Rig) -> None:
    ada = await rig.connect(ADA, codec=MESSAGEPACK)
    ada.take()
    consume(ada, "k1", 2)
    await rig.settle()
    [reply] = [message for message in ada.take() if message["op"] == "reply"]
    assert (reply["id"], reply["used"], reply["hard"], reply["level"]) == ("k1", 2, True, "ok")


async def test_a_token_that_ends_before_the_answer_gets_none(rig: Rig) -> None:
    token = token_text("short")
    await rig.database.write(add_token("ada", token, id="t_short", expires_at=rig.clock.wall + 70_000))
    ada = await rig.connect(token)
    with Held(rig) as held:
        consume(ada, "k1")
        await eventually(lambda: held.waiting)
        rig.clock.advance(70)
        ada.take()
    await eventually(lambda: not rig.node.spending.open)
    assert [message["op"] for message in ada.take()] == ["ended"]
    assert ada.ended == "token_expired"
    assert await ledger(rig) == {"k1": 1}


async def test_beyond_the_allowance_nothing_is_taken(database: Database) -> None:
    await database.write(*add_plan("free", voice_minutes=500), add_user("ada"), add_token("ada", ADA))
    async with Rig(database, messages_per_minute=3) as rig:
        ada = await rig.connect(ADA)
        ada.take()
        for number in range(5):
            consume(ada, f"k{number}")
        await rig.settle()
        codes = [message["code"] for message in ada.take() if message["op"] == "error"]
        assert codes == ["rate_limited", "rate_limited"]
        assert sum((await ledger(rig)).values()) == 3


async def test_a_hundred_takers_of_the_last_unit_are_one_and_ninety_nine(rig: Rig) -> None:
    await rig.database.write(Statement("UPDATE plan_quotas SET limit_value = 1"))
    peers = [await rig.connect(ADA, settle=False) for _ in range(20)]
    await rig.settle()
    for number in range(100):
        consume(peers[number % 20], f"k{number}")
    await rig.settle()
    answers = [m for peer in peers for m in peer.take() if m["op"] == "reply" or m["op"] == "error"]
    assert [m["op"] for m in answers].count("reply") == 1
    assert all(m["remaining"] == 0 for m in answers if m["op"] == "error")


async def test_the_figures_of_what_is_spent(rig: Rig) -> None:
    ada = await rig.connect(ADA)
    for number in range(3):
        consume(ada, f"k{number}", 200)
    await rig.settle()
    families = {family.name: family for family in node_metrics(rig.node, rig.accounts)}
    samples = {sample.name: sample.value for sample in families["gateway_consume_group_size"].samples}
    assert samples["gateway_consume_group_size_sum"] >= 3
    assert families["gateway_consumes_refused"].samples[0].value == 1
    assert families["gateway_spending_open"].samples[0].value == 0
    assert families["gateway_leases_expired"].samples[0].value == 0


async def test_a_node_that_stops_carries_out_what_it_took_before_the_database_is_closed(tmp_path: Path) -> None:
    config = Config(database=DatabaseConfig(url=f"file:{tmp_path}/gateway.db"))
    outcomes: list[Spent | GatewayError] = []
    async with running_node(config, SystemClock()) as (node, _):
        await node.database.write(*add_plan("free", voice_minutes=50_000), add_user("ada"))
        for number in range(10_000):
            order = Order("user:ada", "user:ada", "voice_minutes", 1, f"k{number}")
            node.quotas.spender.submit(order, outcomes.append)
    assert len(outcomes) == 10_000
    assert all(isinstance(outcome, Spent) for outcome in outcomes)
