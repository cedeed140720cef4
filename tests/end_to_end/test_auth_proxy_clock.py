"""An application's server whose clock is not the gateway's, and how soon it hears of what happens."""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial

import pytest

from client_sdk.auth_proxy import AuthProxy, Rules
from client_sdk.auth_proxy.decider import Decider
from client_sdk.instance_key import instance_key
from tests.client_sdk.support.asgi import request
from tests.client_sdk.support.scripted_gateway import own_app
from tests.support.deployment import Deployment
from tests.support.foreign_writer import ForeignWriter
from tests.support.gateway_process import GatewayProcess
from tests.support.seed import Seed

pytestmark = pytest.mark.storages("file")


def proxy_of(gateway: GatewayProcess, foreign: ForeignWriter, off_s: float = 0.0) -> AuthProxy:
    """A proxy on a machine whose clock is so far ahead."""
    instance = Deployment(gateway, foreign)
    url, key = f"http://{gateway.address}", instance_key(instance.key.kid, instance.key.secret)

    class Elsewhere(AuthProxy):
        _new_decider = partial(Decider, wall=lambda: time.time() + off_s)

    return Elsewhere(own_app, url, key, issuer=Rules().issuer)


@pytest.mark.parametrize("off_s", [-50.0, -20.0, 0.0, 20.0])
async def test_a_clock_that_is_off_a_little(
    gateway: GatewayProcess, foreign: ForeignWriter, seed: Seed, off_s: float
) -> None:
    async with proxy_of(gateway, foreign, off_s) as proxy:
        assert (await request(proxy, seed.person().token)).status == 200
        assert (await request(proxy, seed.unknown_token())).status == 401


@pytest.mark.parametrize(("off_s", "side"), [(-120.0, "behind"), (95.0, "ahead of")])
async def test_a_clock_that_is_off_too_much_makes_no_token_bad(
    gateway: GatewayProcess,
    foreign: ForeignWriter,
    seed: Seed,
    off_s: float,
    side: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING, "client_sdk.auth_proxy"):
        async with proxy_of(gateway, foreign, off_s) as proxy:
            answer = await request(proxy, seed.person().token)
    assert (answer.status, answer.json["code"]) == (503, "unavailable")
    assert f"s {side} the gateway's" in caplog.text


async def test_what_is_revoked_is_refused_soon(gateway: GatewayProcess, foreign: ForeignWriter, seed: Seed) -> None:
    """The figures are on record; a machine that does much else is given time."""
    people = seed.people(40)
    async with proxy_of(gateway, foreign) as proxy:
        for person in people:
            assert (await request(proxy, person.token)).status == 200
        times = []
        for person in people:
            foreign.execute("UPDATE api_tokens SET revoked_at = 1 WHERE id = ?", person.token_id)
            began = time.perf_counter()
            while (await request(proxy, person.token)).status == 200:
                assert time.perf_counter() - began < 5
                await asyncio.sleep(0.0005)
            times.append(time.perf_counter() - began)
        assert sorted(times)[len(times) // 2] < 0.1
        assert proxy.counters["validations", "good"] == len(people)
        assert proxy.counters["validations", "void"] == 0
        print(
            "revoked, refused after ms:", *(round(1000 * t, 1) for t in sorted(times)[::5]), round(1000 * max(times), 1)
        )


CHANGES = {
    "end": ("expires_at = unixepoch() * 1000 + 500", 401),
    "secret": ("token_hash = 'another'", 401),
    "scopes": ("scopes = '{\"quotas.spend\": true}'", 200),
}


@pytest.mark.parametrize("what", CHANGES)
async def test_what_no_list_tells_of_a_token_is_noticed(
    gateway: GatewayProcess, foreign: ForeignWriter, seed: Seed, what: str
) -> None:
    """Nobody is told of an end that was moved closer and the like; an API token in use is asked about again."""
    person = seed.person(seed.plan(["can_use_voice"]))
    instance = Deployment(gateway, foreign)
    key = instance_key(instance.key.kid, instance.key.secret)
    async with AuthProxy(own_app, f"http://{gateway.address}", key, recheck_s=0.2) as proxy:
        assert (await request(proxy, person.token)).json["permissions"] == ["can_use_voice"]
        change, status = CHANGES[what]
        foreign.execute(f"UPDATE api_tokens SET {change} WHERE id = ?", person.token_id)
        deadline = time.monotonic() + 10
        while (answer := await request(proxy, person.token)).json.get("permissions") == ["can_use_voice"]:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        assert answer.status == status
