from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from msgspec import UNSET

from gateway.core.document import canonical
from gateway.core.wire import (
    CODECS,
    JSON,
    MESSAGEPACK,
    Auth,
    BadFrame,
    ClientInfo,
    ClientMessage,
    Codec,
    Current,
    Ended,
    Error,
    Expiring,
    Gone,
    Hello,
    Ping,
    Pong,
    Ready,
    Reply,
    RequestRefused,
    ServerMessage,
    Status,
    Sync,
    Unwatch,
    Watch,
)
from gateway.errors import Ending

BOTH = pytest.mark.parametrize("codec", [JSON, MESSAGEPACK], ids=["json", "msgpack"])
CLIENT_TYPES = (Auth, Watch, Unwatch, Sync, Ping)


def packed(codec: Codec, value: Any) -> bytes:
    """Any value as a frame of the codec's kind."""
    return msgspec.msgpack.encode(value) if codec.binary else msgspec.json.encode(value)


def unpacked(codec: Codec, frame: bytes) -> Any:
    """A frame as plain values."""
    return msgspec.msgpack.decode(frame) if codec.binary else json.loads(frame)


def outcome(codec: Codec, frame: bytes) -> ClientMessage | RequestRefused | BadFrame:
    """What became of a frame. Anything but the three documented outcomes is an error of the test."""
    try:
        message = codec.decode(frame)
    except BadFrame as bad:
        return bad
    except RequestRefused as refused:
        refusal = refused
    else:
        assert type(message) in CLIENT_TYPES
        return message
    assert refusal.error.code in ("bad_request", "unknown_op")
    assert refusal.id is None or (isinstance(refusal.id, str) and 1 <= len(refusal.id) <= 64)
    codec.encode(Error(refusal.error.code, refusal.error.message, refusal.id or UNSET))
    return refusal


# --- from the client -------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"op": "auth"}, Auth()),
        ({"op": "auth", "token": "t", "watch": ["self"], "id": "1"}, Auth("t", ["self"], "1")),
        ({"op": "auth", "token": None, "watch": None, "id": None}, Auth()),
        ({"op": "auth", "client": {"name": "n", "version": "1", "x": 1}}, Auth(client=ClientInfo("n", "1"))),
        ({"op": "auth", "last_end": "timeout", "unknown": {"a": [1]}}, Auth(last_end="timeout")),
        ({"op": "watch", "id": "1", "docs": []}, Watch("1", [])),
        (
            {"docs": ["user:a@0123456789abcdef"], "id": "x" * 64, "op": "watch"},
            Watch("x" * 64, ["user:a@0123456789abcdef"]),
        ),
        ({"op": "unwatch", "id": "1", "docs": ["self"]}, Unwatch("1", ["self"])),
        ({"op": "sync", "id": "1", "doc": "self"}, Sync("1", "self")),
        ({"op": "ping"}, Ping()),
        ({"op": "ping", "id": "1", "t": 1.5}, Ping("1", 1.5)),
        ({"op": "ping", "t": "now"}, Ping(t="now")),
        ({"op": "ping", "t": -7}, Ping(t=-7)),
    ],
)
def test_a_message_is_read_in_either_form(codec: Codec, value: Any, message: ClientMessage) -> None:
    assert codec.decode(packed(codec, value)) == message


