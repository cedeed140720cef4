"""Who gets a WebSocket: origins, subprotocols, credentials, and what a hostile request is answered."""

from __future__ import annotations

import asyncio

import pytest

from tests.end_to_end.conftest import Connect, ConnectRaw, StartGateway
from tests.support.client import JSON, MESSAGEPACK, Refused
from tests.support.gateway_process import GatewayProcess
from tests.support.raw_websocket import RawWebSocket
from tests.support.seed import Seed

pytestmark = pytest.mark.storages("file")


def _origin(text: str, gateway: GatewayProcess) -> str:
    return text.replace("HOST", gateway.address).replace("PORT", str(gateway.port))


FOREIGN_ORIGINS = [
    "null",
    "",
    "http://evil.example",
    "https://HOST",
    "ws://HOST",
    "http://127.0.0.1",
    "http://127.0.0.1:1",
    "http://localhost:PORT",
    "http://HOST.evil.example",
    "http://HOSTevil",
    "http://HOST0",
    "http://evil.example/HOST",
    "http://evil.example?HOST",
    "http://HOST@evil.example",
    "http://evil.example@HOST",
    "http://HOST/",
    "http://HOST/path",
    "http://HOST#",
    "http://HOST?",
    "HOST",
    "//HOST",
    "http:HOST",
    "http:///HOST",
    "http://HOST http://HOST",
    "http://HOST, http://evil.example",
    "file://",
    "http://[::1]:PORT",
    "http://0x7f.1:PORT",
    "http://2130706433:PORT",
    "HTTP://HOST",
]


@pytest.mark.parametrize("origin", FOREIGN_ORIGINS, ids=repr)
async def test_a_foreign_origin_is_refused(
    origin: str, gateway: GatewayProcess, seed: Seed, connect_raw: ConnectRaw
) -> None:
    with pytest.raises(ConnectionError, match="403"):
        await connect_raw(seed.person().token, headers=f"Origin: {_origin(origin, gateway)}\r\n")


async def test_its_own_origin_is_welcome(gateway: GatewayProcess, seed: Seed, connect_raw: ConnectRaw) -> None:
    raw = await connect_raw(seed.person().token, headers=f"Origin: {_origin('http://HOST', gateway)}\r\n")
    while raw.replica.ready is None:
        await raw.read_some()


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("LocalHost:PORT", "http://localhost:PORT"),
        ("localhost:80", "http://localhost"),
        ("[::1]:PORT", "http://[::1]:PORT"),
    ],
)
async def test_the_host_may_be_written_in_several_ways(
    host: str, origin: str, gateway: GatewayProcess, seed: Seed, connect_raw: ConnectRaw
) -> None:
    raw = await connect_raw(
        seed.person().token, host=_origin(host, gateway), headers=f"Origin: {_origin(origin, gateway)}\r\n"
    )
    assert raw.head.startswith(b"HTTP/1.1 101 ")


async def test_two_origins_are_refused_though_one_is_its_own(
    gateway: GatewayProcess, seed: Seed, connect_raw: ConnectRaw
) -> None:
    own = f"Origin: http://{gateway.address}\r\n"
    with pytest.raises(ConnectionError, match=r" (400|403) "):
        await connect_raw(seed.person().token, headers=own * 2)


async def test_a_foreign_origin_is_no_origin_because_the_host_agrees_with_it(
    gateway: GatewayProcess, seed: Seed, connect_raw: ConnectRaw
) -> None:
    """Two Host fields, one of them the attacker's: none of them counts."""
    with pytest.raises(ConnectionError, match=r" (400|403) "):
        await connect_raw(seed.person().token, headers="Origin: http://evil.example\r\nHost: evil.example\r\n")


async def test_configured_origins_replace_guessing(own_gateway: StartGateway, connect: Connect) -> None:
    own = own_gateway(server_allowed_origins="https://app.example.org,http://localhost:3000")
    person = own.seed.person()
    for origin in ("https://app.example.org", "http://localhost:3000"):
        client = await connect(person.token, at=own.process, origin=origin)
        await client.until(lambda client=client: client.data)
    for origin in ("https://app.example.org:444", "https://app.example.org.evil.com", "http://localhost:3001", "null"):
        with pytest.raises(Refused) as refusal:
            await connect(person.token, at=own.process, origin=origin)
        assert refusal.value.answer.status == 403
        assert refusal.value.answer.json()["code"] == "forbidden"


