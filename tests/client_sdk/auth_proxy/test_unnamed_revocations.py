"""More was revoked than the list names: `*` says before which moment."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from client_sdk.auth_proxy import AuthProxy
from tests.client_sdk.support.asgi import Socket, request
from tests.client_sdk.support.noting_storage import NotingStorage
from tests.client_sdk.support.scripted_gateway import ScriptedGateway, proxy_to
from tests.client_sdk.support.tokens import access_token
from tests.support.waiting import eventually


def ago(seconds: float) -> dict[str, Any]:
    """The list that names nothing older than that."""
    return {"*": datetime.fromtimestamp(time.time() - seconds, UTC).isoformat(timespec="milliseconds")}


async def held(proxy: AuthProxy, user: str) -> None:
    link = proxy.decider.link
    assert link is not None
    await eventually(lambda: link.is_exact(f"user:{user}"))


async def test_sockets_of_what_is_not_named_are_closed(gateway: ScriptedGateway) -> None:
    async with proxy_to(gateway) as proxy:
        bad, good = gateway.issue("u_ada", "t_ada"), gateway.issue("u_bob", "t_bob")
        ended, stays = Socket(proxy, bad), Socket(proxy, good)
        assert (await ended.hear(), await stays.hear()) == ("u_ada", "u_bob")
        await held(proxy, "u_ada")
        await held(proxy, "u_bob")
        del gateway.tokens[bad]
        await gateway.change("revocations", ago(0), "revocation")
        assert await ended.closed() in (4500, 4102)
        stays.say("still here")
        assert await stays.hear() == "still here"
        await stays.leave()


async def test_what_is_revoked_after_it_has_a_name(gateway: ScriptedGateway) -> None:
    async with proxy_to(gateway) as proxy:
        token = gateway.issue("u_ada", "t_ada")
        await gateway.change("revocations", ago(3600), "revocation")
        socket = Socket(proxy, token)
        await socket.hear()
        await held(proxy, "u_ada")
        await gateway.change("revocations", {**ago(3500), "s_other": "2030-01-01T00:00:00.000Z"}, "revocation")
        assert (await request(proxy, token)).status == 200
        assert gateway.asked == [token]
        await gateway.revoke("t_ada")
        assert await socket.closed() == 4500
        assert (await request(proxy, token)).status == 401


async def test_a_worker_that_begins_by_the_storage_believes_no_more_than_the_others(gateway: ScriptedGateway) -> None:
    storage = NotingStorage()
    tokens = access_token("u_ada", "s_1", int(time.time() + 600)), gateway.issue("u_bob", "t_1")
    async with proxy_to(gateway, storage=storage, fetch_s=0.5) as first:
        assert [(await request(first, token)).status for token in tokens] == [200, 200]
        await held(first, "u_ada")
        await gateway.change("revocations", ago(0), "revocation")
        await eventually(lambda: "revocations" in storage.written.facts and storage.written.facts["revocations"].data)
        await gateway.stop()
        await eventually(lambda: first.decider.link is not None and not first.decider.link.live)
        assert [(await request(first, token)).status for token in tokens] == [503, 503]
        async with proxy_to(gateway, storage=storage, fetch_s=0.5) as second:
            assert [(await request(second, token)).status for token in tokens] == [503, 503]
    await gateway.start()
