from __future__ import annotations

from typing import Any

import msgspec
import pytest

from client_sdk import wire
from client_sdk.errors import MalformedMessage

JSON, MSGPACK = wire.CODECS["gateway.v1+json"], wire.CODECS["gateway.v1+msgpack"]

MESSAGES: list[tuple[dict[str, Any], wire.AnyServerMessage]] = [
    (
        {
            "op": "hello",
            "protocol": 1,
            "node": "n",
            "epoch": "e",
            "server_time": "2026-11-21T19:10:00.000Z",
            "heartbeat_s": 25,
            "auth_timeout_s": 10.5,
            "max_frame_bytes": 16384,
            "features": ["resume"],
        },
        wire.Hello(
            protocol=1,
            node="n",
            epoch="e",
            server_time="2026-11-21T19:10:00.000Z",
            heartbeat_s=25.0,
            auth_timeout_s=10.5,
            max_frame_bytes=16384,
            features=("resume",),
        ),
    ),
    ({"op": "ready", "session": "s", "principal": "user:a"}, wire.Ready("s", "user:a")),
    (
        {"op": "snapshot", "doc": "user:a", "rev": "0" * 16, "seq": 3, "data": {"a": [1, 2.5]}},
        wire.Snapshot("user:a", "0" * 16, 3, {"a": [1, 2.5]}),
    ),
    (
        {"op": "update", "doc": "d", "from": "a", "rev": "b", "seq": 4, "patch": {"x": None}, "causes": ["plan"]},
        wire.Update(doc="d", from_="a", rev="b", seq=4, patch={"x": None}, causes=("plan",)),
    ),
    ({"op": "current", "doc": "d", "rev": "a", "seq": 4}, wire.Current("d", "a", 4)),
    ({"op": "gone", "doc": "d", "reason": "deleted"}, wire.Gone("d", "deleted")),
    ({"op": "reply", "id": "1", "docs": ["d"]}, wire.Reply("1", ("d",))),
    ({"op": "error", "code": "not_found", "message": "No.", "doc": "d"}, wire.Error("not_found", "No.", doc="d")),
    ({"op": "expiring", "expires_at": "2026-11-21T19:10:00.000Z"}, wire.Expiring("2026-11-21T19:10:00.000Z")),
    ({"op": "status", "store": "stale", "since": "s", "age_s": 1}, wire.Status("stale", "s", 1.0)),
    ({"op": "pong", "server_time": "t", "revs": {"d": "a"}}, wire.Pong(server_time="t", revs={"d": "a"})),
    ({"op": "ended", "code": "revoked", "message": "m", "reconnect": "never"}, wire.Ended("revoked", "m", "never")),
]


@pytest.mark.parametrize(("written", "message"), MESSAGES, ids=[written["op"] for written, _ in MESSAGES])
def test_every_message_of_the_gateway_is_read_in_both_encodings(
    written: dict[str, Any], message: wire.AnyServerMessage
) -> None:
    written = {**written, "added_later": {"by": "the gateway"}}
    assert JSON.decode(msgspec.json.encode(written).decode()) == message
    assert MSGPACK.decode(msgspec.msgpack.encode(written)) == message


@pytest.mark.parametrize(
    ("message", "written"),
    [
        (wire.Auth(token="t", id="1"), {"op": "auth", "token": "t", "id": "1"}),
        (
            wire.Auth(token="t", watch=("self@" + "0" * 16,), client=wire.ClientInfo("c", "1"), last_end="timeout"),
            {
                "op": "auth",
                "token": "t",
                "watch": ["self@" + "0" * 16],
                "client": {"name": "c", "version": "1"},
                "last_end": "timeout",
            },
        ),
        (wire.Watch("1", ["a"]), {"op": "watch", "id": "1", "docs": ["a"]}),
        (wire.Unwatch("1", ["a"]), {"op": "unwatch", "id": "1", "docs": ["a"]}),
        (wire.Sync("1", "a"), {"op": "sync", "id": "1", "doc": "a"}),
        (wire.Ping("1"), {"op": "ping", "id": "1"}),
    ],
    ids=lambda each: each["op"] if isinstance(each, dict) else "",
)
def test_every_message_of_the_client_has_no_empty_fields(message: wire.ClientMessage, written: dict[str, Any]) -> None:
    text, binary = JSON.encode(message), MSGPACK.encode(message)
    assert isinstance(text, str)
    assert isinstance(binary, bytes)
    assert msgspec.json.decode(text) == msgspec.msgpack.decode(binary) == written


