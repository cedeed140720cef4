"""Errors of requests over HTTP say what those of the channel say."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from client_sdk import (
    ChannelError,
    ConfigError,
    Forbidden,
    InstanceClient,
    LoginProvider,
    QuotaExceeded,
    RateLimited,
    Reservation,
    ServerClient,
    Unavailable,
)
from client_sdk.instance_key import InstanceKey, InstanceKeys

KEY = InstanceKey("ik_first", bytes(32))
URL = "http://gateway.example.org:8787"
EXCEEDED = {
    "type": "urn:gateway:problem:quota_exceeded",
    "status": 409,
    "code": "quota_exceeded",
    "detail": "The quota leaves 500 of the 2000 asked for.",
    "quota": "voice_minutes",
    "remaining": 500,
    "resets_at": "2026-12-01T00:00:00.000Z",
}


def answering(status: int, body: Any, **fields: str) -> InstanceClient:
    """A client whose every request is answered so."""
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    transport = httpx2.MockTransport(lambda request: httpx2.Response(status, json=body, headers=named))
    return InstanceClient(URL, KEY, transport=transport, attempts=1)


async def test_a_refusal_says_what_is_left_and_until_when() -> None:
    held = Reservation(quota="voice_minutes", used=0, lease="l1", user="u_ada")
    async with answering(409, EXCEEDED) as gateway:
        for asking in (
            gateway.consume("voice_minutes", 2000, user="u_ada"),
            gateway.reserve("voice_minutes", 2000, user="u_ada"),
            gateway.extend(held, amount=2000),
        ):
            with pytest.raises(QuotaExceeded, match="leaves 500") as refused:
                await asking
            error = refused.value
            assert (error.quota, error.remaining) == ("voice_minutes", 500)
            assert error.resets_at == "2026-12-01T00:00:00.000Z"


@pytest.mark.parametrize("fields", [{}, {"Retry_After": "1"}])
async def test_how_long_to_wait_is_what_the_problem_says_exactly(fields: dict[str, str]) -> None:
    async with answering(429, {"code": "rate_limited", "retry_after_s": 0.25}, **fields) as gateway:
        with pytest.raises(RateLimited) as refused:
            await gateway.validate("gw_token")
    assert refused.value.retry_after_s == 0.25


async def test_a_no_that_passes_says_how_long() -> None:
    async with answering(403, {}, Retry_After="7") as gateway:
        with pytest.raises(Unavailable) as refused:
            await gateway.validate("gw_token")
    assert refused.value.retry_after_s == 7


async def test_a_refusal_is_none_that_passes_for_a_member_of_another_type() -> None:
    async with answering(403, {"code": "forbidden", "detail": "No.", "doc": 5, "retry_after_s": "5"}) as gateway:
        with pytest.raises(Forbidden, match=r"^No\.$"):
            await gateway.validate("gw_token")


@pytest.mark.parametrize(("status", "body"), [(503, {"code": "uncertain"}), (500, {"code": "internal"}), (200, [])])
async def test_an_answer_that_leaves_it_open_has_the_key(status: int, body: Any) -> None:
    async with answering(status, body) as gateway:
        with pytest.raises(ChannelError) as lost:
            await gateway.consume("q", user="u_ada", key="k1")
        assert lost.value.key == "k1"
        with pytest.raises(ChannelError) as lost:
            await gateway.reserve("q", 1, user="u_ada", name="l1")
        assert lost.value.key == "l1"


@pytest.mark.parametrize(
    ("name", "value"),
    [("timeout_s", 0), ("timeout_s", float("nan")), ("timeout_s", "5"), ("attempts", 0), ("attempts", 1.5)],
)
def test_a_bound_that_can_not_be_is_named(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"^{name}: {value!r} is no"):
        InstanceClient(URL, KEY, **{name: value})


def test_bounds_of_the_others_are_looked_at_too() -> None:
    with pytest.raises(ConfigError, match="cache_s: -1 is no"):
        ServerClient(URL, "t1", cache_s=-1)
    with pytest.raises(ConfigError, match="timeout_s: inf is no"):
        ServerClient(URL, "t1", timeout_s=float("inf"))
    with pytest.raises(ConfigError, match="timeout_s: 0 is no"):
        LoginProvider(URL, refresh_token="r", timeout_s=0)
    with pytest.raises(ConfigError, match="reload_every_s: nan is no"):
        InstanceKeys(KEY, reload_every_s=float("nan"))