@BOTH
@pytest.mark.parametrize(
    ("value", "code", "request_id"),
    [
        ({}, "bad_request", None),
        ({"id": "1"}, "bad_request", "1"),
        ({"op": None, "id": "1"}, "bad_request", "1"),
        ({"op": 7}, "bad_request", None),
        ({"op": ["ping"]}, "bad_request", None),
        ({"op": "fly"}, "unknown_op", None),
        ({"op": "fly", "id": "1"}, "unknown_op", "1"),
        ({"op": "fly", "id": ""}, "unknown_op", None),
        ({"op": "fly", "id": "x" * 65}, "unknown_op", None),
        ({"op": "fly", "id": 5}, "unknown_op", None),
        ({"op": "PING"}, "unknown_op", None),
        ({"op": "watch", "docs": []}, "bad_request", None),
        ({"op": "watch", "id": "1"}, "bad_request", "1"),
        ({"op": "watch", "id": "", "docs": []}, "bad_request", None),
        ({"op": "watch", "id": "x" * 65, "docs": []}, "bad_request", None),
        ({"op": "watch", "id": "1", "docs": "self"}, "bad_request", "1"),
        ({"op": "watch", "id": "1", "docs": [""]}, "bad_request", "1"),
        ({"op": "watch", "id": "1", "docs": ["x" * 257]}, "bad_request", "1"),
        ({"op": "watch", "id": "1", "docs": ["d"] * 10_001}, "bad_request", "1"),
        ({"op": "watch", "id": "1", "docs": [None]}, "bad_request", "1"),
        ({"op": "unwatch", "id": "1", "docs": [1]}, "bad_request", "1"),
        ({"op": "sync", "id": "1"}, "bad_request", "1"),
        ({"op": "sync", "id": "1", "doc": ""}, "bad_request", "1"),
        ({"op": "ping", "id": 1}, "bad_request", None),
        ({"op": "ping", "t": True}, "bad_request", None),
        ({"op": "ping", "t": "x" * 65}, "bad_request", None),
        ({"op": "ping", "t": {}}, "bad_request", None),
        ({"op": "auth", "token": 5, "id": "1"}, "bad_request", "1"),
        ({"op": "auth", "client": {"name": "x" * 65}}, "bad_request", None),
        ({"op": "auth", "last_end": "x" * 65}, "bad_request", None),
    ],
)
def test_a_map_that_is_no_request_is_refused_by_name(
    codec: Codec, value: Any, code: str, request_id: str | None
) -> None:
    refusal = outcome(codec, packed(codec, value))
    assert isinstance(refusal, RequestRefused)
    assert (refusal.error.code, refusal.id) == (code, request_id)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b" ",
        b"null",
        b"7",
        b'"ping"',
        b"[]",
        b'[{"op":"ping"}]',
        b'{"op":"ping"',
        b'{"op":"ping"}{"op":"ping"}',
        b"{'op':'ping'}",
        b'{"op":"ping","t":NaN}',
        b'{"op":"ping","t":Infinity}',
        b'{"op":"ping","t":01}',
        b'{"op":"ping",}',
        b'\xef\xbb\xbf{"op":"ping"}',
        '{"op":"ping"}'.encode("utf-16"),
        b'{"op":"ping","t":"\xff"}',
        b'{"op":"\xff"}',
        b'{"op":"fly","id":"\xff"}',
        b'{"op":"watch","docs":5,"id":"\xc3"}',
        b'{"op":"ping","t":"\\ud800"}',
        b'{"op":"fly","id":"\\udc00"}',
        b'{"x":' + b"[" * 100_000,
        b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b',"op":"ping"}',
        b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
        b'{"op":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_what_is_not_json_or_not_a_map_is_a_bad_frame(frame: bytes) -> None:
    assert isinstance(outcome(JSON, frame), BadFrame)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\xc0",
        b"\xc1",
        b"\x90",
        b"\xa4ping",
        b"\x91\x81\xa2op\xa4ping",
        b"\x81\xa2op",
        msgspec.msgpack.encode({"op": "ping"}) + b"\x00",
        b"\xdf\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xffx",
        b"\x82\xa2op\xa4ping\xa1t\xdb\xff\xff\xff\xff",
        b"\x82\xa2op\xa4ping\xa1t\xc6\xff\xff\xff\xff",
        b"\x82\xa2op\xa4ping\xa1t\xa1\xff",
        b"\x82\xa2op\xa3fly\xa2id\xa1\xff",
        b"\x82\xa2op\xa3fly\xa2id\x81\x81\x01\x01\x01",
        b"\x82\xa2op\xa4ping\xa1x" + b"\x91" * 100_000,
        b"\x82\xa2op\xa4ping\xa1x" + b"\x91" * 100_000 + b"\x01",
        b"\x81" * 100_000,
        b"\x82\x01\x02\xa2op\xa4ping",
        b'{"op":"ping"}',
    ],
)
def test_what_is_not_messagepack_or_not_a_map_is_a_bad_frame(frame: bytes) -> None:
    assert isinstance(outcome(MESSAGEPACK, frame), BadFrame)


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (b'{"op":"ping","op":"ping","id":"1","id":"2"}', Ping("2")),
        (b'{"op":"ping","t":1,"t":2}', Ping(t=2)),
        (b'{"op":"ping","t":18446744073709551616}', Ping(t=18446744073709551616)),
        (b' \r\n\t{"op" : "ping"} ', Ping()),
        (b'{"\\u006fp":"p\\u0069ng"}', Ping()),
    ],
)
def test_of_two_equal_keys_the_last_counts_and_numbers_keep_their_digits(frame: bytes, expected: Ping) -> None:
    message = outcome(JSON, frame)
    assert message == expected
    assert json.loads(JSON.encode(Pong("now", {}, t=expected.t or 0))).get("t") == (expected.t or 0)


