"""The gateway goes away and comes back."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from websockets.datastructures import Headers
from websockets.http11 import Response

from client_sdk import Disconnected
from client_sdk.auth_proxy import AuthProxy, InstanceKey
from client_sdk.faults import FaultProxy
from client_sdk.session import Condition
from tests.client_sdk.support.asgi import Socket, request
from tests.client_sdk.support.clock import JumpingClock, ManualClock
from tests.client_sdk.support.noting_storage import NotingStorage
from tests.client_sdk.support.scripted_gateway import KEY, ScriptedGateway, is_live, own_app, proxy_to
from tests.client_sdk.support.timed_proxy import proxy_by
from tests.client_sdk.support.tokens import ISSUER, access_token, api_token, soon
from tests.support.waiting import eventually


async def gone(gateway: ScriptedGateway, *proxies: AuthProxy) -> None:
    await gateway.stop()
    await eventually(lambda: not any(map(is_live, proxies)))


async def test_who_is_known_goes_on_and_who_is_not_is_told_to_come_later(gateway: ScriptedGateway) -> None:
    async with proxy_to(gateway) as proxy:
        token, other = access_token("u_ada", "s_1", soon()), gateway.issue("u_bob", "t_1")
        for known in (token, other):
            assert (await request(proxy, known)).status == 200
        await eventually(lambda: gateway.watched() == ["user:u_ada", "user:u_bob"])
        await gone(gateway, proxy)
        for known in (token, other, access_token("u_ada", "s_new", soon())):
            answer = await request(proxy, known)
            assert (answer.status, answer.json["source"]) == (200, "offline")
            assert 0 <= answer.json["age_s"] < 5
        for unknown in (api_token(), access_token("u_carol", "s_2", soon())):
            answer = await request(proxy, unknown)
            assert (answer.status, answer.json["code"]) == (503, "unavailable")
            assert answer.headers["retry-after"] == "1"
        for bad in ("gw_nonsense", access_token("u_ada", "s_1", soon(-5))):
            assert (await request(proxy, bad)).status == 401


async def test_what_is_revoked_stays_so(gateway: ScriptedGateway) -> None:
    async with proxy_to(gateway) as proxy:
        token, same_user = access_token("u_ada", "s_1", soon()), access_token("u_ada", "s_2", soon())
        disabled = access_token("u_bob", "s_3", soon())
        for known in (token, same_user, disabled):
            assert (await request(proxy, known)).status == 200
        socket = Socket(proxy, token)
        await socket.hear()
        await gateway.revoke("s_1")
        await gateway.set_status("u_bob", "disabled")
        assert await socket.closed() == 4500
        await gone(gateway, proxy)
        assert [(await request(proxy, known)).status for known in (token, same_user, disabled)] == [401, 200, 401]


async def test_nothing_is_believed_for_longer_than_it_may_be(gateway: ScriptedGateway) -> None:
    clock = JumpingClock()
    async with proxy_by(clock, f"http://127.0.0.1:{gateway.port}", max_stale_s=60.0) as proxy:
        token = access_token("u_ada", "s_1", soon())
        socket = Socket(proxy, token)
        await socket.hear()
        await gone(gateway, proxy)
        clock.ahead_s += 50
        assert (await request(proxy, token)).json["source"] == "offline"
        clock.ahead_s += 10
        assert (await request(proxy, token)).status == 503
        assert await socket.closed() == 1013


async def test_a_gateway_that_is_back_is_believed_within_a_second(gateway: ScriptedGateway) -> None:
    proxies = [proxy_to(gateway) for _ in range(3)]
    for proxy in proxies:
        await proxy.__aenter__()
    token, other = access_token("u_ada", "s_1", soon()), gateway.issue("u_bob", "t_1")
    for proxy in proxies:
        assert [(await request(proxy, known)).status for known in (token, other)] == [200, 200]
        link = proxy.decider.link
        assert link is not None
        await eventually(lambda link=link: link.is_exact("user:u_bob"))  # type: ignore[misc]
    await gone(gateway, *proxies)
    questions = len(gateway.asked)
    gateway.documents["revocations"] = {"s_1": "2030-01-01T00:00:00.000Z"}
    assert (await request(proxies[0], token)).status == 200
    await gateway.start()
    started = time.monotonic()
    for proxy in proxies:
        await eventually(lambda proxy=proxy: is_live(proxy))  # type: ignore[misc]
        assert (await request(proxy, token)).status == 401
        assert (await request(proxy, other)).json["source"] == "live"
    assert time.monotonic() - started < 1.5
    assert len(gateway.asked) == questions
    resumed = [entry for peer in gateway.peers[3:] for entry in peer.watch if entry.startswith("user:")]
    assert len(resumed) == 6
    assert all("@" in entry for entry in resumed)
    for proxy in proxies:
        await proxy.__aexit__(None, None, None)


async def test_a_request_waits_for_what_is_on_its_way(gateway: ScriptedGateway) -> None:
    """A user's document that was held before a cut is not used until it is confirmed, when that is soon."""
    clock = JumpingClock()
    async with proxy_by(clock, f"http://127.0.0.1:{gateway.port}") as proxy:
        token = access_token("u_ada", "s_1", soon())
        assert (await request(proxy, token)).status == 200
        await gone(gateway, proxy)
        clock.ahead_s += 1.1  # older than what nobody waits for
        gateway.documents["user:u_ada"]["identity"]["status"] = "disabled"
        gateway.delay_s = 0.2
        await gateway.start()
        await eventually(lambda: is_live(proxy))
        assert (await request(proxy, token)).status == 401