async def test_the_first_known_subprotocol_is_taken(seed: Seed, connect: Connect, connect_raw: ConnectRaw) -> None:
    person = seed.person()
    for offered, taken in (("unheard, " + JSON, JSON), (f"{MESSAGEPACK},{JSON}", MESSAGEPACK)):
        loop_headers = f"Sec-WebSocket-Protocol: {offered}\r\n"
        raw = await _upgrade(connect_raw, person.token, loop_headers)
        assert f"sec-websocket-protocol: {taken}".encode() in raw
    client = await connect(person.token, subprotocol=None)
    await client.until(lambda: client.data)
    assert client.socket.subprotocol is None


async def _upgrade(connect_raw: ConnectRaw, token: str, headers: str) -> bytes:
    """The head of the answer to a handshake, in lower case."""
    raw: RawWebSocket = await connect_raw(token, headers=headers)
    return raw.head.lower()


async def test_unknown_subprotocols_alone_are_refused(seed: Seed, connect: Connect) -> None:
    with pytest.raises(Refused) as refusal:
        await connect(seed.person().token, subprotocol="gateway.v2+json")
    answer = refusal.value.answer
    assert (answer.status, answer.headers["content-type"]) == (400, "application/problem+json")
    assert answer.json()["code"] == "bad_request"


async def test_compression_is_never_negotiated(seed: Seed, connect_raw: ConnectRaw) -> None:
    head = await _upgrade(
        connect_raw, seed.person().token, "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
    )
    assert b"sec-websocket-extensions" not in head


BAD_CREDENTIALS = {
    "another scheme": ["Basic eHg6eHg="],
    "no token": ["Bearer"],
    "an empty token": ["Bearer "],
    "nothing": [""],
    "two tokens in one": ["Bearer a b"],
    "a token of no form": ["Bearer nonsense"],
    "a token of the right length": ["Bearer gw_" + "0" * 49],
    "a letter beyond ASCII": ["Bearer gw_\xff\xfe"],
    "a statement": ["Bearer ' OR 1=1 --"],
    "4,000 characters": ["Bearer gw_" + "x" * 4000],
}


@pytest.mark.parametrize("values", BAD_CREDENTIALS.values(), ids=list(BAD_CREDENTIALS))
async def test_a_bad_authorization_is_401_before_the_upgrade_and_over_http(
    values: list[str], gateway: GatewayProcess, connect_raw: ConnectRaw
) -> None:
    headers = "".join(f"Authorization: {value}\r\n" for value in values)
    with pytest.raises(ConnectionError, match="401") as refusal:
        await connect_raw(headers=headers)
    head = str(refusal.value).lower()
    assert "content-type: application/problem+json" in head
    assert "www-authenticate: bearer" in head
    for value in values:
        answer = gateway.request("GET", "/api/document", headers={"Authorization": value})
        assert (answer.status, answer.json()["code"]) == (401, "auth_failed")


async def test_two_authorizations_are_refused_though_one_is_good(seed: Seed, connect_raw: ConnectRaw) -> None:
    person = seed.person()
    for second in (f"Bearer {person.token}", "Bearer nonsense"):
        with pytest.raises(ConnectionError, match="401"):
            await connect_raw(person.token, headers=f"Authorization: {second}\r\n")


async def test_a_token_that_was_never_issued_is_401(seed: Seed, connect: Connect) -> None:
    with pytest.raises(Refused) as refusal:
        await connect(seed.unknown_token())
    assert refusal.value.answer.json()["code"] == "auth_failed"


async def test_a_token_in_the_query_string_is_no_credential(
    gateway: GatewayProcess, connect: Connect, seed: Seed
) -> None:
    person = seed.person()
    client = await connect(url=f"{gateway.channel_url}?token={person.token}&access_token={person.token}")
    await client.send(op="ping")
    assert (await client.end())["code"] == "not_authenticated"


