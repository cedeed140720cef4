"""What a session makes of requests about quotas."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.access import SPEND, may_spend
from gateway.core.document import MAX_INTEGER
from gateway.core.effects import Close, Effect, Send, Spend, UseLease
from gateway.core.instant import Instant
from gateway.core.principal import CredentialKind, Principal, PrincipalKind
from gateway.core.session import Session, SessionLimits
from gateway.core.spending import KEY_LENGTH, LEASE_TTL_S, MOST, Order
from gateway.core.wire import (
    JSON,
    MESSAGEPACK,
    Codec,
    Commit,
    Consume,
    Extend,
    Release,
    Reply,
    RequestRefused,
    Reserve,
)
from gateway.errors import Ending, QuotaExceeded, Uncertain

WALL = 1_795_288_200_000
LIMITS = SessionLimits(
    heartbeat_s=25.0,
    pong_timeout_s=10.0,
    auth_timeout_s=10.0,
    expiring_s=60.0,
    max_frame_bytes=4096,
    messages_per_minute=5,
)
CONSUME: dict[str, Any] = {"op": "consume", "id": "1", "quota": "minutes", "amount": 3, "key": "k"}
RESERVE: dict[str, Any] = {"op": "reserve", "id": "1", "lease": "call", "quota": "minutes", "amount": 3, "ttl_s": 60}
EXTEND: dict[str, Any] = {"op": "extend", "id": "1", "lease": "call", "ttl_s": 60}
COMMIT: dict[str, Any] = {"op": "commit", "id": "1", "lease": "call", "amount": 3}
RELEASE: dict[str, Any] = {"op": "release", "id": "1", "lease": "call"}
EACH: list[dict[str, Any]] = [CONSUME, RESERVE, EXTEND, COMMIT, RELEASE]


def at(seconds: float = 0) -> Instant:
    return Instant(1_000.0 + seconds, WALL + round(seconds * 1000))


def live(
    *, permissions: frozenset[str] | None = None, expires_s: float | None = None, codec: Codec = JSON, many: int = 5
) -> Session:
    expires_at = None if expires_s is None else WALL + round(expires_s * 1000)
    principal = Principal(
        PrincipalKind.USER, "ada", CredentialKind.API_TOKEN, "t_ada", expires_at=expires_at, permissions=permissions
    )
    session = Session("s", codec, LIMITS._replace(messages_per_minute=many), at(), jitter=0.5)
    session.begin(principal, [], at())
    return session


def told(effects: list[Effect]) -> dict[str, Any]:
    [effect] = effects
    assert isinstance(effect, Send)
    message: dict[str, Any] = json.loads(effect.payload)
    return message


def ask(session: Session, message: dict[str, Any], seconds: float = 0) -> list[Effect]:
    return session.receive(json.dumps(message).encode(), True, at(seconds))


def test_a_consume_becomes_an_order_of_the_principal() -> None:
    assert ask(live(), CONSUME) == [Spend(Order("user:ada", "user:ada", "minutes", 3, "k"), "1")]
    assert ask(live(), CONSUME | {"org": "acme"}) == [Spend(Order("user:ada", "org:acme", "minutes", 3, "k"), "1")]
    assert ask(live(), CONSUME | {"org": None}) == [Spend(Order("user:ada", "user:ada", "minutes", 3, "k"), "1")]


def test_requests_about_leases_are_handed_on() -> None:
    assert [ask(live(), message) for message in (RESERVE, EXTEND, COMMIT, RELEASE)] == [
        [UseLease("user:ada", Reserve("1", "call", "minutes", 3, 60.0))],
        [UseLease("user:ada", Extend("1", "call", 60.0))],
        [UseLease("user:ada", Commit("1", "call", 3))],
        [UseLease("user:ada", Release("1", "call"))],
    ]


def test_the_same_over_messagepack() -> None:
    session = live(codec=MESSAGEPACK)
    effects = session.receive(msgspec.msgpack.encode(CONSUME), False, at())
    assert effects == [Spend(Order("user:ada", "user:ada", "minutes", 3, "k"), "1")]
    assert session.receive(msgspec.msgpack.encode(RELEASE), False, at()) == [UseLease("user:ada", Release("1", "call"))]


AT_THE_BOUNDS = [
    CONSUME | {"amount": 1},
    CONSUME | {"amount": MOST},
    CONSUME | {"key": "k" * KEY_LENGTH},
    CONSUME | {"key": "ключ 🔑 \u00a0"},
    CONSUME | {"quota": "q" * 64, "org": "o" * 64},
    RESERVE | {"ttl_s": 1},
    RESERVE | {"ttl_s": LEASE_TTL_S},
    RESERVE | {"ttl_s": 1.5},
    RESERVE | {"lease": "l" * KEY_LENGTH},
    EXTEND | {"amount": 0},
    EXTEND | {"amount": MOST, "key": "k"},
    COMMIT | {"amount": 0},
    COMMIT | {"amount": MAX_INTEGER},
]
BEYOND = [
    *(CONSUME | {"amount": amount} for amount in (0, -1, MOST + 1, 2**63, 1.5, "1", True, None, [1])),
    *(CONSUME | {"key": key} for key in ("", "k" * (KEY_LENGTH + 1), 5, None)),
    *(message | {name: 1} for message in EACH for name in ("quota", "key", "lease", "org") if name in message),
    *(CONSUME | {"quota": quota} for quota in ("", "q" * 65)),
    *(CONSUME | {"org": org} for org in ("", "o" * 65)),
    *(message | {"ttl_s": ttl} for message in (RESERVE, EXTEND) for ttl in (0, 0.999, -1, LEASE_TTL_S + 1, "60", None)),
    *(message | {"lease": ""} for message in (RESERVE, EXTEND, COMMIT, RELEASE)),
    *(RESERVE | {"amount": amount} for amount in (0, MOST + 1)),
    *(EXTEND | {"amount": amount, "key": "k"} for amount in (-1, MOST + 1)),
    *(COMMIT | {"amount": amount} for amount in (-1, MAX_INTEGER + 1, 0.5)),
    *({name: one[name] for name in one if name != missing} for one in EACH for missing in list(one)[2:]),
]  # fmt: skip


@pytest.mark.parametrize("message", AT_THE_BOUNDS)
def test_what_lies_at_the_bounds_is_taken(message: dict[str, Any]) -> None:
    [effect] = ask(live(), message)
    assert isinstance(effect, Spend | UseLease)


@pytest.mark.parametrize("message", BEYOND)
def test_what_lies_beyond_is_a_bad_request(message: dict[str, Any]) -> None:
    error = told(ask(live(), message))
    assert (error["op"], error["code"], error["id"]) == ("error", "bad_request", "1")


@pytest.mark.parametrize("character", ["\x00", "\n", "\x1f", "\x7f", "\x85", "\x9f"])
@pytest.mark.parametrize(
    ("message", "field"),
    [(CONSUME, "key"), (CONSUME, "quota"), (CONSUME, "org"), (RESERVE, "lease"), (RESERVE, "quota"), (RESERVE, "org"),
     (EXTEND, "lease"), (EXTEND, "key"), (COMMIT, "lease"), (RELEASE, "lease")],
)  # fmt: skip
def test_control_characters_go_nowhere(message: dict[str, Any], field: str, character: str) -> None:
    error = told(ask(live(), message | {field: f"a{character}b"}))
    assert (error["code"], error["id"]) == ("bad_request", "1")
    assert character not in error["message"]


def test_units_are_added_to_a_lease_under_a_key() -> None:
    assert told(ask(live(), EXTEND | {"amount": 1}))["code"] == "bad_request"
    [effect] = ask(live(), EXTEND | {"amount": 1, "key": "more"})
    assert effect == UseLease("user:ada", Extend("1", "call", 60.0, 1, "more"))


@pytest.mark.parametrize("message", EACH)
def test_a_narrowed_credential_spends_only_with_the_scope_for_it(message: dict[str, Any]) -> None:
    for narrowed in (frozenset[str](), frozenset({"users.read", "quotas"})):
        error = told(ask(live(permissions=narrowed), message))
        assert (error["code"], error["id"]) == ("forbidden", "1")
    [effect] = ask(live(permissions=frozenset({SPEND})), message)
    assert isinstance(effect, Spend | UseLease)


def test_a_credential_narrowed_while_the_session_lives_spends_no_more() -> None:
    session = live()
    assert session.principal is not None
    assert may_spend(session.principal)
    session.amend(msgspec.structs.replace(session.principal, permissions=frozenset({"users.read"})), at())
    assert told(ask(session, CONSUME))["code"] == "forbidden"


@pytest.mark.parametrize("message", EACH)
def test_nothing_is_spent_by_a_credential_that_has_ended(message: dict[str, Any]) -> None:
    [effect] = ask(live(expires_s=10), message, 9.999)
    assert isinstance(effect, Spend | UseLease)
    *_, effect = ask(live(expires_s=10), message, 10)
    assert isinstance(effect, Close)
    assert effect.ending is Ending.TOKEN_EXPIRED


@pytest.mark.parametrize("message", EACH)
def test_nothing_is_spent_before_ready(message: dict[str, Any]) -> None:
    session = Session("s", JSON, LIMITS, at(), jitter=0.5)
    session.greet("n1", "e1", at())
    [effect] = ask(session, message)
    assert isinstance(effect, Close)
    assert effect.ending is Ending.NOT_AUTHENTICATED


def test_beyond_the_allowance_nothing_is_spent() -> None:
    session = live(many=2)
    kinds = [type(effect) for _ in range(2) for effect in ask(session, CONSUME)]
    assert kinds == [Spend, Spend]
    error = told(ask(session, CONSUME))
    assert (error["code"], error["id"], error["retry_after_s"]) == ("rate_limited", "1", 60.0)


# --- answers ---------------------------------------------------------------------------------------------------------


def test_an_answer_is_sent_to_a_live_session() -> None:
    assert told(live().answer(Reply("1", quota="minutes", used=0, seq=7), "1", at())) == {
        "op": "reply",
        "id": "1",
        "quota": "minutes",
        "used": 0,
        "seq": 7,
    }


def test_a_refusal_says_what_is_left() -> None:
    refusal = QuotaExceeded("It leaves 0.", quota="minutes", remaining=0, resets_at="2026-12-01T00:00:00.000Z")
    assert told(live().answer(refusal, "1", at())) == {
        "op": "error",
        "code": "quota_exceeded",
        "message": "It leaves 0.",
        "id": "1",
        "quota": "minutes",
        "remaining": 0,
        "resets_at": "2026-12-01T00:00:00.000Z",
    }
    assert told(live().answer(Uncertain("Ask again."), "1", at()))["code"] == "uncertain"


def test_an_answer_after_the_end_is_for_nobody() -> None:
    session = live()
    session.end(Ending.REVOKED)
    assert session.answer(Reply("1", seq=7), "1", at()) == []
    session = live()
    session.leave()
    assert session.answer(Uncertain("Ask again."), "1", at()) == []


def test_an_answer_after_the_end_of_the_credential_ends_the_session_instead() -> None:
    session = live(expires_s=10)
    *_, effect = session.answer(Reply("1", seq=7), "1", at(10))
    assert isinstance(effect, Close)
    assert effect.ending is Ending.TOKEN_EXPIRED
    assert session.answer(Reply("2", seq=8), "2", at(10)) == []


# --- on the wire -----------------------------------------------------------------------------------------------------

keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=KEY_LENGTH)
amounts = st.integers(1, MOST)


@given(keys, amounts, keys, st.one_of(st.none(), keys.filter(lambda text: len(text) <= 64)))
def test_both_codecs_read_what_was_said(key: str, amount: int, lease: str, org: str | None) -> None:
    said: list[Consume | Reserve | Extend | Commit] = [
        Consume("1", "minutes", amount, key, org),
        Reserve("1", lease, "minutes", amount, 60.0, org),
        Extend("1", lease, 1.5, amount, key),
        Commit("1", lease, amount),
    ]
    for message in said:
        assert JSON.decode(msgspec.json.encode(message)) == message
        assert MESSAGEPACK.decode(msgspec.msgpack.encode(message)) == message


@given(st.dictionaries(st.sampled_from(["id", "quota", "amount", "key", "lease", "ttl_s", "org"]), st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=140))),
    st.sampled_from([message["op"] for message in EACH]))  # fmt: skip
def test_whatever_is_said_is_taken_within_the_bounds_or_refused(fields: dict[str, Any], op: Any) -> None:
    try:
        message = JSON.decode(msgspec.json.encode({"op": op} | fields))
    except RequestRefused:
        return
    assert isinstance(message, Consume | Reserve | Extend | Commit | Release)
    assert 1 <= len(message.id) <= 64
    if isinstance(message, Consume | Reserve):
        assert 1 <= message.amount <= MOST
    if isinstance(message, Reserve | Extend):
        assert 1 <= message.ttl_s <= LEASE_TTL_S
