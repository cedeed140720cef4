"""Strangers at the application's door do not use up what the instance may ask."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.http11 import Response

from client_sdk.auth_proxy.reserve import Reserve
from client_sdk.instance import InstanceClient
from client_sdk.instance_key import InstanceKey
from client_sdk.rate_limit import RateLimit, read_rate_limit
from gateway.core.rate import Rates
from gateway.web.signing import rate_fields
from tests.client_sdk.support.scripted_gateway import ScriptedGateway, _json, proxy_to
from tests.client_sdk.support.tokens import api_token

LIMIT = 60


class CountingGateway(ScriptedGateway):
    """It answers so often and no oftener; `refused` are the questions too many."""

    def __init__(self) -> None:
        super().__init__()
        self.rates = Rates()
        self.refused = 0

    async def _process_request(self, connection: Any, request: Any) -> Response | None:  # type: ignore[override]
        response = await super()._process_request(connection, request)
        if response is not None and request.path.startswith("/auth/validate"):
            allowed = self.rates.charge("app", LIMIT, 0.0)
            if allowed.retry_after_s is not None:
                self.refused += 1
                response = _json(429, {"code": "rate_limited", "detail": "Too often."})
            response.headers.update(rate_fields(allowed))
        return response


@pytest.fixture
async def gateway() -> AsyncIterator[CountingGateway]:
    async with CountingGateway() as server:
        yield server


async def test_strangers_leave_half_of_the_rate(gateway: CountingGateway) -> None:
    token = gateway.issue("u_ada", "t_ada")
    async with proxy_to(gateway) as proxy:
        decider = proxy.decider
        assert (await decider.decide(token)).allowed
        began = time.monotonic()
        answers = await asyncio.gather(*(decider.decide(api_token()) for _ in range(3 * LIMIT)))
        assert not any(answer.allowed for answer in answers)
        assert gateway.refused == 0
        asked = len(gateway.asked)
        renewed = (time.monotonic() - began) * LIMIT / 60
        assert LIMIT // 2 - 5 <= asked <= LIMIT // 2 + 1 + renewed
        counters = decider.counters
        assert counters["validations", "void"] + counters["validations", "deferred"] == 3 * LIMIT
        for number in range(1, 21):
            await decider._fetcher.ask_again(token, sha256(token.encode()).digest())
            assert len(gateway.asked) == asked + number, "who is known is asked about again"
        assert (await decider.decide(token)).allowed
        assert gateway.refused == 0


@given(st.integers(1, 100_000), st.integers(0, 5_000))
def test_what_the_gateway_writes_is_understood(limit: int, used: int) -> None:
    rates = Rates()
    for _ in range(min(used, 50)):
        rates.charge("a", limit, 0.0)
    allowed = rates.charge("a", limit, 0.0)
    assert read_rate_limit(rate_fields(allowed)) == RateLimit(limit, 60, allowed.remaining)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"RateLimit": '"default";r=1;t=1'},
        {"RateLimit": '"default";r=1', "RateLimit-Policy": '"default";q=0;w=60'},
        {"RateLimit": "nonsense", "RateLimit-Policy": '"default";q=1;w=60'},
    ],
)
def test_what_is_not_understood_says_nothing(headers: dict[str, str]) -> None:
    assert read_rate_limit(headers) is None


def test_the_reserve_is_reckoned_from_what_was_said_last() -> None:
    reserve = Reserve()
    assert reserve.spares(1_000, 0.0), "nothing was said yet"
    told = RateLimit(60, 60, 31)
    reserve.note(told, 100.0)
    assert reserve.spares(1, 100.0)
    assert not reserve.spares(2, 100.0)
    reserve.note(told, 100.9)
    assert reserve.spares(2, 101.0), "one was refilled since it was said"
    reserve.note(RateLimit(60, 60, 0), 200.0)
    assert not reserve.spares(0, 229.9)
    assert reserve.spares(0, 230.0)
    assert not reserve.spares(31, 10_000.0), "no more is refilled than there is"


async def test_a_client_knows_how_much_it_may_ask() -> None:
    answers = [{"RateLimit-Policy": '"default";q=6;w=60', "RateLimit": '"default";r=5;t=10'}, {}]

    async def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers=answers.pop(0), json={"active": False})

    key = InstanceKey("ik", bytes(32))
    transport = httpx2.MockTransport(answer)
    async with InstanceClient("http://gateway.example.org", lambda: [key], transport=transport) as client:
        assert client.rate_limit is None
        for _ in range(2):
            await client.validate(api_token())
            assert client.rate_limit == RateLimit(6, 60, 5)
