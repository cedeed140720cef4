"""What the log and the counters say of the channel."""

from __future__ import annotations

import pytest

from client_sdk.auth_proxy import AuthProxy
from client_sdk.instance_key import InstanceSettings
from tests.client_sdk.support.asgi import request
from tests.client_sdk.support.logged import said
from tests.client_sdk.support.scripted_gateway import KEY, ScriptedGateway, is_live, own_app, proxy_to
from tests.client_sdk.support.tokens import ISSUER, access_token, soon
from tests.support.waiting import eventually


def links(proxy: AuthProxy) -> dict[str, int]:
    return proxy.counters.read()["links"]


async def test_a_new_user_makes_nothing_old(gateway: ScriptedGateway) -> None:
    gateway.documents |= {f"user:u_{n}": {"identity": {"id": f"u_{n}", "status": "active"}} for n in range(6)}
    async with proxy_to(gateway) as proxy:
        for number in range(6):
            assert (await request(proxy, access_token(f"u_{number}", "s", soon()))).status == 200
        assert links(proxy) == {"live": 1}


async def test_a_database_that_is_away_is_counted_once(gateway: ScriptedGateway) -> None:
    """Also when a document was on its way at that moment, and comes only when it is back."""
    async with proxy_to(gateway, fetch_s=0.1) as proxy:
        await eventually(lambda: is_live(proxy) and links(proxy) == {"live": 1})
        [peer] = gateway.peers
        gateway.silent = True
        link = proxy.decider.link
        assert link is not None
        wanted = link.want("user:u_ada")
        asked = await gateway.message(peer, "watch")
        await peer.send({"op": "status", "store": "stale", "since": "2026-11-22T10:00:00.000Z", "age_s": 0.1})
        await eventually(lambda: link.freshness.reason == "store")
        await proxy.decider.tick()
        await proxy.decider.tick()
        assert links(proxy) == {"live": 1, "stale": 1}
        gateway.silent = False
        await peer.send({"op": "status", "store": "fresh"})
        await gateway._answer(peer, asked)
        await wanted
        await eventually(lambda: links(proxy) == {"live": 2, "stale": 1})


@pytest.mark.parametrize("instance", ["app", "another"])
async def test_a_key_of_another_instance_is_told_once(
    gateway: ScriptedGateway, caplog: pytest.LogCaptureFixture, instance: str
) -> None:
    """The key alone decides who this is; a file with another name in it is two files that were mixed up."""
    settings = InstanceSettings(f"http://127.0.0.1:{gateway.port}", instance, (KEY,))
    async with AuthProxy(own_app, settings, issuer=ISSUER) as proxy:
        assert (await request(proxy, access_token("u_ada", "s", soon()))).status == 200
        gateway.cut()
        await eventually(lambda: len(gateway.peers) == 2 and is_live(proxy))
    lines = said(caplog)
    if instance == "app":
        assert lines == []
    else:
        assert len(lines) == 1
        assert "'app'" in lines[0]
        assert "'another'" in lines[0]


async def test_who_names_no_instance_is_told_nothing(
    gateway: ScriptedGateway, caplog: pytest.LogCaptureFixture
) -> None:
    async with proxy_to(gateway) as proxy:
        await eventually(lambda: is_live(proxy))
    assert said(caplog) == []
