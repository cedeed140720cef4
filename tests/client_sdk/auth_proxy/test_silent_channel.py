"""A channel that never comes, and questions that are never answered, are not passed over in silence."""

from __future__ import annotations

import re
import time

import pytest
from websockets.datastructures import Headers
from websockets.http11 import Response

from client_sdk.auth_proxy import AuthProxy, Rules
from client_sdk.auth_proxy.decider import Decider
from client_sdk.config import ConfigError
from tests.client_sdk.support.clock import JumpingClock
from tests.client_sdk.support.logged import said
from tests.client_sdk.support.scripted_gateway import KEY, ScriptedGateway, own_app
from tests.client_sdk.support.tokens import ISSUER, access_token, api_token
from tests.support.waiting import eventually


def decider_to(url: str, clock: JumpingClock) -> Decider:
    return Decider(url, KEY, Rules(issuer=ISSUER), clock=clock.time, link_options={"clock": clock})


async def test_a_channel_that_does_not_pass_is_told_now_and_then(
    gateway: ScriptedGateway, caplog: pytest.LogCaptureFixture
) -> None:
    """A proxy between them passes requests and no sockets: tokens are good, and nothing is heard of revocations."""
    clock = JumpingClock()
    gateway.refusals = [Response(404, "Not Found", Headers(), b"<html>")] * 10_000
    async with decider_to(f"http://127.0.0.1:{gateway.port}", clock) as decider:
        assert (await decider.decide(gateway.issue("u_ada", "t_1"))).allowed
        await eventually(lambda: decider.counters["links", "failed"] > 0)
        await decider.tick()
        clock.ahead_s += 9.0
        await decider.tick()
        assert said(caplog) == []
        for _ in range(3):
            clock.ahead_s += 10.0
            await decider.tick()
        [line] = said(caplog)
        assert f"ws://127.0.0.1:{gateway.port}/ws: The handshake was answered with status 404." in line
        clock.ahead_s += 30.0
        await decider.tick()
        assert len(said(caplog)) == decider.counters["links", "missing"] == 2
        gateway.refusals.clear()
        await eventually(lambda: decider.link is not None and decider.link.live)
        clock.ahead_s += 60.0
        await decider.tick()
        assert len(said(caplog)) == 2


async def test_a_port_where_nobody_is_is_told(gateway: ScriptedGateway, caplog: pytest.LogCaptureFixture) -> None:
    clock = JumpingClock()
    await gateway.stop()
    async with decider_to(f"http://127.0.0.1:{gateway.port}", clock) as decider:
        assert not (await decider.decide(access_token("u_ada", "s_1", int(time.time() + 600)))).allowed
        await decider.tick()
        clock.ahead_s += 11.0
        await decider.tick()
        [line] = said(caplog)
        assert re.match(rf"there is no channel to the gateway, for 1\d s: ws://127\.0\.0\.1:{gateway.port}/ws: ", line)
    await gateway.start()


async def test_questions_that_fail_and_fail_are_told(
    gateway: ScriptedGateway, caplog: pytest.LogCaptureFixture
) -> None:
    clock = JumpingClock()
    async with decider_to(f"http://127.0.0.1:{gateway.port}", clock) as decider:
        await eventually(lambda: decider.link is not None and decider.link.live)
        gateway.away = True
        for _ in range(3):
            assert not (await decider.decide(api_token())).allowed
            assert said(caplog) == []
            clock.ahead_s += 4.0
        assert not (await decider.decide(api_token())).allowed
        [line] = said(caplog)
        assert re.fullmatch(r"the gateway does not answer this instance, for 1\d s: unavailable: Not now\.", line)
        gateway.away = False
        clock.ahead_s += 4.0
        await decider.decide(api_token())
        gateway.away = True
        clock.ahead_s += 40.0
        await decider.decide(api_token())
        assert len(said(caplog)) == 1, "in between it answered"


def test_an_address_below_a_path_is_refused_at_once() -> None:
    """Requests would find the gateway there, and the channel would not."""
    with pytest.raises(ConfigError, match="'/gateway'"):
        AuthProxy(own_app, "https://gateway.example.org/gateway", KEY)
