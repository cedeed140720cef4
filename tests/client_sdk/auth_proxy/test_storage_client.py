"""What is written behind while the storage is away for long, and what the log says of that."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from client_sdk.auth_proxy import Batch, MemoryStorage, Rules
from client_sdk.auth_proxy.counters import Counters
from client_sdk.auth_proxy.storage_client import StorageClient
from tests.client_sdk.support.logged import records_of
from tests.client_sdk.support.noting_storage import NotingStorage
from tests.support.waiting import eventually

NOW = int(time.time() * 1000)
HOUR_MS = 3_600_000


class World:
    """A client of a storage that is away, and the time."""

    def __init__(self) -> None:
        self.now = NOW
        self.storage = NotingStorage(works=False)
        self.client = StorageClient(
            self.storage,
            Rules(max_stale_s=300.0),
            "https://gateway.example.org",
            Counters(),
            lambda: self.now,
            lambda: self.now / 1000,
            lambda: None,
            retry_s=0.01,
        )
        self.client.start()

    async def tried_again(self) -> None:
        """It was looked in vain whether the storage is back, after all that was done before."""
        looks = self.storage.looks
        await eventually(lambda: self.storage.looks >= looks + 2)


def moment(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.client.close()


async def test_what_ended_while_the_storage_was_away_is_not_written(world: World) -> None:
    world.client.keep_revoked({"s_ended": moment(NOW + HOUR_MS), "s_alive": moment(NOW + 3 * HOUR_MS)}, whole=False)
    world.client.keep_gone("user:u_old", world.now / 1000)
    await world.tried_again()
    world.now += 2 * HOUR_MS
    world.client.keep_gone("user:u_new", world.now / 1000)
    await world.tried_again()
    world.storage.works = True
    await eventually(lambda: world.storage.written)
    assert world.storage.written.revoked == {"s_alive": NOW + 3 * HOUR_MS}
    assert [(doc, fact.gone) for doc, fact in world.storage.written.facts.items()] == [("user:u_new", True)]


async def test_who_is_gone_is_written_however_much_waits(world: World) -> None:
    world.client.keep_gone("user:u_gone", world.now / 1000)
    await world.tried_again()
    for number in range(50_001):
        world.client.keep_fact(f"user:u_{number}", {}, world.now / 1000)
    world.client.keep_revoked({"s_1": moment(NOW + HOUR_MS)}, whole=False)
    world.storage.works = True
    await eventually(lambda: world.storage.written)
    assert world.storage.written.facts["user:u_gone"].gone
    assert len(world.storage.written.facts) < 1_000
    assert set(world.storage.written.revoked) == {"s_1"}


async def test_each_outage_of_the_storage_is_said_once(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "client_sdk.auth_proxy")

    def heads() -> list[str]:
        return [record.getMessage().partition(":")[0] for record in records_of(caplog)]

    away = ["the storage can not be written", "the storage can not be read"]
    back = ["the storage can be read again", "the storage can be written again"]
    for outage in range(1, 3):
        world.storage.works = False
        world.client.keep_revoked({f"s_{outage}": moment(NOW + HOUR_MS)}, whole=False)
        await world.tried_again()
        assert await asyncio.gather(*(world.client.read_revoked() for _ in range(5))) == [set()] * 5
        world.storage.works = True
        await eventually(lambda outage=outage: len(heads()) == 4 * outage)  # type: ignore[misc]
        assert heads() == (away + back) * outage
    assert {record.levelname for record in records_of(caplog)} == {"WARNING"}


async def test_a_storage_in_memory_does_not_keep_what_has_ended() -> None:
    """Nobody asks it what is revoked while the gateway is there."""
    storage = MemoryStorage()
    for number in range(5_000):
        await storage.write(Batch(revoked={f"s_{number}": NOW - HOUR_MS}), fact_ttl_s=1.0, token_ttl_s=1.0)
    await storage.write(Batch(revoked={"s_alive": NOW + HOUR_MS}), fact_ttl_s=1.0, token_ttl_s=1.0)
    kept = await storage.read_revoked(0)
    assert "s_alive" in kept
    assert len(kept) <= 1_001


async def test_one_that_is_back_names_all_that_is_revoked_when_the_others_had_time_to_write(world: World) -> None:
    """It may stand as it stood when it went: what is revoked counts at once, what is good does not."""
    world.storage.works = True
    world.client.keep_revoked({"s_1": moment(NOW + HOUR_MS)}, whole=True)
    await eventually(lambda: "s_1" in world.storage.written.revoked)
    world.storage.works = False
    assert await world.client.read_revoked() == set()
    world.storage.works = True
    failed_at = world.now
    for passed_s, is_witness in ((0, False), (4.9, False), (5.1, True)):
        world.now = failed_at + int(passed_s * 1000)
        assert "s_1" in await world.client.read_revoked()
        assert (world.client.witness_at == world.now / 1000) is is_witness
