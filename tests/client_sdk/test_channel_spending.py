from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from client_sdk import (
    Channel,
    Conflict,
    Disconnected,
    NotFound,
    QuotaExceeded,
    RequestTimeout,
)
from client_sdk.keys import new_key
from tests.client_sdk.support.clock import ManualClock
from tests.client_sdk.support.options import OPTIONS, QUICK, VOICE
from tests.client_sdk.support.scripted_server import ScriptedServer

# --- consume ---


async def test_consuming_returns_what_is_left(server: ScriptedServer) -> None:
    async with Channel(server.url, "t1", **QUICK) as channel:
        balance = await channel.consume(VOICE)
        assert (balance.quota, balance.org, balance.used, balance.remaining, balance.limit) == (VOICE, None, 1, 9, 10)
        assert (balance.hard, balance.level, balance.seq) == (True, "ok", 101)
        await channel.consume(VOICE, 7, key="a key of ours", org="o_acme")
        with pytest.raises(QuotaExceeded) as exceeded:
            await channel.consume(VOICE, 3)
        assert (exceeded.value.quota, exceeded.value.remaining, exceeded.value.key) == (VOICE, 2, None)
        with pytest.raises(Conflict):
            await channel.consume(VOICE, 6, key="a key of ours")
        with pytest.raises(NotFound):
            await channel.consume("letters")
    first, second = server.bank.sent("consume")[:2]
    assert set(first) == {"op", "id", "quota", "amount", "key"}
    assert (second["key"], second["org"], second["amount"]) == ("a key of ours", "o_acme", 7)


async def test_a_cut_within_the_answer_charges_once(server: ScriptedServer) -> None:
    async with Channel(server.url, "t1", **QUICK) as channel:
        server.silent = True
        asking = asyncio.create_task(channel.consume(VOICE, 4))
        await server.message(await server.peer(), "consume")
        server.silent = False
        (await server.peer()).cut()
        assert (await asking).used == 4
    assert len(server.bank.charges) == 1
    assert len(server.bank.sent("consume")) == 2


async def test_a_restart_of_the_gateway_charges_once(server: ScriptedServer) -> None:
    async with Channel(server.url, "t1", **QUICK) as channel:
        await server.stop()
        asking = [asyncio.create_task(channel.consume(VOICE)) for _ in range(5)]
        await server.start()
        assert sorted([(await one).used for one in asking]) == [1, 2, 3, 4, 5]
    assert server.bank.used(VOICE) == 5


async def test_a_caller_that_waited_too_long_can_ask_with_the_same_key(
    server: ScriptedServer, clock: ManualClock
) -> None:
    async with Channel(server.url, "t1", clock=clock, **OPTIONS) as channel:
        server.silent = True
        asking = asyncio.create_task(channel.consume(VOICE, 4, timeout_s=3.0))
        await server.message(await server.peer(), "consume")
        await clock.advance(3.0)
        with pytest.raises(RequestTimeout) as timeout:
            await asking
        server.silent = False
        assert (await channel.consume(VOICE, 4, key=timeout.value.key)).used == 4


async def test_who_closes_the_channel_is_told_what_is_not_known(server: ScriptedServer) -> None:
    async with Channel(server.url, "t1", **QUICK) as channel:
        server.silent = True
        asking = asyncio.create_task(channel.consume(VOICE, key="k"))
        await server.message(await server.peer(), "consume")
    with pytest.raises(Disconnected) as closed:
        await asking
    assert (closed.value.code, closed.value.key) == ("closed", "k")


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (("",), {}),
        (("\ud800",), {}),
        (("a\n",), {}),
        ((VOICE, 0), {}),
        ((VOICE, True), {}),
        ((VOICE, 2**31 + 1), {}),
        ((VOICE, 1.0), {}),
        ((VOICE,), {"key": "k" * 129}),
        ((VOICE,), {"key": ""}),
        ((VOICE,), {"org": "\x00"}),
        ((VOICE,), {"timeout_s": 0}),
        ((VOICE,), {"timeout_s": math.nan}),
    ],
)
async def test_what_can_not_be_asked_is_a_mistake_of_the_program(
    server: ScriptedServer, arguments: tuple[Any, ...], options: dict[str, Any]
) -> None:
    async with Channel(server.url, "t1", **QUICK) as channel:
        with pytest.raises(ValueError):  # noqa: PT011  each says what it is about
            await channel.consume(*arguments, **options)
        assert (await channel.consume(VOICE)).used == 1


def test_keys_grow_with_time_and_are_not_guessed() -> None:
    keys = [new_key() for _ in range(1000)]
    assert len(set(keys)) == 1000
    assert [key[:12] for key in keys] == sorted(key[:12] for key in keys)
    assert {len(key) for key in keys} == {28}
