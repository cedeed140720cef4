"""The JavaScript SDK against a real gateway, under every fault that the network and the gateway can have."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from client_sdk import testing
from client_sdk.faults import FaultProxy
from client_sdk.testing import RunningGateway
from tests.client_sdk.support.js_program import JsError, JsProgram, js_program
from tests.support.gateway_process import GatewayProcess
from tests.support.seed import Seed
from tests.support.waiting import eventually

gateway = testing.gateway

VOICE = "voice_minutes"
ADA = "user:u_ada"
IMPATIENT: dict[str, Any] = {
    "backoffBaseMs": 20,
    "backoffCapMs": 200,
    "pingIntervalMs": 300,
    "pongTimeoutMs": 800,
    "connectTimeoutMs": 1500,
    "greetingTimeoutMs": 1500,
    "requestTimeoutMs": 600,
}
"""Options for noticing in tenths of a second what takes many seconds by default."""
PATIENT: dict[str, Any] = {**IMPATIENT, "pingIntervalMs": 1e9}
"""As soon back, and no ping of its own."""


@pytest.fixture
def ada(gateway: RunningGateway) -> str:
    gateway.add_plan("pro", permissions=["can_use_voice"], quotas={VOICE: 100})
    return gateway.add_user("ada", plan="pro", attributes={"persona": "boss"})


@contextlib.asynccontextmanager
async def opened(url: str, *tokens: str, **options: Any) -> AsyncIterator[JsProgram]:
    """A program whose channel is open, and closed afterwards."""
    async with js_program() as program:
        await program.call("open", url, tokens, options or IMPATIENT)
        yield program
        await program.call("close")


async def truth(url: str, token: str) -> tuple[dict[str, Any], str]:
    """What ``GET /api/document`` gives, and its revision."""
    async with httpx2.AsyncClient() as http:
        answer = await http.get(f"{url}/api/document", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 200
    body = answer.json()
    return body["data"], body["rev"]


async def is_true(program: JsProgram, url: str, token: str, seq: int) -> dict[str, Any]:
    """In the end the channel is live and holds what the gateway has, verified; its state."""
    await program.call("waitFor", seq)
    data, rev = await truth(url, token)
    state: dict[str, Any] = await program.call("state")
    assert state["document"] == data
    assert [news["rev"] for news in program.told if news["told"] == "change"][-1] == rev
    assert (state["verified"], state["mismatches"]) == (True, 0)
    return state


# --- what is held ---


@pytest.mark.parametrize("newest", [False, True], ids=["the installed Node", "a Node with a WebSocket of its own"])
async def test_the_document_comes_and_follows_its_rows(gateway: RunningGateway, ada: str, newest: bool) -> None:
    token = gateway.token(ada)
    async with js_program(newest=newest) as program:
        await program.call("open", gateway.url, [token], {})
        state = await program.call("state")
        assert (state["principal"], state["freshness"]["state"], state["expiresAt"]) == (ADA, "live", None)
        assert state["permissions"] == ["can_use_voice"]
        gateway.deny(ada, "can_use_voice")
        change = await program.until(lambda news: news.get("causes") == ["permissions"])
        assert (change["kind"], change["patch"]) == ("update", {"permissions": {"can_use_voice": None}})
        seq = gateway.set_quota(ada, VOICE, 50)
        change = await program.until(lambda news: news.get("causes") == ["quota_limit"])
        assert change["patch"] == {"quotas": {VOICE: {"limit": 50, "remaining": 50}}}
        assert (await is_true(program, gateway.url, token, seq))["seq"] == seq
        assert 0 < await program.call("ping") < 10_000
        await program.call("close")


async def test_other_documents_are_watched_and_refused(gateway: RunningGateway, ada: str) -> None:
    grace = gateway.add_user("grace", permissions=["users.read"])
    async with opened(gateway.url, gateway.token(grace)) as program:
        watched = await program.call("watch", [ADA, "user:u_nobody"])
        assert watched["docs"] == [ADA]
        assert watched["refused"]["user:u_nobody"]["code"] == "not_found"
        assert (await program.call("state"))["documents"][ADA] == (await truth(gateway.url, gateway.token(ada)))[0]


# --- faults ---


Fault = Callable[[RunningGateway], object]


def both(first: Fault, second: Fault) -> Fault:
    return lambda gateway: (first(gateway), second(gateway))


FAULTS: dict[str, Fault] = {
    "a frame to the client is lost": lambda gateway: gateway.faults.drop("to_client", 1),
    "frames to the client are lost": lambda gateway: gateway.faults.drop("to_client"),
    "frames to the gateway are lost": lambda gateway: gateway.faults.drop("to_gateway"),
    "frames to the client come twice": lambda gateway: gateway.faults.duplicate("to_client"),
    "frames to the gateway come twice": lambda gateway: gateway.faults.duplicate("to_gateway"),
    "frames to the client come late": lambda gateway: gateway.faults.delay("to_client", 0.1),
    "everything comes too late": lambda gateway: gateway.faults.delay("to_client", 1.0),
    "cut": lambda gateway: gateway.faults.cut(),
    "cut within a frame to the client": lambda gateway: gateway.faults.cut(within="to_client"),
    "cut within a frame to the gateway": lambda gateway: gateway.faults.cut(within="to_gateway"),
    "frozen": lambda gateway: gateway.faults.freeze(),
    "cut and frozen": both(lambda g: g.faults.cut(), lambda g: g.faults.freeze()),
    "frames are lost after a cut": both(lambda g: g.faults.drop("to_client", 2), lambda g: g.faults.cut()),
    "drained and restarted": lambda gateway: gateway.restart(),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_after_every_fault_the_document_is_what_the_gateway_has(
    gateway: RunningGateway, ada: str, fault: str
) -> None:
    token = gateway.token(ada)
    async with opened(gateway.faults.url, token) as program:
        gateway.allow(ada, "before")
        await asyncio.to_thread(FAULTS[fault], gateway)
        for turn in range(6):
            await asyncio.to_thread(gateway.set_quota, ada, VOICE, 10 + turn)
            with contextlib.suppress(JsError, TimeoutError):
                async with asyncio.timeout(0.1):
                    await asyncio.shield(program.begin("ping"))
        gateway.faults.heal()
        seq = await asyncio.to_thread(gateway.deny, ada, "before")
        state = await is_true(program, gateway.url, token, seq)
        assert state["document"]["quotas"][VOICE]["limit"] == 15
        assert state["permissions"] == ["can_use_voice"]
        seqs = [news["seq"] for news in program.told if news["told"] == "change"]
        assert seqs == sorted(seqs)


async def test_a_cut_is_resumed_without_sending_the_document_again(gateway: RunningGateway, ada: str) -> None:
    async with opened(gateway.faults.url, gateway.token(ada), **PATIENT) as program:
        session, told = (await program.call("state"))["sessionId"], len(program.told)
        gateway.faults.cut()
        await program.live(told)
        news = [(one["told"], one.get("state")) for one in program.told[told:]]
        freshness = [("freshness", state) for state in ("offline", "stale", "live")]
        assert news == [("trouble", None), *freshness]
        assert (await program.call("state"))["sessionId"] != session
        gateway.allow(ada, "a")
        await program.until(lambda news: news.get("causes") == ["permissions"])


async def test_a_wire_that_stays_open_and_passes_nothing_is_found_by_a_ping(gateway: RunningGateway, ada: str) -> None:
    async with opened(gateway.faults.url, gateway.token(ada)) as program:
        told = len(program.told)
        gateway.faults.freeze()
        await program.offline(told)
        assert gateway.faults.counts["cut"] == 0
        seq = await asyncio.to_thread(gateway.allow, ada, "meanwhile")
        gateway.faults.heal()
        await program.call("waitFor", seq)
        assert "meanwhile" in (await program.call("state"))["permissions"]


async def test_a_drain_says_so_and_the_channel_comes_back(gateway: RunningGateway, ada: str) -> None:
    async with opened(gateway.url, gateway.token(ada), **PATIENT) as program:
        told = len(program.told)
        await asyncio.to_thread(gateway.restart)
        trouble = await program.until(lambda news: news["told"] == "trouble", told)
        assert trouble["code"] == "going_away"
        await program.live(told)


# --- a gateway that is killed ---


async def test_a_gateway_that_is_killed_and_started_again_loses_no_change(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path) as process, process.foreign_writer() as foreign:
        seed = Seed(foreign, process.secrets)
        person = seed.person(seed.plan(["can_use_voice"], {VOICE: (100, "month")}))
        rename = "UPDATE users SET name = ? WHERE id = ?"
        async with opened(f"http://{process.address}", person.token) as program:
            for turn in range(2):
                told = len(program.told)
                await foreign.run(rename, f"Before {turn}", person.id)
                process.kill()
                await program.offline(told)
                held = await program.call("state")
                assert held["permissions"] == ["can_use_voice"]
                assert held["freshness"]["ageS"] is not None
                await foreign.run(rename, f"While it was away {turn}", person.id)
                await asyncio.to_thread(process.start)
                await program.live(told)
                url = f"http://{process.address}"
                state = await is_true(program, url, person.token, await asyncio.to_thread(seed.last_seq))
                assert state["document"]["identity"]["name"] == f"While it was away {turn}"
        process.check_log()


async def test_what_is_consumed_while_the_gateway_is_killed_is_charged_once(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path) as process, process.foreign_writer() as foreign:
        seed = Seed(foreign, process.secrets)
        person = seed.person(seed.plan([], {VOICE: (100, "month")}))
        async with opened(f"http://{process.address}", person.token) as program:
            asking = [program.begin("consume", VOICE, 1) for _ in range(5)]
            await asyncio.to_thread(process.restart)
            assert len(await asyncio.gather(*asking)) == 5
        [[used]] = await foreign.run("SELECT used FROM quota_usage WHERE owner = ?", person.doc)
        assert used == 5


# --- credentials ---


@pytest.mark.parametrize("end", ["token", "disabled", "deleted"])
async def test_a_revocation_is_the_end_for_good(gateway: RunningGateway, ada: str, end: str) -> None:
    token = gateway.token(ada)
    async with opened(gateway.faults.url, token) as program:
        waiting = program.begin("waitFor", 10**9)
        if end == "token":
            gateway.revoke(token)
        elif end == "disabled":
            gateway.sql("UPDATE users SET status = 'disabled' WHERE id = ?", ada)
        else:
            gateway.sql("DELETE FROM users WHERE id = ?", ada)
        with pytest.raises(JsError, match=r"^Revoked: ") as revoked:
            await waiting
        assert revoked.value.code == "revoked"
        ended = await program.until(lambda news: news["told"] == "ended")
        assert ended["error"]["name"] == "Revoked"
        assert any(news.get("kind") == "gone" for news in program.told)
        state = await program.call("state")
        assert (state["documents"], state["permissions"], state["freshness"]["reason"]) == ({}, [], "revoked")
        with pytest.raises(JsError) as closed:
            await program.call("ping")
        assert closed.value.code == "closed"
        await eventually(lambda: gateway.faults.connections == 0)
    assert gateway.faults.counts["accepted"] == 1


async def test_a_token_is_renewed_on_the_live_session(gateway: RunningGateway, ada: str) -> None:
    tokens = gateway.token(ada, expires_in_s=30), gateway.token(ada)
    async with opened(gateway.url, *tokens, **PATIENT) as program:
        session = (await program.call("state"))["sessionId"]
        await program.call("waitFor", gateway.allow(ada, "a"))
        state = await program.when("state", lambda state: state["expiresAt"] is None)
        assert (state["asked"], state["sessionId"]) == (2, session)
        assert [news["state"] for news in program.told if news["told"] == "freshness"][-1] == "live"


async def test_a_token_that_ended_is_replaced_by_the_next_one(gateway: RunningGateway, ada: str) -> None:
    ending, next_one = gateway.token(ada), gateway.token(ada)
    async with opened(gateway.faults.url, ending, next_one) as program:
        told = len(program.told)
        await asyncio.to_thread(gateway.expire, ending)
        await program.live(told)
        assert (await program.call("state"))["trouble"]["name"] == "TokenExpired"
        await is_true(program, gateway.url, next_one, gateway.seq)


async def test_a_bad_token_is_refused_at_once(gateway: RunningGateway) -> None:
    async with js_program() as program:
        with pytest.raises(JsError) as refused:
            await program.call("open", gateway.url, ["gw_nonsense"], {})
        assert (refused.value.name, refused.value.code) == ("AuthFailed", "auth_failed")


async def test_nobody_listens() -> None:
    async with js_program() as program:
        with pytest.raises(JsError, match=r"No session within 200 ms\."):
            await program.call("open", "http://127.0.0.1:1", ["t1"], {"openTimeoutMs": 200})


# --- spending ---


def stands(gateway: RunningGateway) -> tuple[int, int]:
    """Used and reserved, by the row that everybody reads."""
    [(used, reserved)] = gateway.sql(
        "SELECT coalesce(sum(used), 0), coalesce(sum(reserved), 0) FROM quota_usage WHERE owner = ?", ADA
    )
    return used, reserved


SPENDING_FAULTS: dict[str, Callable[[FaultProxy], None]] = {
    "the answer is lost": lambda faults: faults.drop("to_client", 2),
    "the request is lost": lambda faults: faults.drop("to_gateway", 2),
    "cut within the answer": lambda faults: faults.cut(within="to_client"),
    "cut within the request": lambda faults: faults.cut(within="to_gateway"),
    "everything comes twice": lambda faults: faults.duplicate("to_gateway"),
}


@pytest.mark.parametrize("fault", SPENDING_FAULTS)
async def test_every_fault_charges_once(gateway: RunningGateway, ada: str, fault: str) -> None:
    async with opened(gateway.faults.url, gateway.token(ada), **PATIENT) as program:
        for _ in range(2):
            SPENDING_FAULTS[fault](gateway.faults)
            asking = [program.begin("consume", VOICE, 2) for _ in range(4)]
            for balance in await asyncio.gather(*asking):
                await program.call("waitFor", balance["seq"])
        assert (await program.call("state"))["document"]["quotas"][VOICE]["remaining"] == 84
        with pytest.raises(JsError) as exceeded:
            await program.call("consume", VOICE, 85)
        assert (exceeded.value.name, exceeded.value.remaining) == ("QuotaExceeded", 84)
    assert stands(gateway) == (16, 0)
    assert gateway.sql("SELECT count(*) FROM quota_ledger WHERE kind = 'consume'") == [(8,)]


async def test_a_lease_is_extended_over_a_reconnect(gateway: RunningGateway, ada: str) -> None:
    async with opened(gateway.faults.url, gateway.token(ada), **PATIENT) as program:
        lease = await program.call("lease", VOICE, 5, {"ttlS": 2})
        assert stands(gateway) == (0, 5)
        for _ in range(2):
            told, before = len(program.told), (await program.call("leased"))["expiresAt"]
            gateway.faults.cut()
            await program.live(told)
            await program.when("leased", lambda lease, before=before: lease["expiresAt"] != before)
        await program.call("use", 3)
        gateway.faults.cut(within="to_client")
        assert (await program.call("commit"))["used"] == 3
        assert re.fullmatch("[0-9a-f]{28}", lease["name"])
    assert stands(gateway) == (3, 0)


async def test_a_meter_takes_what_is_due_and_stops(gateway: RunningGateway, ada: str) -> None:
    gateway.set_quota(ada, VOICE, 3)
    async with opened(gateway.faults.url, gateway.token(ada), **PATIENT) as program:
        metering = program.begin("meter", VOICE, {"unitMs": 200})
        await eventually(lambda: stands(gateway)[0] > 0)
        gateway.faults.cut()
        async with asyncio.timeout(20):
            assert await metering == {"reason": "exhausted", "units": 3}
    assert stands(gateway) == (3, 0)