def test_an_operation_of_the_future_is_no_error() -> None:
    assert JSON.decode('{"op":"lease","id":7}') is None
    assert MSGPACK.decode(msgspec.msgpack.encode({"op": "lease"})) is None


@pytest.mark.parametrize(
    "frame",
    [
        "",
        "null",
        "[]",
        "{",
        "{}",
        '{"op":7}',
        '{"op":"snapshot","doc":"d","rev":"r","seq":"1","data":{}}',
        '{"op":"snapshot","doc":"d","rev":"r","seq":1,"data":null}',
        '{"op":"update"}',
        '{"op":"snapshot","doc":"d","rev":"r","seq":1,"data":' + '{"a":' * 20000 + "}" * 20000 + "}",
        '{"op":"later","a":' + "[" * 50000,
        b'{"op":"expiring","expires_at":""}',
    ],
)
def test_json_that_is_no_message_is_malformed(frame: str | bytes) -> None:
    with pytest.raises(MalformedMessage):
        JSON.decode(frame)


@pytest.mark.parametrize(
    "frame", [b"", b"\xc1", b"\x81", b"\xdf\xff\xff\xff\xff", b"\x81\xa2op\xa4\xff\xff\xff\xff", b"\x90", "text"]
)
def test_messagepack_that_is_no_message_is_malformed(frame: str | bytes) -> None:
    with pytest.raises(MalformedMessage):
        MSGPACK.decode(frame)


def test_a_refusal_without_problem_json_has_no_code() -> None:
    assert wire.parse_problem(b"<html>Bad gateway</html>") == wire.Problem()
    assert wire.parse_problem(b"\xff\xfe") == wire.Problem()
    assert wire.parse_problem(b'{"code":"revoked","detail":"d","status":401}') == wire.Problem("revoked", "", "d")


WHOLE = {
    "code": "quota_exceeded",
    "title": "Conflict",
    "detail": "Nothing is left.",
    "credential": "signature",
    "doc": "user:u_ada",
    "retry_after_s": 0.25,
    "quota": "calls",
    "remaining": 0,
    "resets_at": "2026-12-01T00:00:00.000Z",
}


def test_a_problem_is_read_whole() -> None:
    assert wire.parse_problem(msgspec.json.encode(WHOLE)) == wire.Problem(**WHOLE)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", WHOLE)
def test_a_member_of_another_type_is_as_if_it_were_not_there(name: str) -> None:
    without = wire.Problem(**{key: value for key, value in WHOLE.items() if key != name})  # type: ignore[arg-type]
    body = msgspec.json.encode({key: value for key, value in WHOLE.items() if key != name})
    for other in (b'["x"]', b'{"x":1}', b"true", b"1e999", b'"\xff"'):
        assert wire.parse_problem(b'%s,"%s":%s}' % (body[:-1], name.encode(), other)) == without


@pytest.mark.parametrize(("written", "read"), [("-5", 0.0), ("-0.5", 0.0), ("1e400", None), ('"5"', None), ("5", 5.0)])
def test_nobody_waits_less_than_not_at_all_or_for_ever(written: str, read: float | None) -> None:
    body = f'{{"retry_after_s":{written},"code":"rate_limited"}}'
    assert wire.parse_problem(body.encode()) == wire.Problem("rate_limited", retry_after_s=read)


@pytest.mark.parametrize("body", ["", "[]", "null", "{", '{"code":"forbidden"', '{"a":' + "[" * 50000])
def test_what_is_no_problem_says_nothing(body: str) -> None:
    assert wire.parse_problem(body.encode()) == wire.Problem()