async def test_a_new_worker_begins_with_what_others_stored(gateway: ScriptedGateway) -> None:
    storage = NotingStorage()
    token, revoked, other = (
        access_token("u_ada", "s_1", soon()),
        access_token("u_ada", "s_2", soon()),
        gateway.issue("u_bob", "t_1"),
    )
    async with proxy_to(gateway, storage=storage) as first:
        for known in (token, revoked, other):
            assert (await request(first, known)).status == 200
        await gateway.revoke("s_2")
        await eventually(lambda: "s_2" in storage.written.revoked)
        await gone(gateway, first)
        await eventually(lambda: {"user:u_ada", "user:u_bob", "keys", "revocations"} <= storage.written.facts.keys())
        async with proxy_to(gateway, storage=storage) as second:
            assert [(await request(second, known)).status for known in (token, revoked, other)] == [200, 401, 200]
            assert (await request(second, api_token())).status == 503
            assert second.counters["stored", "token"] == 1


async def test_workers_share_what_the_gateway_said_of_a_token(gateway: ScriptedGateway) -> None:
    storage = NotingStorage()
    async with proxy_to(gateway, storage=storage) as first, proxy_to(gateway, storage=storage) as second:
        good, bad = gateway.issue("u_ada", "t_1"), api_token()
        assert [(await request(first, token)).status for token in (good, bad)] == [200, 401]
        await eventually(lambda: len(storage.written.tokens) == 2)
        assert [(await request(second, token)).status for token in (good, bad)] == [200, 401]
        assert gateway.asked == [good, bad]


async def test_a_network_that_swallows_everything(gateway: ScriptedGateway) -> None:
    faults = FaultProxy("127.0.0.1", gateway.port)
    await faults.open()
    token = access_token("u_ada", "s_1", soon())
    try:
        proxy = AuthProxy(
            proxy_to(gateway)._app, faults.url, proxy_to(gateway).decider.keys, fetch_s=0.3, issuer=ISSUER
        )
        async with proxy:
            assert (await request(proxy, token)).status == 200
            faults.freeze()
            started = time.monotonic()
            assert (await request(proxy, token)).status == 200
            assert (await request(proxy, api_token())).status == 503
            assert time.monotonic() - started < 5.0, "much sooner than a request that waits for the network"
            faults.heal()
    finally:
        await faults.close()


async def test_an_instance_that_is_sent_away_trusts_nothing_any_more(gateway: ScriptedGateway) -> None:
    async with proxy_to(gateway) as proxy:
        token = access_token("u_ada", "s_1", soon())
        socket = Socket(proxy, token)
        await socket.hear()
        gateway.away = True
        await (await gateway.peer()).end("revoked", "never", 4500)
        await eventually(lambda: not is_live(proxy))
        assert (await request(proxy, token)).status == 503
        assert await socket.closed() == 1013


