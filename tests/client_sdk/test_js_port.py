"""The JavaScript SDK does what the Python SDK does: with documents, with frames, and all its life long."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from client_sdk import wire
from client_sdk.document import apply, canonical, diff, revision
from client_sdk.errors import MalformedMessage
from tests.client_sdk.support.trace import Life
from tests.support.node import run_node

SUPPORT = Path(__file__).parent / "js" / "support"
CODEC = wire.CODECS["gateway.v1+json"]
TEXTS = (
    "", "a", "b", "__proto__", "constructor", "toString", "0", "10", "9", "ü", "e\u0301", "\x00", "\x1f", "\x7f",
    "\u2028", "\ue000", "\uffff", "\U0001f600", "\U00010000", '"', "\\", "/", "<&>", "\ud7ff",
)  # fmt: skip
NUMBERS = (
    0, -0.0, 1, -1, 2**53 - 1, -(2**53) + 1, 2**53 + 1, 10**20, 1e21, 1e23, 5e-324, 1.7976931348623157e308, 1e-6, 1e-7,
    0.1, 333333333.33333329, 9.999999999999997e22, 1424953923781206.2, 123456789012345678,
)  # fmt: skip

# One of each message with all its fields, and what may stand in place of each field.
WHOLE: list[dict[str, Any]] = [
    {"op": "hello", "protocol": 1, "node": "n", "epoch": "e", "server_time": "t", "heartbeat_s": 25,
     "auth_timeout_s": 1.5, "max_frame_bytes": 16384, "features": ["resume"]},
    {"op": "ready", "session": "s", "principal": "user:a", "expires_at": "t", "id": "1"},
    {"op": "snapshot", "doc": "d", "rev": "r", "seq": 3, "data": {"a": [1, 2.5, {"b": "ü"}]}},
    {"op": "update", "doc": "d", "from": "a", "rev": "b", "seq": 4, "patch": {"x": None}, "causes": ["plan"]},
    {"op": "current", "doc": "d", "rev": "a", "seq": 4},
    {"op": "gone", "doc": "d", "reason": "deleted"},
    {"op": "reply", "id": "1", "docs": ["d"], "doc": "d", "quota": "q", "org": "o", "limit": 1, "used": 2,
     "reserved": 3, "remaining": 4, "period": "day", "hard": True, "resets_at": "t", "level": "low", "cap": 5,
     "cap_remaining": 6, "seq": 7, "lease": "l", "held": 8, "expires_at": "t", "state": "open", "committed": 9},
    {"op": "error", "code": "c", "message": "m", "id": "1", "doc": "d", "retry_after_s": 1.5, "quota": "q",
     "remaining": 1, "resets_at": "t"},
    {"op": "expiring", "expires_at": "t"},
    {"op": "status", "store": "stale", "since": "t", "age_s": 1.5, "doc": "d"},
    {"op": "pong", "id": "1", "server_time": "t", "revs": {"d": "r", "__proto__": "x"}},
    {"op": "ended", "code": "c", "message": "m", "reconnect": "now", "retry_after_s": 2},
]  # fmt: skip
# How each value is written; 1.0 is none of them, for in JavaScript that is 1.
ODD = (
    "null", "true", "false", "0", "-1", "1.5", "1e400", "-1e400", "9007199254740991", '""', '"x"',
    '"\\ud800"', '"\\u0000"',
    "[]", "[1]", "[null]", '["x"]', '["\\udc00"]', "{}", '{"x":1}', '{"x":"y"}', '{"x":null}', '{"x":1e400}',
    '{"__proto__":{"polluted":true}}', '{"\\ud800":1}', '{"a":' * 500 + "1" + "}" * 500, "[" * 5000 + "]" * 5000,
    "", "01", "NaN", '"\n"', "'x'", "undefined",
)  # fmt: skip
FRAMES = (
    "", " ", "null", "[]", "7", '"x"', "true", "{", "{}", '{"op":null}', '{"op":7}', '{"op":"later"}',
    '{"op":"later","id":7}',
    '{"op":"Gone","doc":"d"}', '{"op":"gone"}', '{"op":"gone","doc":"d"}x', '{"op":"gone","doc":"d",}',
    ' \t\r\n{"op":"gone","doc":"d"}\n', '\ufeff{"op":"gone","doc":"d"}',
    '{"doc":"d","op":"gone"}', '{"op":"constructor"}',
    '{"op":"__proto__"}', '{"__proto__":{"op":"gone","doc":"d"}}', '{"op":"gone","__proto__":{"doc":"d"}}',
    '{"op":"gone","doc":"d","doc":"e"}', '{"op":"gone","doc":"d","later":[{"x":1e400}]}',
    '{"op":"later","a":' + "[" * 5000 + "]" * 5000 + "}", '{"op":"later","a":"\\ud800"}',
)  # fmt: skip


def document(random: Random, depth: int = 4) -> Any:
    if depth == 0 or random.random() < 0.3:
        return random.choice((random.choice(TEXTS), random.choice(NUMBERS), random.random(), True, False))
    if random.random() < 0.3:
        return [document(random, depth - 1) for _ in range(random.randint(0, 3))]
    return {random.choice(TEXTS): document(random, depth - 1) for _ in range(random.randint(0, 5))}


def objects(random: Random) -> Iterator[dict[str, Any]]:
    while True:
        made = document(random)
        if isinstance(made, dict):
            yield made


def frames() -> Iterator[str]:
    yield from FRAMES
    for message in WHOLE:
        yield json.dumps(message)
        for name in message:
            without = {other: value for other, value in message.items() if other != name}
            yield json.dumps(without)
            for value in ODD:
                yield f'{{"{name}":{value},{json.dumps(without)[1:]}'
        for value in ODD:
            yield f'{{"later":{value},{json.dumps(message)[1:]}'


def verdict(frame: str) -> Any:
    try:
        message = CODEC.decode(frame)
    except MalformedMessage:
        return "malformed"
    if message is None:
        return "unknown"
    return msgspec.to_builtins(message)


def test_documents_and_frames_are_read_alike(tmp_path: Path) -> None:
    random = Random(7)
    made = objects(random)
    documents = [next(made) for _ in range(800)]
    pairs = [(next(made), next(made)) for _ in range(800)] + [(value, {**value, "a": {"b": 1}}) for value in documents]
    vectors = {
        "documents": [
            {"text": json.dumps(value), "canonical": canonical(value).decode(), "rev": revision(value)}
            for value in documents
        ],
        "patches": [
            {
                "before": json.dumps(before),
                "after": json.dumps(after),
                "patch": canonical(diff(before, after)).decode(),
                "result": canonical(apply(before, diff(before, after))).decode(),
            }
            for before, after in pairs
        ],
        "frames": [{"frame": frame, "message": verdict(frame)} for frame in frames()],
    }
    path = tmp_path / "vectors.json"
    path.write_text(json.dumps(vectors))
    run_node(SUPPORT / "vectors.mjs", path)


@pytest.mark.parametrize("first", [0, 100, 200])
def test_a_session_leads_the_same_life(first: int, tmp_path: Path) -> None:
    lives = [Life(seed).live(300) for seed in range(first, first + 15)]
    seen = {
        (effect["type"], step["seen"]["condition"]) for steps in lives for step in steps for effect in step["effects"]
    }
    assert {("change", "live"), ("resolve", "live"), ("reject", "waiting"), ("askToken", "asking")} <= seen
    reasons = {step["seen"]["freshness"]["reason"] for steps in lives for step in steps}
    assert {"", "store", "document", "silence", "disconnected", "malformed_message"} <= reasons
    assert any(not verified for steps in lives for step in steps for *_, verified in step["seen"]["held"])
    path = tmp_path / "lives.jsonl"
    path.write_text("".join(json.dumps(steps) + "\n" for steps in lives))
    run_node(SUPPORT / "trace.mjs", path)
