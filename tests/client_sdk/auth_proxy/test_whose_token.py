"""What the gateway says of a token is said of that token alone."""

from __future__ import annotations

import asyncio

import pytest

from client_sdk.auth_proxy import AuthProxy
from client_sdk.auth_proxy.facts import mark_of
from tests.client_sdk.support.asgi import Socket, request
from tests.client_sdk.support.scripted_gateway import ScriptedGateway, proxy_to
from tests.client_sdk.support.tokens import api_token
from tests.support.waiting import eventually


async def held(proxy: AuthProxy, user: str) -> None:
    link = proxy.decider.link
    assert link is not None
    await eventually(lambda: link.is_exact(f"user:{user}"))


async def spend(gateway: ScriptedGateway, proxy: AuthProxy, used: int) -> None:
    """Bob's document changes, so that his socket is looked at."""
    link = proxy.decider.link
    assert link is not None
    await gateway.change("user:u_bob", {"quotas": {"voice_minutes": {"used": used}}}, "quota_usage")
    await eventually(lambda: link.documents["user:u_bob"]["quotas"]["voice_minutes"]["used"] == used)


@pytest.mark.parametrize("other", ["another user's", "one that is void"])
async def test_a_recheck_asks_about_the_token_that_is_due(gateway: ScriptedGateway, other: str) -> None:
    async with proxy_to(gateway, recheck_s=0.000_001) as proxy:
        bob, ada = gateway.issue("u_bob", "t_bob"), gateway.issue("u_ada", "t_ada")
        assert (await request(proxy, bob)).json["user"] == "u_bob"
        socket = Socket(proxy, bob)
        assert await socket.hear() == "u_bob"
        await held(proxy, "u_bob")
        # A question that is under way is joined, and then nobody asks about Bob's token again.
        await eventually(lambda: proxy.counters.total("validations") == len(gateway.asked))
        questions = len(gateway.asked)
        await spend(gateway, proxy, 13)
        theirs = ada if other == "another user's" else api_token()
        assert (await request(proxy, theirs)).status == (200 if theirs == ada else 401)
        await eventually(lambda: len(gateway.asked) >= questions + 2)
        await eventually(lambda: proxy.counters.total("validations") == len(gateway.asked))
        assert set(gateway.asked[questions:]) == {bob, theirs}
        for _ in range(2):
            assert (await request(proxy, bob)).json["user"] == "u_bob"
        await socket.leave()


async def test_a_recheck_and_a_request_ask_together(gateway: ScriptedGateway) -> None:
    async with proxy_to(gateway) as proxy:
        token = gateway.issue("u_ada", "t_1")
        gateway.hold = asyncio.Event()
        asking = asyncio.ensure_future(request(proxy, token))
        await eventually(lambda: gateway.asked)
        proxy.decider.cache.due.append((token, mark_of(token)))
        assert (await request(proxy)).status == 401  # after each decision what is due is done
        await eventually(lambda: proxy.counters["joined", "validate"] == 1)
        gateway.hold.set()
        assert (await asking).status == 200
        assert gateway.asked == [token]


async def test_questions_that_nobody_waits_for_are_not_asked(gateway: ScriptedGateway) -> None:
    """A gateway that takes questions and answers none, and strangers with tokens of the right form."""
    async with proxy_to(gateway, fetch_s=0.3) as proxy:
        assert (await request(proxy, gateway.issue("u_ada", "t_1"))).status == 200
        gateway.hold = asyncio.Event()
        for _ in range(3):
            answers = await asyncio.gather(*(request(proxy, api_token()) for _ in range(400)))
            assert {answer.status for answer in answers} == {503}
        fetcher = proxy.decider._fetcher
        assert len(fetcher._flights) <= 32
        questions = len(gateway.asked)
        gateway.hold.set()
        await eventually(lambda: not fetcher._flights)
        assert len(gateway.asked) <= questions + 32, "those that were under way, and none of the 1,200 besides"
        assert fetcher._waiting == {}


async def test_no_more_wait_than_are_worth_waiting_for(gateway: ScriptedGateway) -> None:
    async with proxy_to(gateway, fetch_s=5.0) as proxy:
        link = proxy.decider.link
        assert link is not None
        await eventually(lambda: link.live)
        gateway.hold = asyncio.Event()
        asking = [asyncio.ensure_future(request(proxy, api_token())) for _ in range(1_100)]
        await eventually(lambda: sum(task.done() for task in asking) == 100)
        assert {task.result().status for task in asking if task.done()} == {503}
        gateway.hold.set()
        for task in asking:
            task.cancel()
        await asyncio.wait(asking)


async def test_an_answer_is_never_learned_of_another_token(gateway: ScriptedGateway) -> None:
    async with proxy_to(gateway) as proxy:
        token, other = gateway.issue("u_ada", "t_1"), gateway.issue("u_bob", "t_2")
        with pytest.raises(AssertionError):
            await proxy.decider._fetcher._validate(token, mark_of(other))
        assert gateway.asked == []