async def test_an_instance_that_is_sent_away_believes_no_storage_either(gateway: ScriptedGateway) -> None:
    storage = NotingStorage()
    async with proxy_to(gateway, storage=storage) as proxy:
        token = gateway.issue("u_ada", "t_1")
        assert (await request(proxy, token)).status == 200
        await eventually(lambda: len(storage.written.tokens) == 1 and "user:u_ada" in storage.written.facts)
        gateway.away = True
        await (await gateway.peer()).end("revoked", "never", 4500)
        await eventually(lambda: not is_live(proxy))
        assert (await request(proxy, token)).status == 503
        asked = storage.asked
        await proxy.decider.tick()
        assert storage.asked == asked
        assert (await request(proxy, token)).status == 503
        assert proxy.counters.total("stored") == 0


@pytest.mark.parametrize(("status", "code"), [(401, "auth_failed"), (403, "forbidden")])
async def test_a_worker_that_is_not_let_in_believes_no_storage(
    gateway: ScriptedGateway, status: int, code: str
) -> None:
    """The instance was disabled, or may not come from here; what another worker stored says that it goes on."""
    storage = NotingStorage()
    token = gateway.issue("u_ada", "t_1")
    async with proxy_to(gateway, storage=storage) as first:
        assert (await request(first, token)).status == 200
        await eventually(
            lambda: {"user:u_ada", "revocations"} <= storage.written.facts.keys() and storage.written.tokens
        )
    gateway.away = True
    headers = Headers({"Content-Type": "application/problem+json"})
    gateway.refusals = [Response(status, "No", headers, b'{"code": "%s", "detail": "No."}' % code.encode())] * 500
    async with proxy_to(gateway, storage=storage) as second:
        assert (await request(second, token)).status == 503
        assert second.counters.total("stored") == 0


async def test_the_first_connection_is_not_waited_for_for_long(gateway: ScriptedGateway) -> None:
    clock = ManualClock()
    gateway.silent = True
    async with proxy_by(clock, f"http://127.0.0.1:{gateway.port}") as proxy:
        link = proxy.decider.link
        assert link is not None
        waiting = asyncio.ensure_future(link.first_word())
        await eventually(lambda: link._session.condition is Condition.GREETING)
        assert not waiting.done()
        await clock.advance(3.1)
        await asyncio.wait_for(waiting, 5)
        assert link.trouble is None


