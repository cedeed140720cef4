"""A revocation that is too old to be named, and requests that wait when the proxy ends."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from tests.client_sdk.support.asgi import request
from tests.client_sdk.support.scripted_gateway import ScriptedGateway, proxy_to
from tests.client_sdk.support.tokens import api_token
from tests.support.waiting import eventually


async def test_a_revoked_token_whose_name_is_pushed_out_is_asked_about_again() -> None:
    """However far the clock that noted its end is behind this one."""
    async with ScriptedGateway() as gateway, proxy_to(gateway) as proxy:
        token = gateway.issue("u_ada", "t_1")
        assert (await request(proxy, token)).status == 200
        await gateway.revoke("t_1")
        link = proxy.decider.link
        assert link is not None
        await eventually(lambda: "t_1" in link.documents["revocations"])
        assert (await request(proxy, token)).status == 401
        del gateway.tokens[token]
        moment = (datetime.now(UTC) - timedelta(hours=1)).isoformat(timespec="milliseconds")
        await gateway.change("revocations", {"t_1": None, "*": moment}, "revocation")
        await eventually(lambda: "*" in link.documents["revocations"])
        assert (await request(proxy, token)).status == 401
        assert gateway.asked == [token, token]


async def test_a_request_that_waits_when_the_proxy_ends_is_answered() -> None:
    async with ScriptedGateway() as gateway:
        gateway.hold = asyncio.Event()
        async with proxy_to(gateway, fetch_s=20.0) as proxy:
            asking = [asyncio.ensure_future(request(proxy, token)) for token in [api_token()] * 2]
            await eventually(lambda: gateway.asked)
            await proxy.decider.stop()
            assert [(await answer).status for answer in asking] == [503, 503]
        gateway.hold.set()


async def test_a_request_that_is_ended_while_it_waits_ends() -> None:
    async with ScriptedGateway() as gateway:
        gateway.hold = asyncio.Event()
        async with proxy_to(gateway, fetch_s=20.0) as proxy:
            asking = asyncio.ensure_future(request(proxy, api_token()))
            await eventually(lambda: gateway.asked)
            asking.cancel()
            await asyncio.wait([asking])
            assert asking.cancelled()
        gateway.hold.set()
