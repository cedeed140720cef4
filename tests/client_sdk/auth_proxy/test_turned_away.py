"""The gateway answers, and takes the instance for none of its own: what it said before counts no more."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from websockets.http11 import Response

from client_sdk.auth_proxy import AuthProxy, InstanceKey, MemoryStorage, load_instance
from client_sdk.auth_proxy.storage import StoredToken
from tests.client_sdk.support.asgi import Socket, request
from tests.client_sdk.support.logged import LOGGER, said
from tests.client_sdk.support.scripted_gateway import ScriptedGateway, is_live, own_app, problem, proxy_to
from tests.client_sdk.support.tokens import ISSUER, access_token, soon
from tests.support.waiting import eventually

DISABLED = problem(401, "auth_failed", "The instance is disabled.")
FOREIGN = problem(403, "forbidden", "The instance may not ask from this address.")
KEYS = [InstanceKey("ik_first", bytes(range(32))), InstanceKey("ik_second", bytes(range(32)))]


async def turn_away(gateway: ScriptedGateway, proxy: AuthProxy, answer: Response) -> None:
    """A cut of the network, and from then on every handshake and every question is answered so."""
    handshakes = gateway.handshakes
    gateway.turn = lambda kid: answer
    gateway.cut()
    await eventually(lambda: gateway.handshakes > handshakes and proxy.counters["links", "refused"] > 0)


@pytest.mark.parametrize("answer", [DISABLED, FOREIGN], ids=["401", "403"])
async def test_after_a_cut_too_nothing_is_believed_and_sockets_end(gateway: ScriptedGateway, answer: Response) -> None:
    async with proxy_to(gateway, max_stale_s=3600.0) as proxy:
        tokens = [access_token("u_ada", "s_1", soon()), gateway.issue("u_bob", "t_1")]
        assert [(await request(proxy, token)).status for token in tokens] == [200, 200]
        sockets = [Socket(proxy, token) for token in tokens]
        assert [await socket.hear() for socket in sockets] == ["u_ada", "u_bob"]
        await turn_away(gateway, proxy, answer)
        assert [(await request(proxy, token)).status for token in tokens] == [503, 503]
        assert [await socket.closed() for socket in sockets] == [1013, 1013]
        gateway.turn = lambda kid: None
        proxy.decider._again_at = 0.0  # it is not asked each moment where the instance was sent away
        await eventually(lambda: is_live(proxy))
        assert [(await request(proxy, token)).status for token in tokens] == [200, 200]


async def test_what_was_revoked_is_known_when_it_is_taken_back(gateway: ScriptedGateway) -> None:
    async with proxy_to(gateway) as proxy:
        token = access_token("u_ada", "s_1", soon())
        assert (await request(proxy, token)).status == 200
        await turn_away(gateway, proxy, DISABLED)
        gateway.documents["revocations"] = {"s_1": "2030-01-01T00:00:00.000Z"}
        gateway.turn = lambda kid: None
        await eventually(lambda: is_live(proxy))
        assert (await request(proxy, token)).status == 401


async def test_a_word_on_the_instance_stands_while_the_gateway_is_away(gateway: ScriptedGateway) -> None:
    """Then another trouble is the last one, and what workers stored would be at hand."""
    storage = MemoryStorage()
    async with proxy_to(gateway, storage=storage) as proxy:
        token = gateway.issue("u_ada", "t_1")
        assert (await request(proxy, token)).status == 200
        await eventually(lambda: {"user:u_ada", "keys"} <= storage._facts.keys() and len(storage._tokens) == 1)
        await turn_away(gateway, proxy, DISABLED)
        before = proxy.counters["links", "failed"]
        await gateway.stop()
        await eventually(lambda: proxy.counters["links", "failed"] > before)
        assert (await request(proxy, token)).status == 503
        assert proxy.counters.total("stored") == 0


async def test_what_a_storage_says_late_is_not_believed(gateway: ScriptedGateway) -> None:
    class Late(MemoryStorage):
        asked = answer = None

        async def read_token(self, mark: bytes) -> StoredToken | None:
            if self.asked is not None and self.answer is not None:
                self.asked.set()
                await self.answer.wait()
            return await super().read_token(mark)

    storage = Late()
    async with proxy_to(gateway, storage=storage) as other:
        token = gateway.issue("u_ada", "t_1")
        assert (await request(other, token)).status == 200
        await eventually(lambda: "user:u_ada" in storage._facts and storage._tokens)
        async with proxy_to(gateway, storage=storage, fetch_s=20.0) as proxy:
            await eventually(lambda: is_live(proxy))
            storage.asked, storage.answer = asyncio.Event(), asyncio.Event()  # type: ignore[assignment]
            asking = asyncio.ensure_future(request(proxy, token))
            await storage.asked.wait()  # type: ignore[attr-defined]
            await turn_away(gateway, proxy, DISABLED)
            storage.answer.set()  # type: ignore[attr-defined]
            assert (await asking).status == 503
            assert (await request(proxy, token)).status == 503


async def test_another_key_is_tried_before_anything_is_forgotten(gateway: ScriptedGateway) -> None:
    async with AuthProxy(own_app, f"http://127.0.0.1:{gateway.port}", KEYS, issuer=ISSUER) as proxy:
        token = gateway.issue("u_ada", "t_1")
        assert (await request(proxy, token)).status == 200
        gateway.turn = lambda kid: DISABLED if kid == "ik_first" else None
        gateway.cut()
        await eventually(lambda: proxy.counters["links", "refused"] == 1)
        assert (await request(proxy, token)).status == 200
        await eventually(lambda: is_live(proxy))
        assert gateway.asked == [token], "it was known all the time"


async def test_a_clock_that_is_off_is_no_word_on_the_instance(
    gateway: ScriptedGateway, caplog: pytest.LogCaptureFixture
) -> None:
    async with proxy_to(gateway) as proxy:
        token, other = access_token("u_ada", "s_1", soon()), gateway.issue("u_bob", "t_1")
        assert [(await request(proxy, known)).status for known in (token, other)] == [200, 200]
        date = formatdate(time.time() + 300, usegmt=True)
        gateway.turn = lambda kid: problem(401, "auth_failed", "The signature is too old.", Date=date)
        gateway.cut()
        await eventually(lambda: proxy.counters["links", "failed"] >= 2)
        answers = [await request(proxy, known) for known in (token, other)]
        assert [(answer.status, answer.json["source"]) for answer in answers] == [(200, "offline")] * 2
        assert (await request(proxy, gateway.issue("u_bob", "t_2"))).status == 503
        assert (await request(proxy, token)).status == 200, "nor is that of a question"
        assert "300 s behind the gateway's" in caplog.text or "299 s behind the gateway's" in caplog.text
        assert proxy.counters["links", "refused"] == 0
        gateway.turn = lambda kid: None
        await eventually(lambda: is_live(proxy))


async def test_a_question_that_is_refused_counts_where_no_channel_can_be(gateway: ScriptedGateway) -> None:
    """What is between passes requests and no sockets."""
    async with proxy_to(gateway) as proxy:
        token = gateway.issue("u_ada", "t_1")
        assert (await request(proxy, token)).status == 200
        gateway.refusals = [Response(404, "Not Found", DISABLED.headers.__class__(), b"")] * 500
        gateway.cut()
        await eventually(lambda: proxy.counters["links", "failed"] >= 2)
        assert (await request(proxy, token)).json["source"] == "offline"
        gateway.turn = lambda kid: DISABLED
        gateway.refusals = []
        await request(proxy, gateway.issue("u_bob", "t_2"))
        assert (await request(proxy, token)).status == 503


async def test_a_firewall_that_says_no_is_not_the_gateway(gateway: ScriptedGateway) -> None:
    async with proxy_to(gateway) as proxy:
        token = gateway.issue("u_ada", "t_1")
        assert (await request(proxy, token)).status == 200
        gateway.turn = lambda kid: Response(403, "Forbidden", DISABLED.headers.__class__(), b"<html>")
        gateway.cut()
        await eventually(lambda: proxy.counters["links", "failed"] >= 2)
        assert (await request(proxy, gateway.issue("u_bob", "t_2"))).status == 503
        assert (await request(proxy, token)).json["source"] == "offline"


async def test_it_is_said_once(gateway: ScriptedGateway, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, LOGGER):
        async with proxy_to(gateway) as proxy:
            await eventually(lambda: is_live(proxy))
            await turn_away(gateway, proxy, DISABLED)
            await eventually(lambda: proxy.counters["links", "refused"] >= 3)
    [line] = said(caplog)
    assert re.fullmatch(
        r"the gateway does not take this instance, for \d s: auth_failed: The instance is disabled\.", line
    )


async def test_a_key_that_is_written_into_the_file_is_taken(gateway: ScriptedGateway, tmp_path: Path) -> None:
    """The whole settings are enough for that."""
    file = tmp_path / "gateway.toml"

    def write(kid: str) -> None:
        secret = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
        told: dict[str, Any] = {"url": f"http://127.0.0.1:{gateway.port}", "instance": "i_shop", "kid": kid}
        lines = [f'{name} = "{value}"' for name, value in {**told, "secret": secret}.items()]
        file.write_text("\n".join(["[gateway]", *lines, ""]))

    write("ik_first")
    async with AuthProxy(own_app, load_instance(str(file), {}), issuer=ISSUER) as proxy:
        await eventually(lambda: is_live(proxy))
        write("ik_second")
        gateway.turn = lambda kid: DISABLED if kid == "ik_first" else None
        gateway.cut()
        await eventually(lambda: is_live(proxy) and proxy.decider.keys.present.kid == "ik_second")
