"""A storage that is emptied while the gateway is away is told again what every other worker needs."""

from __future__ import annotations

import time

from tests.client_sdk.support.asgi import request
from tests.client_sdk.support.noting_storage import NotingStorage
from tests.client_sdk.support.scripted_gateway import ScriptedGateway, proxy_to
from tests.client_sdk.support.tokens import access_token
from tests.support.waiting import eventually


async def test_a_storage_that_lost_everything_is_told_again() -> None:
    storage, ends = NotingStorage(), int(time.time() + 600)
    token, revoked = access_token("u_ada", "s_1", ends), access_token("u_ada", "s_2", ends)
    async with ScriptedGateway() as gateway, proxy_to(gateway, storage=storage) as first:
        for known in (token, revoked):
            assert (await request(first, known)).status == 200
        await gateway.revoke("s_2")
        await eventually(lambda: "s_2" in storage.written.revoked)
        await gateway.stop()
        await eventually(lambda: {"user:u_ada", "keys", "revocations"} <= storage.written.facts.keys())
        storage.lose_everything()
        await eventually(lambda: {"user:u_ada", "keys", "revocations"} <= storage.written.facts.keys())
        assert "s_2" in storage.written.revoked
        async with proxy_to(gateway, storage=storage) as second:
            assert [(await request(second, known)).status for known in (token, revoked)] == [200, 401]


async def test_a_storage_that_lost_the_list_of_what_is_revoked_alone_is_no_witness() -> None:
    storage, ends = NotingStorage(), int(time.time() + 600)
    token, revoked = access_token("u_ada", "s_1", ends), access_token("u_ada", "s_2", ends)
    async with ScriptedGateway() as gateway, proxy_to(gateway, storage=storage) as first:
        for known in (token, revoked):
            assert (await request(first, known)).status == 200
        await gateway.revoke("s_2")
        await eventually(lambda: "s_2" in storage.written.revoked)
        await gateway.stop()
        await eventually(lambda: {"user:u_ada", "keys", "revocations"} <= storage.written.facts.keys())
        storage.written.revoked.clear()
        storage.lose_revoked()
        async with proxy_to(gateway, storage=storage) as second:
            assert (await request(second, revoked)).status in (401, 503)
            await eventually(lambda: "s_2" in storage.written.revoked)
        async with proxy_to(gateway, storage=storage) as third:
            assert [(await request(third, known)).status for known in (token, revoked)] == [200, 401]


async def test_a_worker_that_knows_less_makes_no_witness_of_a_list_that_another_knows_whole() -> None:
    storage, ends = NotingStorage(), int(time.time() + 600)
    token = access_token("u_ada", "s_1", ends)
    async with ScriptedGateway() as gateway, proxy_to(gateway, storage=storage) as first:
        assert (await request(first, token)).status == 200
        await gateway.revoke("s_2")
        await eventually(lambda: "s_2" in storage.written.revoked)
        await gateway.stop()
        await eventually(lambda: {"user:u_ada", "keys", "revocations"} <= storage.written.facts.keys())
        kept = dict(storage.written.revoked)
        storage.written.revoked.clear()
        storage.lose_revoked({id: until for id, until in kept.items() if id != "s_2"})
        await eventually(lambda: "s_2" in storage.written.revoked)