def test_a_message_that_names_two_operations_is_refused() -> None:
    assert isinstance(outcome(JSON, b'{"op":"ping","op":"watch"}'), RequestRefused)
    assert isinstance(outcome(MESSAGEPACK, b"\x82\xa2op\xa4ping\xa2op\xa5watch"), RequestRefused)


@pytest.mark.parametrize("digits", [400, 4_000, 16_000])
def test_a_number_of_any_length_is_repeated_or_refused(digits: int) -> None:
    answer = outcome(JSON, b'{"op":"ping","t":' + b"9" * digits + b"}")
    if isinstance(answer, Ping):
        assert answer.t is not None
        assert len(JSON.encode(Pong("now", {}, t=answer.t))) > digits
    else:
        assert isinstance(answer, RequestRefused)


@pytest.mark.parametrize("number", [b"1e999", b"-1e999"])
def test_a_number_that_is_too_large_is_refused(number: bytes) -> None:
    assert isinstance(outcome(JSON, b'{"op":"ping","t":' + number + b"}"), RequestRefused)


def test_a_refusal_never_repeats_a_token() -> None:
    for value in ({"op": "auth", "token": ["gw_secret"]}, {"op": "gw_secret", "token": "gw_secret"}):
        for codec in (JSON, MESSAGEPACK):
            refusal = outcome(codec, packed(codec, value))
            assert isinstance(refusal, RequestRefused)
            assert "gw_secret" not in refusal.error.message


# --- fuzz ------------------------------------------------------------------------------------------------------------

FEW = hypothesis_settings(max_examples=60)
names = st.sampled_from(["op", "id", "docs", "doc", "token", "watch", "t", "client", "last_end", "x"])
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.sampled_from(["auth", "watch", "unwatch", "sync", "ping", "self", "user:a", "x" * 65, "x" * 257])
)
json_values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names | st.text(max_size=4), inner, max_size=4)
)
pack_values = st.recursive(
    scalars
    | st.binary(max_size=8)
    | st.floats()
    | st.datetimes()
    | st.builds(msgspec.msgpack.Ext, st.integers(-128, 127).filter(lambda code: code != -1), st.binary(max_size=4)),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(names | st.text(max_size=4) | st.integers(0, 9), inner, max_size=4)
    ),
)
request_ids = st.text(st.characters(codec="utf-8"), min_size=1, max_size=64)
documents = st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=64), max_size=5)
client_messages: st.SearchStrategy[ClientMessage] = st.one_of(
    st.builds(
        Auth,
        token=st.none() | st.text(st.characters(codec="utf-8"), max_size=60),
        watch=st.none() | documents,
        id=st.none() | request_ids,
        client=st.none() | st.builds(ClientInfo, name=st.none() | st.just("n"), version=st.none() | st.just("1")),
        last_end=st.none() | st.sampled_from([ending.code for ending in Ending]),
    ),
    st.builds(Watch, id=request_ids, docs=documents),
    st.builds(Unwatch, id=request_ids, docs=documents),
    st.builds(Sync, id=request_ids, doc=st.text(st.characters(codec="utf-8"), min_size=1, max_size=64)),
    st.builds(
        Ping,
        id=st.none() | request_ids,
        t=st.none()
        | st.integers(-(2**63), 2**64 - 1)
        | st.floats(allow_nan=False, allow_infinity=False).filter(lambda t: not t.is_integer())
        | st.text(st.characters(codec="utf-8"), max_size=64),
    ),
)


@BOTH
@FEW
@given(frame=st.binary(max_size=64))
def test_any_bytes_have_a_documented_outcome(codec: Codec, frame: bytes) -> None:
    outcome(codec, frame)


@FEW
@given(value=json_values)
def test_any_json_has_a_documented_outcome(value: Any) -> None:
    answer = outcome(JSON, json.dumps(value).encode("utf-8", "surrogatepass"))
    assert isinstance(answer, BadFrame) or isinstance(value, dict)


@FEW
@given(value=pack_values)
def test_any_messagepack_has_a_documented_outcome(value: Any) -> None:
    answer = outcome(MESSAGEPACK, msgspec.msgpack.encode(value))
    assert isinstance(answer, BadFrame) or isinstance(value, dict)


