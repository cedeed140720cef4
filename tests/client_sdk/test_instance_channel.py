"""A channel whose handshakes are signed."""

from __future__ import annotations

from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
from http_message_signatures import HTTPMessageVerifier, MappingKeyResolver
from http_message_signatures.algorithms import HMAC_SHA256
from websockets.datastructures import Headers
from websockets.http11 import Response

from client_sdk import AuthFailed, Channel, Disconnected
from client_sdk.instance_key import InstanceKey, InstanceKeys
from tests.client_sdk.support.scripted_server import Peer, ScriptedServer
from tests.support.waiting import eventually

FIRST = InstanceKey("ik_first", bytes(range(32)))
SECOND = InstanceKey("ik_second", bytes(range(32, 64)))
KEYS = {key.kid: key.secret for key in (FIRST, SECOND)}


def channel_of(server: ScriptedServer, keys: InstanceKeys, **options: Any) -> Channel:
    return Channel(server.url, keys, backoff_base_s=0.02, backoff_cap_s=0.05, close_timeout_s=0.3, **options)


def signature_of(server: ScriptedServer, peer: Peer) -> dict[str, Any]:
    """The parameters of the handshake's signature, once it was verified by another implementation."""
    assert peer.socket.request is not None
    fields = dict(peer.socket.request.headers)
    request = SimpleNamespace(method="GET", url=f"http://127.0.0.1:{server.port}{peer.path}", headers=fields)
    keys = MappingKeyResolver(public_keys=KEYS, private_keys={})
    [result] = HTTPMessageVerifier(signature_algorithm=HMAC_SHA256, key_resolver=keys).verify(request)
    covered = [str(component) for component in result.covered_components]
    assert covered == ['"@method"', '"@authority"', '"@path"', '"@query"', '"@signature-params"']
    return dict(result.parameters)


@pytest.fixture
def refusal() -> Response:
    body = b'{"code":"auth_failed","detail":"The signature is not valid."}'
    return Response(401, "Unauthorized", Headers({"Content-Type": "application/problem+json"}), body)


async def test_the_handshake_is_signed_with_what_it_asks_for(server: ScriptedServer) -> None:
    server.documents["revocations"] = {"s_1": "2026-12-01T00:00:00.000Z"}
    async with channel_of(server, InstanceKeys(FIRST), watch=("self", "revocations")) as channel:
        assert channel.documents.keys() == {"user:u_7f3k", "revocations"}
    peer = await server.peer()
    assert (peer.authorization, peer.watch) == (None, ["self", "revocations"])
    parameters = signature_of(server, peer)
    assert (parameters["keyid"], parameters["tag"]) == ("ik_first", "gateway")


async def test_every_connection_has_a_signature_of_its_own(server: ScriptedServer) -> None:
    async with channel_of(server, InstanceKeys(FIRST)) as channel:
        for number in range(1, 4):
            peer = await server.peer(number)
            await eventually(lambda: channel.freshness.state == "live")
            peer.cut()
            await peer.closed.wait()
            await server.peer(number + 1)
    nonces = {signature_of(server, peer)["nonce"] for peer in server.peers}
    assert len(nonces) == 4


async def test_a_key_that_is_not_taken_gives_way_to_the_next(server: ScriptedServer, refusal: Response) -> None:
    server.refusals = [refusal]
    async with channel_of(server, InstanceKeys([FIRST, SECOND])) as channel:
        assert channel.can("can_use_voice")
    assert signature_of(server, await server.peer())["keyid"] == "ik_second"


async def test_a_key_that_ends_gives_way_and_nothing_is_sent_in_place_of_a_token(server: ScriptedServer) -> None:
    known = [FIRST]
    keys = InstanceKeys(lambda: list(known), reload_every_s=0.0)
    async with channel_of(server, keys) as channel:
        known[:] = [SECOND]
        peer = await server.peer()
        await peer.send({"op": "expiring", "expires_at": "2026-11-21T20:00:00.000Z"})
        await peer.end("token_expired", "new_credential", 4100)
        again = await server.peer(2)
        await eventually(lambda: channel.freshness.state == "live")
        assert signature_of(server, again)["keyid"] == "ik_second"
        assert [message["op"] for message in peer.received] == []


async def test_the_only_key_is_tried_again_and_again(server: ScriptedServer, refusal: Response) -> None:
    server.refusals = [refusal, refusal, refusal]
    async with channel_of(server, InstanceKeys(FIRST)) as channel:
        assert channel.can("can_use_voice")
    assert server.handshakes == 4


async def test_who_waits_for_a_session_is_told_why_there_is_none(server: ScriptedServer, refusal: Response) -> None:
    server.refusals = [refusal] * 100
    with pytest.raises(Disconnected, match="signature is not valid") as raised:
        await channel_of(server, InstanceKeys(FIRST), open_timeout_s=0.2).open()
    assert isinstance(raised.value.__cause__, AuthFailed)


def test_keys_are_reloaded_at_most_so_often() -> None:
    asked = count()
    now = [0.0]

    def source() -> InstanceKey:
        next(asked)
        return FIRST

    keys = InstanceKeys(source, reload_every_s=1.0, clock=lambda: now[0])
    assert not keys.refuse("ik_first")
    assert not keys.refuse("ik_first")
    assert next(asked) == 1
    now[0] = 1.0
    assert not keys.refuse("ik_first")
    assert next(asked) == 3
    assert keys.present == FIRST


def test_another_secret_under_the_same_id_is_another_key() -> None:
    known = [FIRST]
    keys = InstanceKeys(lambda: known[0], reload_every_s=0.0)
    known[0] = InstanceKey("ik_first", bytes(32))
    assert keys.refuse("ik_first")
    assert keys.present.secret == bytes(32)


def test_no_secret_is_shown() -> None:
    assert repr(FIRST) == "InstanceKey('ik_first')"
    assert "\\x" not in repr(InstanceKeys(FIRST))
