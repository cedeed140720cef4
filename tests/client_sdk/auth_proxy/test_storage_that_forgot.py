"""A storage that loses what it had while the gateway is away is told again what every other worker needs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest

from client_sdk.auth_proxy import AuthProxy
from tests.client_sdk.support.asgi import request
from tests.client_sdk.support.noting_storage import NotingStorage
from tests.client_sdk.support.scripted_gateway import ScriptedGateway, proxy_to
from tests.client_sdk.support.tokens import access_token, soon
from tests.support.waiting import eventually

NEEDED = {"user:u_ada", "keys", "revocations"}


class World(NamedTuple):
    """A gateway that is away, a worker who knows a good token and a revoked one, and what both are stored in."""

    gateway: ScriptedGateway
    storage: NotingStorage
    good: str
    revoked: str

    def another(self) -> AuthProxy:
        return proxy_to(self.gateway, storage=self.storage)


@pytest.fixture
async def world(gateway: ScriptedGateway) -> AsyncIterator[World]:
    world = World(gateway, NotingStorage(), access_token("u_ada", "s_1", soon()), access_token("u_ada", "s_2", soon()))
    async with world.another() as first:
        for known in (world.good, world.revoked):
            assert (await request(first, known)).status == 200
        await gateway.revoke("s_2")
        await eventually(lambda: "s_2" in world.storage.written.revoked)
        await gateway.stop()
        await eventually(lambda: world.storage.written.facts.keys() >= NEEDED)
        yield world
        await gateway.start()


async def test_one_that_lost_everything_is_told_again(world: World) -> None:
    world.storage.lose_everything()
    await eventually(lambda: world.storage.written.facts.keys() >= NEEDED)
    assert "s_2" in world.storage.written.revoked
    async with world.another() as second:
        assert [(await request(second, known)).status for known in (world.good, world.revoked)] == [200, 401]


async def test_one_that_lost_the_list_of_what_is_revoked_alone_is_no_witness(world: World) -> None:
    world.storage.lose_revoked()
    async with world.another() as second:
        assert (await request(second, world.revoked)).status in (401, 503)
        await eventually(lambda: "s_2" in world.storage.written.revoked)
    async with world.another() as third:
        assert [(await request(third, known)).status for known in (world.good, world.revoked)] == [200, 401]


async def test_a_list_is_not_whole_because_somebody_says_so_who_knows_less(world: World) -> None:
    world.storage.lose_revoked("s_2")
    await eventually(lambda: "s_2" in world.storage.written.revoked)