async def test_auth_without_a_token_needs_the_handshakes(connect: Connect) -> None:
    client = await connect()
    await client.send(op="auth")
    assert (await client.end())["code"] == "auth_failed"


@pytest.mark.parametrize(
    "token", ["", "nonsense", "gw_" + "0" * 49, "a\0b", "\ud7ff" * 500, "x" * 16_000], ids=range(6)
)
async def test_a_bad_token_in_the_first_message_ends_the_session(token: str, connect: Connect) -> None:
    client = await connect(token, by="message")
    ended = await client.end()
    assert (ended["code"], ended["reconnect"], client.replica.close_code) == ("auth_failed", "new_credential", 4102)


async def test_a_good_token_with_something_around_it_is_another_token(seed: Seed, connect: Connect) -> None:
    token = seed.person().token
    for other in (token + "\0", token + " ", " " + token, token + "\n", token.upper(), token[:-1]):
        client = await connect(other, by="message")
        assert (await client.end())["code"] == "auth_failed"


HUGE = {
    "a header of 1 MB": "Authorization: Bearer " + "x" * 1_000_000 + "\r\n",
    "a header of 10 KB": "Authorization: Bearer " + "x" * 10_000 + "\r\n",
    "ten thousand headers": "".join(f"X-{number}: y\r\n" for number in range(10_000)),
    "two hundred headers": "X: y\r\n" * 200,
}


@pytest.mark.parametrize("headers", HUGE.values(), ids=list(HUGE))
async def test_a_head_that_is_too_large_is_refused_at_once(headers: str, connect_raw: ConnectRaw) -> None:
    async with asyncio.timeout(5):
        try:
            await connect_raw(headers=headers)
        except (ConnectionResetError, BrokenPipeError):
            return  # cut off before everything was sent
        except ConnectionError as refusal:
            head = str(refusal)
    assert head.startswith(("HTTP/1.1 431 ", "HTTP/1.1 401 ")), head


async def test_a_nul_in_a_header_is_refused(connect_raw: ConnectRaw) -> None:
    with pytest.raises(ConnectionError, match="400"):
        await connect_raw(headers="Authorization: Bearer a\0b\r\n")


@pytest.mark.parametrize("path", ["/ws/", "/WS", "//ws", "/ws/../ws", "/api/document", "/", "/%77s%00"], ids=repr)
async def test_there_is_one_channel(path: str, seed: Seed, connect_raw: ConnectRaw) -> None:
    with pytest.raises(ConnectionError, match=r" (403|404|307) "):
        await connect_raw(seed.person().token, path=path)


@pytest.mark.parametrize(
    "target",
    [
        "?watch=self&watch=user:nobody",
        "?watch=self@0123456789abcdef&unheard=1",
        "?watch=%ff%00&watch=self",
        "?watch=self&watch=" + "x" * 5000,
        "?watch=&watch=self",
    ],
)
async def test_watch_in_the_query_string_is_read_leniently(target: str, seed: Seed, connect_raw: ConnectRaw) -> None:
    person = seed.person()
    raw = await connect_raw(person.token, path="/ws" + target)
    async with asyncio.timeout(5):
        while person.doc not in raw.replica.confirmed:
            assert await raw.read_some()


@pytest.mark.parametrize("version", ["12", "14", "013", "", None])
async def test_another_version_is_told_the_one_that_is_spoken(version: str | None, gateway: GatewayProcess) -> None:
    headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="}
    if version is not None:
        headers["Sec-WebSocket-Version"] = version
    answer = gateway.request("GET", "/ws", headers=headers)
    assert (answer.status, answer.headers["content-type"]) == (426, "application/problem+json")
    assert (answer.headers["sec-websocket-version"], answer.headers["upgrade"]) == ("13", "websocket")
    assert answer.json()["code"] == "upgrade_required"
    assert int(answer.headers["content-length"]) == len(answer.body)


async def test_plain_http_is_no_handshake(gateway: GatewayProcess) -> None:
    assert gateway.request("GET", "/ws").status in (400, 404, 426)
    assert gateway.request("POST", "/ws").status in (400, 404, 405, 426)