async def test_its_upkeep_goes_on_after_a_fault(gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("a fault of this program")

    async with proxy_to(gateway) as proxy:
        monkeypatch.setattr(proxy.decider, "_tend_storage", fail)
        await eventually(lambda: proxy.counters["faults", ""] == 2)


async def test_an_instance_that_was_never_let_in_does_not_try_its_keys_in_turn(gateway: ScriptedGateway) -> None:
    problem = b'{"code": "forbidden", "detail": "Not from here."}'
    headers = Headers({"Content-Type": "application/problem+json"})
    gateway.refusals = [Response(403, "Forbidden", headers, problem)] * 50
    keys = [InstanceKey("ik_first", bytes(range(32))), InstanceKey("ik_second", bytes(range(32)))]
    async with AuthProxy(own_app, f"http://127.0.0.1:{gateway.port}", keys, issuer=ISSUER) as proxy:
        await eventually(lambda: proxy.decider.link is not None and proxy.decider.link.ended)
        for _ in range(3):
            await proxy.decider.tick()
            await request(proxy, gateway.issue("u_ada", "t_1"))  # a handshake would have come before
        assert gateway.handshakes == 1


async def test_a_key_that_is_deleted_gives_way_to_another_at_once(gateway: ScriptedGateway) -> None:
    keys = [InstanceKey("ik_first", bytes(range(32))), InstanceKey("ik_second", bytes(range(32)))]
    async with AuthProxy(own_app, f"http://127.0.0.1:{gateway.port}", keys, issuer=ISSUER) as proxy:
        token = access_token("u_ada", "s_1", soon())
        socket = Socket(proxy, token)
        await socket.hear()
        await (await gateway.peer()).end("revoked", "never", 4500)
        await eventually(lambda: gateway.handshakes == 2 and is_live(proxy), 5.0)
        assert proxy.decider.keys.present.kid == "ik_second"
        assert (await request(proxy, token)).status == 200
        socket.say("still here")
        assert await socket.hear() == "still here"
        await socket.leave()


async def test_a_gateway_that_refuses_the_instance_makes_no_token_bad(gateway: ScriptedGateway) -> None:
    clock = JumpingClock()
    async with proxy_by(clock, f"http://127.0.0.1:{gateway.port}") as proxy:
        await eventually(lambda: is_live(proxy))
        gateway.away = True
        token = gateway.issue("u_ada", "t_1")
        assert (await request(proxy, token)).status == 503
        gateway.away = False
        clock.ahead_s += 1.0  # until then it is not asked again
        assert (await request(proxy, token)).status == 200


async def test_a_thousand_that_wait_for_the_first_connection_cost_nothing_meanwhile(gateway: ScriptedGateway) -> None:
    faults = FaultProxy("127.0.0.1", gateway.port)
    await faults.open()
    faults.freeze()
    try:
        async with AuthProxy(own_app, faults.url, KEY, issuer=ISSUER, fetch_s=20.0) as proxy:
            token = access_token("u_ada", "s_1", soon())
            asking = [asyncio.ensure_future(request(proxy, token)) for _ in range(1_000)]
            await eventually(lambda: until_next_timer_s() > 0.05)
            assert not any(task.done() for task in asking)
            faults.heal()
            assert {answer.status for answer in await asyncio.gather(*asking)} == {200}
            assert gateway.watched() == ["user:u_ada"]
    finally:
        await faults.close()


def until_next_timer_s() -> float:
    """After how long the event loop has something to do, if nothing comes from outside; 0 when it has now."""
    loop: Any = asyncio.get_running_loop()
    due = [timer.when() for timer in loop._scheduled if not timer.cancelled()]
    return 0.0 if loop._ready else min(due, default=float("inf")) - loop.time()


async def test_a_document_on_its_way_is_waited_for_without_looking(gateway: ScriptedGateway) -> None:
    """Many users come again after a cut, and each document is confirmed later."""
    async with proxy_to(gateway, fetch_s=20.0) as proxy:
        link = proxy.decider.link
        assert link is not None
        await link.first_word()
        await link.exact(["user:u_ada", "user:u_bob"])
        await gone(gateway, proxy)
        with pytest.raises(Disconnected):
            await link.exact(["user:u_ada"])
        gateway.delay_s = 0.5
        await gateway.start()
        await eventually(lambda: is_live(proxy))
        waiting = asyncio.ensure_future(link.exact(["user:u_ada", "user:u_bob"]))
        await eventually(lambda: until_next_timer_s() > 0.05)
        assert not waiting.done()
        await waiting
        assert link.is_exact("user:u_ada")
        assert link.is_exact("user:u_bob")


async def test_who_waits_for_a_document_hears_of_a_cut(gateway: ScriptedGateway) -> None:
    async with proxy_to(gateway) as proxy:
        link = proxy.decider.link
        assert link is not None
        await link.first_word()
        await link.exact(["user:u_ada"])
        await gone(gateway, proxy)
        gateway.delay_s = 0.3
        await gateway.start()
        await eventually(lambda: is_live(proxy))
        waiting = asyncio.ensure_future(link.exact(["user:u_ada"]))
        await eventually(lambda: link._awaited)
        await gateway.stop()
        with pytest.raises(Disconnected):
            await asyncio.wait_for(waiting, 5)  # before it is swept away, as nobody's
    await gateway.start()


async def test_a_silent_network_is_noticed_within_19_seconds(gateway: ScriptedGateway) -> None:
    clock = ManualClock()
    faults = FaultProxy("127.0.0.1", gateway.port)
    await faults.open()
    try:
        async with proxy_by(clock, faults.url) as proxy:
            token = access_token("u_ada", "s_1", soon())
            assert (await request(proxy, token)).json["source"] == "live"
            began = clock.time()
            faults.freeze()
            while is_live(proxy):
                assert clock.time() - began <= 19.0
                answer = await request(proxy, token)
                assert (answer.json["source"], answer.json["age_s"]) == ("live", 0)
                await clock.advance(0.5)
            assert clock.time() - began >= 17.0
            answer = await request(proxy, token)
            assert answer.json["source"] == "offline"
            assert answer.json["age_s"] >= 17.0, "it counts from when the gateway was heard last"
            faults.heal()
    finally:
        await faults.close()
