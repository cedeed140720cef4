"""What workers of an application share: the same contract for memory and Redis, and a Redis that dies."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis

from client_sdk.auth_proxy import (
    AuthProxy,
    Batch,
    MemoryStorage,
    RedisStorage,
    Storage,
    StorageUnavailable,
    StoredFact,
    StoredToken,
)
from client_sdk.auth_proxy.facts import mark_of
from tests.client_sdk.support.asgi import request
from tests.client_sdk.support.noting_storage import NotingStorage
from tests.client_sdk.support.scripted_gateway import ScriptedGateway, proxy_to
from tests.client_sdk.support.tokens import access_token, api_token, soon
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    server = RedisServer()
    server.start()
    yield server
    server.end()


@pytest.fixture(params=["memory", "redis"])
async def shelf(request: pytest.FixtureRequest) -> AsyncIterator[Storage]:
    if request.param == "memory":
        yield MemoryStorage()
        return
    server: RedisServer = request.getfixturevalue("redis")
    shared = RedisStorage(server.url, timeout_s=5.0)  # what it stores is looked at, and not how soon
    yield shared
    await shared.close()


NOW = int(time.time() * 1000)
HOUR_MS = 3_600_000
MARK = bytes(range(32))


async def write(shelf: Storage, batch: Batch, fact_ttl_s: float = 60.0, token_ttl_s: float = 60.0) -> None:
    await shelf.write(batch, fact_ttl_s=fact_ttl_s, token_ttl_s=token_ttl_s)


async def test_what_is_written_is_read(shelf: Storage) -> None:
    fact = StoredFact({"identity": {"id": "u_ada", "name": "Ada é"}}, NOW)
    good = StoredToken(NOW, "u_ada", "t_1", NOW + 1000, ("quotas.spend",))
    await write(shelf, Batch({"user:u_ada": fact}, {MARK: good, bytes(32): StoredToken(NOW)}))
    assert await shelf.read(["user:u_ada", "user:u_bob"]) == {"user:u_ada": fact}
    assert await shelf.read_token(MARK) == good
    assert await shelf.read_token(bytes(32)) == StoredToken(NOW)
    assert await shelf.read_token(b"\1" * 32) is None
    await write(shelf, Batch({"user:u_ada": StoredFact({}, NOW + 2, gone=True)}))
    assert await shelf.read(["user:u_ada"]) == {}


async def test_what_was_known_earlier_does_not_take_the_place_of_what_is_known_later(shelf: Storage) -> None:
    active, disabled = ({"identity": {"status": status}} for status in ("active", "disabled"))
    await write(shelf, Batch({"user:u_ada": StoredFact(disabled, NOW + 5), "user:u_bob": StoredFact(active, NOW)}))
    await write(shelf, Batch({"user:u_bob": StoredFact({}, NOW + 5, gone=True)}))
    await write(shelf, Batch({name: StoredFact(active, NOW + 4) for name in ("user:u_ada", "user:u_bob")}))
    assert await shelf.read(["user:u_ada", "user:u_bob"]) == {"user:u_ada": StoredFact(disabled, NOW + 5)}
    await write(shelf, Batch({name: StoredFact(active, NOW + 6) for name in ("user:u_ada", "user:u_bob")}))
    assert len(await shelf.read(["user:u_ada", "user:u_bob"])) == 2
    another = StoredFact(active, NOW, "another gateway")
    await write(shelf, Batch({"user:u_ada": another}))
    assert await shelf.read(["user:u_ada"]) == {"user:u_ada": another}


async def test_what_is_revoked_stays_so_until_its_time(shelf: Storage) -> None:
    await write(shelf, Batch(revoked={"s_1": NOW + HOUR_MS, "s_2": NOW + 3 * HOUR_MS}))
    await write(shelf, Batch(revoked={"s_2": NOW + 2 * HOUR_MS}))
    assert await shelf.read_revoked(NOW) == {"s_1", "s_2"}
    assert await shelf.read_revoked(NOW + 2 * HOUR_MS) == {"s_2"}
    assert await shelf.read_revoked(NOW + 3 * HOUR_MS) == set()


async def test_nothing_is_kept_for_longer_than_it_may_be(shelf: Storage) -> None:
    await write(shelf, Batch({"keys": StoredFact({}, NOW)}, {MARK: StoredToken(NOW)}), 0.05, 0.05)

    async def forgotten() -> bool:
        return await shelf.read(["keys"]) == {} and await shelf.read_token(MARK) is None

    deadline = time.monotonic() + 5
    while not await forgotten():
        assert time.monotonic() < deadline


async def test_much_at_once(shelf: Storage) -> None:
    facts = {f"user:u_{number}": StoredFact({"n": number}, NOW) for number in range(3000)}
    await write(shelf, Batch(dict(facts), revoked={f"s_{number}": NOW + HOUR_MS for number in range(3000)}))
    assert await shelf.read(facts) == facts
    assert len(await shelf.read_revoked(NOW)) == 3000


async def test_no_token_is_in_redis(gateway: ScriptedGateway, redis: RedisServer) -> None:
    token, session = gateway.issue("u_ada", "t_1"), access_token("u_ada", "s_1", soon())
    storage = RedisStorage(redis.url, timeout_s=5.0)
    async with proxy_to(gateway, storage=storage) as proxy, Redis.from_url(redis.url) as raw:
        assert [(await request(proxy, known)).status for known in (token, session)] == [200, 200]
        deadline = time.monotonic() + 5
        while len(keys := [key async for key in raw.scan_iter()]) < 4:
            assert time.monotonic() < deadline
        held = b" ".join(keys + [await raw.get(key) or b"" for key in keys if b"revoked" not in key[-8:]])
        assert b"u_ada" in held
        assert token.encode() not in held
        assert session.encode() not in held


async def test_a_redis_that_is_killed_costs_nothing_but_what_it_knew(
    gateway: ScriptedGateway, redis: RedisServer
) -> None:
    storages = [RedisStorage(redis.url, pause_s=0.1) for _ in range(2)]
    token, revoked = access_token("u_ada", "s_1", soon()), access_token("u_ada", "s_2", soon())
    async with proxy_to(gateway, storage=storages[0]) as first:
        assert [(await request(first, known)).status for known in (token, revoked)] == [200, 200]
        redis.kill()
        await gateway.revoke("s_2")
        started = time.monotonic()
        assert [(await request(first, known)).status for known in (token, gateway.issue("u_bob", "t_1"))] == [200, 200]
        assert (await request(first, api_token())).status == 401
        assert time.monotonic() - started < 2.0
        await eventually(lambda: first.counters.total("storage_errors") > 0)
        redis.start()
        # It came back empty, and is told everything again.
        await until_stored(redis, b"user:u_ada", b"keys", b"revoked")
        await gateway.stop()
        async with proxy_to(gateway, storage=storages[1]) as second:
            answers = [await request(second, known) for known in (token, revoked)]
            assert [answer.status for answer in answers] == [200, 401]
            assert answers[0].json["source"] == "offline"
    await gateway.start()


async def until_stored(redis: RedisServer, *names: bytes) -> None:
    deadline = time.monotonic() + 15
    async with Redis.from_url(redis.url) as raw:
        while True:
            keys = b" ".join([key async for key in raw.scan_iter()])
            if all(name in keys for name in names):
                return
            assert time.monotonic() < deadline, keys


async def test_a_redis_that_answers_nothing_holds_nobody_up(gateway: ScriptedGateway, redis: RedisServer) -> None:
    async with proxy_to(gateway, storage=RedisStorage(redis.url)) as proxy:
        await eventually(lambda: proxy.decider.link is not None and proxy.decider.link.live)
        redis.freeze()
        started = time.monotonic()
        for number in range(5):
            assert (await request(proxy, gateway.issue("u_ada", f"t_{number}"))).status == 200
        assert time.monotonic() - started < 3.0


async def test_an_application_begins_without_its_redis(gateway: ScriptedGateway) -> None:
    storage = RedisStorage("redis://127.0.0.1:1/0")
    with pytest.raises(StorageUnavailable):
        await storage.read(["keys"])
    proxy: AuthProxy
    async with proxy_to(gateway, storage=storage) as proxy:
        assert (await request(proxy, access_token("u_ada", "s_1", soon()))).status == 200


async def test_another_gateways_word_says_nothing(gateway: ScriptedGateway) -> None:
    storage = NotingStorage()
    async with ScriptedGateway() as staging, proxy_to(staging, storage=storage) as trying:
        token = staging.issue("u_ada", "t_1")
        assert (await request(trying, token)).status == 200
        await eventually(lambda: len(storage.written.tokens) == 1)
        async with proxy_to(gateway, storage=storage) as proxy:
            assert (await request(proxy, token)).status == 401
            assert gateway.asked == [token]


async def test_another_gateways_word_on_users_and_keys_says_nothing_either(gateway: ScriptedGateway) -> None:
    """Keys, the list of revocations and a user as staging stored them, while production is away."""
    storage = NotingStorage()
    token = access_token("u_ada", "s_1", soon())
    await gateway.stop()
    async with ScriptedGateway() as staging, proxy_to(staging, storage=storage) as trying:
        assert (await request(trying, token)).status == 200
        await eventually(lambda: {"user:u_ada", "keys", "revocations"} <= storage.written.facts.keys())
        async with proxy_to(gateway, storage=storage, fetch_s=0.5) as proxy:
            assert (await request(proxy, token)).status == 503
    await gateway.start()


async def test_a_storage_that_fails_in_its_own_way_ends_nothing(gateway: ScriptedGateway) -> None:
    storage = NotingStorage(works=False)
    async with proxy_to(gateway, storage=storage) as proxy:
        assert (await request(proxy, gateway.issue("u_ada", "t_1"))).status == 200
        await eventually(lambda: proxy.counters.total("storage_errors") >= 2 and storage.looks >= 1)
        storage.works = True
        await eventually(lambda: "user:u_ada" in storage.written.facts)
        await gateway.stop()
        asked = storage.asked
        await eventually(lambda: storage.asked >= asked + 2)
    await gateway.start()


async def left_behind(gateway: ScriptedGateway) -> tuple[NotingStorage, str]:
    """By a worker that is gone, as its gateway is: what it stored, a token among it that was revoked since."""
    storage = NotingStorage()
    token = gateway.issue("u_ada", "t_1")
    async with proxy_to(gateway, storage=storage) as worker:
        assert (await request(worker, token)).status == 200
        await eventually(lambda: len(storage.written.tokens) == 1)
        await gateway.stop()
        await eventually(lambda: "revocations" in storage.written.facts)
    await write(storage, Batch(revoked={"t_1": NOW + HOUR_MS}))
    return storage, token


async def test_what_is_revoked_is_asked_before_anything_stored_is_believed(gateway: ScriptedGateway) -> None:
    storage, token = await left_behind(gateway)
    storage.works = False
    async with proxy_to(gateway, storage=storage, fetch_s=0.5) as second:
        assert (await request(second, token)).status == 503
        storage.works = True
        assert (await request(second, token)).status in (401, 503)
    await gateway.start()


async def test_the_first_requests_wait_for_what_is_revoked(gateway: ScriptedGateway) -> None:
    """Two at once, without a lifespan: the second one does not decide before the storage was heard."""
    storage, token = await left_behind(gateway)
    proxy = proxy_to(gateway, storage=storage)
    asking = [asyncio.ensure_future(request(proxy, token)) for _ in range(2)]
    assert [answer.status for answer in await asyncio.gather(*asking)] == [401, 401]
    await proxy.decider.stop()
    await gateway.start()


@pytest.mark.parametrize(("ahead_ms", "status"), [(0, 200), (HOUR_MS, 503)])
async def test_what_nobody_could_have_known_is_not_believed(
    gateway: ScriptedGateway, ahead_ms: int, status: int
) -> None:
    """A storage whose writer's clock is far ahead, or that somebody filled with nonsense."""
    storage = NotingStorage()
    async with proxy_to(gateway, storage=storage):
        await eventually(lambda: "keys" in storage.written.facts)
    own = storage.written.facts["keys"].gateway
    await gateway.stop()
    storage.lose_everything()
    document = {"identity": {"id": "u_eve", "status": "active"}, "permissions": {}}
    token, known_at = api_token(), int(time.time() * 1000) + ahead_ms
    told = StoredToken(known_at, "u_eve", "t_1", gateway=own)
    facts = {"user:u_eve": StoredFact(document, known_at, own), "revocations": StoredFact({}, known_at, own)}
    async with proxy_to(gateway, storage=storage, fetch_s=0.5) as proxy:
        await write(storage, Batch(facts, {mark_of(token): told}, {f"* {own}": NOW + HOUR_MS}))
        assert (await request(proxy, token)).status == status
    await gateway.start()
