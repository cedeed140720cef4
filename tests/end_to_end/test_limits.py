"""What one client may cost: unanswered pings, silence, too many sessions or messages, frames of every wrong kind."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time

import pytest

from tests.end_to_end.conftest import Connect, ConnectRaw, StartGateway
from tests.support.client import MESSAGEPACK, Client, Refused
from tests.support.gateway_process import GatewayProcess
from tests.support.raw_websocket import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, RawWebSocket, frame, handshake
from tests.support.seed import Seed
from tests.support.waiting import eventually

SETTINGS = {
    "channel_heartbeat_s": 0.7,
    "channel_pong_timeout_s": 0.7,
    "channel_auth_timeout_s": 1,
    "channel_max_sessions_per_user": 3,
    "channel_messages_per_minute": 20,
}
MAX_FRAME = 16384


async def _ended(raw: RawWebSocket, code: str, close: int) -> None:
    await raw.read_to_end()
    assert raw.replica.ended is not None, f"closed by {raw.replica.close_code} without a word"
    assert (raw.replica.ended["code"], raw.replica.close_code) == (code, close)


# --- heartbeat and time-outs ---


async def test_one_that_does_not_pong_is_ended(seed: Seed, connect: Connect, connect_raw: ConnectRaw) -> None:
    person, other = seed.people(2)
    attentive = await connect(other.token)
    began = time.monotonic()
    silent = await connect_raw(person.token)
    await _ended(silent, "timeout", 4001)
    assert 1.2 < time.monotonic() - began < 3
    await attentive.barrier()


async def test_any_message_keeps_a_session_alive_that_can_not_pong(seed: Seed, connect_raw: ConnectRaw) -> None:
    raw = await connect_raw(seed.person().token)
    until = time.monotonic() + 2.5
    while time.monotonic() < until:
        await raw.send_message(op="ping")
        assert await raw.read_some()
        await asyncio.sleep(0.2)
    assert raw.replica.ended is None


async def test_who_never_authenticates_is_ended_in_time(connect: Connect) -> None:
    began = time.monotonic()
    client = await connect()
    ended = await client.end()
    assert (ended["code"], ended["reconnect"], client.replica.close_code) == ("auth_timeout", "now", 4101)
    assert 0.9 < time.monotonic() - began < 2.5


async def test_a_thousand_silent_sockets_from_one_address_end_and_disturb_nobody(
    gateway: GatewayProcess, seed: Seed, connect: Connect, connect_raw: ConnectRaw
) -> None:
    person = seed.person()
    client = await connect(person.token)
    crowd: list[RawWebSocket] = []
    for _ in range(20):
        crowd += await asyncio.gather(*(connect_raw() for _ in range(50)))
    seed.foreign.execute("UPDATE users SET name = 'Undisturbed' WHERE id = ?", person.id)
    await client.until(lambda: client.data.get("identity", {}).get("name") == "Undisturbed", timeout_s=2)
    await eventually(lambda: all(raw.was_cut() for raw in crowd))
    await _ended(crowd[0], "auth_timeout", 4101)
    await eventually(lambda: gateway.metric("gateway_sessions", kind="none") == 0)
    await client.barrier()


async def _half_request(gateway: GatewayProcess, data: bytes) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", gateway.port))
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_sendall(sock, data)
    return sock


async def test_handshakes_that_never_end_are_cut(gateway: GatewayProcess, seed: Seed, connect: Connect) -> None:
    request = handshake(gateway)
    slow = [await _half_request(gateway, data) for data in (b"", request[:20], request[:-2], request[:-1]) * 5]
    after_an_answer = await _half_request(gateway, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    slow.append(after_an_answer)
    assert await asyncio.get_running_loop().sock_recv(after_an_answer, 65536)
    await asyncio.get_running_loop().sock_sendall(after_an_answer, b"\r\n")
    try:
        client = await connect(seed.person().token)
        await client.barrier()
        raws = [RawWebSocket(sock) for sock in slow]
        drip = iter(b"X-Slow: " + b"a" * 10_000)
        async with asyncio.timeout(10):
            while not all(raw.was_cut() for raw in raws):
                for raw in raws[2::4]:
                    if not raw.was_cut():
                        await raw.send(bytes([next(drip)]))
                await asyncio.sleep(0.1)
    finally:
        for sock in slow:
            sock.close()


# --- how many ---


async def test_one_session_too_many_replaces_the_oldest(seed: Seed, connect: Connect) -> None:
    person = seed.person()
    clients = [await connect(person.token) for _ in range(4)]
    ended = await clients[0].end()
    assert (ended["code"], ended["reconnect"], clients[0].replica.close_code) == ("replaced", "later", 4003)
    for client in clients[1:]:
        await client.barrier()


async def test_a_full_node_refuses_and_says_when_to_come_back(own_gateway: StartGateway, connect: Connect) -> None:
    own = own_gateway(channel_max_sessions=5)
    people = own.seed.people(6)
    clients = [await connect(person.token, at=own.process) for person in people[:5]]
    with pytest.raises(Refused) as refusal:
        await connect(people[5].token, at=own.process)
    answer = refusal.value.answer
    assert (answer.status, answer.json()["code"]) == (503, "unavailable")
    assert int(answer.headers["retry-after"]) > 0
    assert own.process.request("GET", "/ready").json()["reasons"] == ["full"]
    await clients[0].close()
    await eventually(lambda: own.process.request("GET", "/ready").status == 200)
    last = await connect(people[5].token, at=own.process)
    await last.until(lambda: last.data)


async def test_too_many_messages_are_refused_and_then_ended(seed: Seed, connect: Connect) -> None:
    client = await connect(seed.person().token)
    for number in range(25):
        await client.send(op="ping", id=f"p{number}")
    refused = await client.message("error", id="p20")
    assert refused["code"] == "rate_limited"
    assert refused["retry_after_s"] > 0
    assert client.messages("pong", id="p19")
    for number in range(25, 60):
        await client.send(op="ping", id=f"p{number}")
    ended = await client.end()
    assert (ended["code"], ended["reconnect"], client.replica.close_code) == ("rate_limited", "later", 4005)


@pytest.mark.parametrize("opcode", [PING, PONG], ids=["ping", "pong"])
async def test_a_flood_of_control_frames_is_ended(
    opcode: int, seed: Seed, connect: Connect, connect_raw: ConnectRaw
) -> None:
    person, other = seed.people(2)
    bystander = await connect(other.token)
    raw = await connect_raw(person.token)
    for _ in range(20):
        try:
            await raw.send(frame(opcode, b"x" * 100) * 100)
        except ConnectionError:
            break
    if opcode == PING:
        await _ended(raw, "rate_limited", 4005)
    await bystander.barrier()


async def test_too_many_documents_are_refused(seed: Seed, connect: Connect) -> None:
    client = await connect(seed.person().token)
    answer = await client.request("watch", docs=[f"user:x{number}" for number in range(200)])
    assert (answer["op"], answer["code"]) == ("error", "too_many_documents")
    await client.barrier()


# --- frames ---

LARGE = json.dumps({"op": "ping", "id": "x", "t": "y" * MAX_FRAME}).encode()
DEEP = b'{"op":"ping","x":' + b"[" * 8000
BAD_FRAMES = {
    "binary on JSON": (frame(BINARY, b'{"op":"ping"}'), "bad_frame", 4502),
    "not JSON": (frame(TEXT, b'{"op":"ping"'), "bad_frame", 4502),
    "nothing": (frame(TEXT, b""), "bad_frame", 4502),
    "an array": (frame(TEXT, b'[{"op":"ping"}]'), "bad_frame", 4502),
    "a string": (frame(TEXT, b'"ping"'), "bad_frame", 4502),
    "two messages": (frame(TEXT, b'{"op":"ping"}{"op":"ping"}'), "bad_frame", 4502),
    "not UTF-8": (frame(TEXT, b'{"op":"ping","id":"\xff\xfe"}'), "bad_frame", 4502),
    "half a surrogate pair": (frame(TEXT, b'{"op":"ping","id":"\xed\xa0\x80"}'), "bad_frame", 4502),
    "a byte order mark": (frame(TEXT, b'\xef\xbb\xbf{"op":"ping"}'), "bad_frame", 4502),
    "UTF-16": (frame(TEXT, '{"op":"ping"}'.encode("utf-16")), "bad_frame", 4502),
    "deep": (frame(TEXT, DEEP), "bad_frame", 4502),
    "NaN": (frame(TEXT, b'{"op":"ping","t":NaN}'), "bad_frame", 4502),
    "too large": (frame(TEXT, LARGE), "too_large", 4503),
    "too large by its header": (struct.pack("!BBQ", 0x81, 0xFF, 2**62) + bytes(4), "too_large", 4503),
    "too large in fragments": (
        frame(TEXT, LARGE[:10_000], fin=False) + frame(CONTINUATION, LARGE[10_000:]),
        "too_large",
        4503,
    ),
    "a fragment without end": (
        frame(TEXT, b'{"op":"ping","id":"', fin=False) + frame(CONTINUATION, b"x", fin=False) * 5000,
        "bad_frame",
        4502,
    ),
    "empty fragments": (frame(TEXT, b"", fin=False) + frame(CONTINUATION, b"", fin=False) * 5000, "bad_frame", 4502),
}


@pytest.mark.parametrize(("data", "code", "close"), BAD_FRAMES.values(), ids=list(BAD_FRAMES))
@pytest.mark.parametrize("live", [True, False], ids=["live", "greeting"])
async def test_what_is_no_message_ends_the_session_and_says_so(
    live: bool, data: bytes, code: str, close: int, seed: Seed, connect_raw: ConnectRaw
) -> None:
    raw = await connect_raw(seed.person().token if live else None)
    await raw.send(data)
    await _ended(raw, code, close)


BROKEN_PROTOCOL = {
    "not masked": frame(TEXT, b'{"op":"ping"}', masked=False),
    "a reserved bit": frame(TEXT, b'{"op":"ping"}', rsv=0x40),
    "an unknown opcode": frame(3, b"x"),
    "a continuation of nothing": frame(CONTINUATION, b"x"),
    "a fragmented ping": frame(PING, b"x", fin=False),
    "a ping of 126 bytes": frame(PING, b"x" * 126),
    "a close code that is reserved": frame(CLOSE, struct.pack("!H", 1005)),
    "a close frame of one byte": frame(CLOSE, b"x"),
    "a new message inside a fragmented one": frame(TEXT, b"x", fin=False) + frame(TEXT, b"x"),
}


@pytest.mark.parametrize("data", BROKEN_PROTOCOL.values(), ids=list(BROKEN_PROTOCOL))
async def test_what_breaks_the_websocket_protocol_is_closed(data: bytes, seed: Seed, connect_raw: ConnectRaw) -> None:
    raw = await connect_raw(seed.person().token)
    await raw.send(data)
    await raw.read_to_end()
    assert raw.replica.close_code == 1002


async def test_a_message_in_few_fragments_with_pings_between_is_understood(seed: Seed, connect_raw: ConnectRaw) -> None:
    raw = await connect_raw(seed.person().token)
    parts = [b'{"op":', b'"ping",', b'"id":"whole"}']
    await raw.send(
        frame(TEXT, parts[0], fin=False)
        + frame(PING, b"between")
        + frame(CONTINUATION, parts[1], fin=False)
        + frame(CONTINUATION, parts[2])
    )
    async with asyncio.timeout(5):
        while not any(received.message.get("id") == "whole" for received in raw.replica.received):
            assert await raw.read_frame() is not None


async def test_a_polite_close_is_answered(seed: Seed, connect_raw: ConnectRaw) -> None:
    raw = await connect_raw(seed.person().token)
    await raw.send(frame(CLOSE, struct.pack("!H", 1000) + b"bye"))
    await raw.read_to_end()
    assert raw.replica.close_code == 1000
    assert raw.replica.ended is None


@pytest.mark.parametrize(
    "message",
    [{"op": "ping"}, {"op": "watch", "id": "x", "docs": ["self"]}, {"op": "unheard"}, {}, {"op": 5}],
    ids=json.dumps,
)
async def test_only_auth_is_understood_before_ready(message: dict[str, object], connect: Connect) -> None:
    client = await connect()
    await client.send(**message)
    ended = await client.end()
    assert (ended["code"], ended["reconnect"], client.replica.close_code) == ("not_authenticated", "never", 4504)


async def test_a_second_message_while_the_first_is_checked_is_one_too_many(connect: Connect, seed: Seed) -> None:
    client = await connect()
    token = seed.person().token
    await asyncio.gather(client.send(op="auth", token=token), client.send(op="auth", token=token))
    await client.until(lambda: client.replica.ended or client.replica.ready)
    if client.replica.ended is not None:
        assert client.replica.ended["code"] == "not_authenticated"
    else:
        await client.barrier()


REFUSED = {
    "an unknown op": ({"op": "unheard", "id": "r"}, "unknown_op"),
    "no op": ({"id": "r"}, "bad_request"),
    "an op that is no text": ({"op": ["ping"], "id": "r"}, "bad_request"),
    "watch without documents": ({"op": "watch", "id": "r"}, "bad_request"),
    "watch of no text": ({"op": "watch", "id": "r", "docs": [5]}, "bad_request"),
    "watch of nothing": ({"op": "watch", "id": "r", "docs": [""]}, "bad_request"),
    "a document that is not watched": ({"op": "sync", "id": "r", "doc": "user:x"}, "not_found"),
    "a document of no kind": ({"op": "watch", "id": "r", "docs": ["nonsense"]}, "not_found"),
    "somebody else": ({"op": "watch", "id": "r", "docs": ["user:x' OR 1=1 --"]}, "not_found"),
    "a NUL": ({"op": "watch", "id": "r", "docs": ["user:\0"]}, "not_found"),
}


@pytest.mark.parametrize(("message", "code"), REFUSED.values(), ids=list(REFUSED))
async def test_a_bad_request_is_answered_and_the_session_lives_on(
    message: dict[str, object], code: str, seed: Seed, connect: Connect
) -> None:
    client = await connect(seed.person().token)
    await client.send(**message)
    answer = await client.message("error", id="r")
    assert answer["code"] == code
    await client.barrier()


async def test_fields_that_are_not_known_are_ignored(seed: Seed, connect: Connect) -> None:
    client = await connect(seed.person().token)
    await client.send(op="ping", id="r", t="stamp", more={"deep": [1, None]}, revs=None)
    assert (await client.message("pong", id="r"))["t"] == "stamp"


async def test_text_on_messagepack_is_a_bad_frame(gateway: GatewayProcess, seed: Seed, connect: Connect) -> None:
    client = await connect(seed.person().token, subprotocol=MESSAGEPACK)
    await client.socket.send('{"op":"ping"}')
    ended = await client.end()
    assert (ended["code"], client.replica.close_code) == ("bad_frame", 4502)


MESSAGEPACK_BOMBS = {
    "not MessagePack": b"\xc1",
    "cut off": b"\x82\xa2op",
    "a huge array": b"\xdd\xff\xff\xff\xff",
    "a huge map": b"\x82\xa2op\xa4ping\xa1x\xdf\xff\xff\xff\xff",
    "a huge string": b"\x81\xa2op\xdb\xff\xff\xff\xff",
    "deep": b"\x82\xa2op\xa4ping\xa1x" + b"\x91" * 16_000,
    "an array": b"\x91\xa4ping",
    "two messages": b"\x81\xa2op\xa4ping" * 2,
    "not UTF-8": b"\x82\xa2op\xa4ping\xa2id\xa1\xff",
}


@pytest.mark.parametrize("data", MESSAGEPACK_BOMBS.values(), ids=list(MESSAGEPACK_BOMBS))
async def test_bad_messagepack_is_a_bad_frame(data: bytes, seed: Seed, connect: Connect) -> None:
    client: Client = await connect(seed.person().token, subprotocol=MESSAGEPACK)
    await client.socket.send(data)
    ended = await client.end()
    assert (ended["code"], client.replica.close_code) == ("bad_frame", 4502)