@BOTH
@FEW
@given(message=client_messages, data=st.data())
@example(message=Watch("1", ["self"]), data=None)
def test_a_message_that_was_tampered_with_has_a_documented_outcome(
    codec: Codec, message: ClientMessage, data: st.DataObject | None
) -> None:
    frame = packed(codec, message)
    assert outcome(codec, frame) == message
    if data is None:
        return
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(frame)))
        piece = data.draw(st.binary(max_size=3) | st.sampled_from([b'"', b"[", b"{", b"\xdb", b"\xdf", b"\xff"]))
        frame = frame[:place] + piece + frame[place + data.draw(st.integers(0, 3)) :]
    outcome(codec, frame)


@BOTH
@FEW
@given(message=client_messages)
def test_a_client_message_survives_the_way(codec: Codec, message: ClientMessage) -> None:
    assert codec.decode(packed(codec, message)) == message


# --- from the server -------------------------------------------------------------------------------------------------

words = st.text(st.characters(codec="utf-8"), max_size=20)
seconds = st.integers(0, 10**6) | st.floats(0.5, 1e6).filter(lambda value: not value.is_integer())
moments = st.just("2026-11-21T19:10:00.000Z")
unset = st.just(UNSET)
server_messages: st.SearchStrategy[ServerMessage] = st.one_of(
    st.builds(
        Hello,
        protocol=st.just(1),
        node=words,
        epoch=words,
        server_time=moments,
        heartbeat_s=seconds,
        auth_timeout_s=seconds,
        max_frame_bytes=st.integers(1024, 10**9),
        features=st.lists(words, max_size=3).map(tuple),
    ),
    st.builds(Ready, words, words, unset | moments, unset | request_ids),
    st.builds(Current, words, words, st.integers(0, 2**53 - 1)),
    st.builds(Gone, words, st.sampled_from(["deleted", "forbidden"])),
    st.builds(Reply, request_ids, unset | st.lists(words, max_size=3), unset | words),
    st.builds(Error, words, words, unset | request_ids, unset | words, unset | seconds),
    st.builds(Expiring, moments),
    st.builds(Status, st.sampled_from(["fresh", "stale"]), moments, seconds, unset | words),
    st.builds(
        Pong,
        moments,
        st.dictionaries(words, words, max_size=3),
        unset | request_ids,
        unset | st.integers(-(2**63), 2**64 - 1) | seconds | words,
    ),
    st.builds(Ended, words, words, words, unset | seconds),
)


def holds_null(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(holds_null, value.values()))
    return any(map(holds_null, value)) if isinstance(value, list) else value is None


@FEW
@given(message=server_messages)
def test_what_the_server_says_is_the_same_in_both_forms_and_holds_no_null(message: ServerMessage) -> None:
    said = json.loads(JSON.encode(message))
    assert said == msgspec.msgpack.decode(MESSAGEPACK.encode(message))
    assert said["op"] == type(message).__name__.lower()
    assert not holds_null(said)
    for field in msgspec.structs.fields(message):
        value = getattr(message, field.name)
        if value is UNSET:
            assert field.encode_name not in said
        else:
            assert said.pop(field.encode_name) == (list(value) if isinstance(value, tuple) else value)
    assert said.keys() == {"op"}


plain_documents = st.dictionaries(
    st.text("abc", min_size=1, max_size=3),
    st.recursive(
        st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | words,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    ),
    max_size=4,
)


@BOTH
@FEW
@given(document=plain_documents, seq=st.integers(0, 2**53 - 1))
def test_a_snapshot_carries_the_document_as_it_is(codec: Codec, document: dict[str, Any], seq: int) -> None:
    frame = codec.snapshot("user:a", "0123456789abcdef", seq, canonical(document))
    expected = {"op": "snapshot", "doc": "user:a", "rev": "0123456789abcdef", "seq": seq, "data": document}
    assert unpacked(codec, frame) == expected


@BOTH
def test_an_update_carries_the_patch_with_its_nulls_and_the_causes(codec: Codec) -> None:
    frame = codec.update("user:a", "a" * 16, "b" * 16, 9, b'{"permissions":{"x":null,"y":true}}', ("plan", "roles"))
    assert unpacked(codec, frame) == {
        "op": "update",
        "doc": "user:a",
        "from": "a" * 16,
        "rev": "b" * 16,
        "seq": 9,
        "patch": {"permissions": {"x": None, "y": True}},
        "causes": ["plan", "roles"],
    }


def test_the_codecs_are_known_by_their_subprotocol() -> None:
    assert {name: codec.binary for name, codec in CODECS.items()} == {
        "gateway.v1+json": False,
        "gateway.v1+msgpack": True,
    }
    assert all(codec.subprotocol == name for name, codec in CODECS.items())
